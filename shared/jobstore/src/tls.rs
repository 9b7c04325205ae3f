//! Certificates for `rediss://`.
//!
//! Guarantee: files are read at each connection, so new ones need no restart.

use redis::{ClientTlsConfig, TlsCertificates};
use serde::Deserialize;

/// The section `[redis.tls]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsFiles {
    /// PEM: who may sign the server's certificate. Empty: whom this machine trusts.
    pub ca_file: String,
    /// PEM: our own certificate, for servers that ask for one.
    pub cert_file: String,
    /// PEM: its private key.
    pub key_file: String,
}

impl TlsFiles {
    /// What is wrong with them, each with its path.
    pub(crate) fn faults(&self) -> Vec<String> {
        if self.cert_file.is_empty() != self.key_file.is_empty() {
            return vec![
                "redis.tls.cert_file and redis.tls.key_file: set both or neither".to_owned(),
            ];
        }
        let files = [
            ("ca_file", &self.ca_file),
            ("cert_file", &self.cert_file),
            ("key_file", &self.key_file),
        ];
        let fault = |(name, file): (&str, &String)| {
            let error = read(file).err()?;
            Some(format!("redis.tls.{name}: {error}"))
        };
        files.into_iter().filter_map(fault).collect()
    }

    /// As the client takes them.
    pub(crate) fn load(&self) -> std::io::Result<TlsCertificates> {
        let (cert, key) = (read(&self.cert_file)?, read(&self.key_file)?);
        let client_tls = cert
            .zip(key)
            .map(|(client_cert, client_key)| ClientTlsConfig {
                client_cert,
                client_key,
            });
        Ok(TlsCertificates {
            client_tls,
            root_cert: read(&self.ca_file)?,
        })
    }
}

fn read(file: &str) -> std::io::Result<Option<Vec<u8>>> {
    if file.is_empty() {
        return Ok(None);
    }
    let named =
        |error: std::io::Error| std::io::Error::new(error.kind(), format!("read {file}: {error}"));
    std::fs::read(file).map(Some).map_err(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_there_and_half_a_certificate_are_named() {
        let mut files = TlsFiles {
            ca_file: "/none/ca.crt".to_owned(),
            ..TlsFiles::default()
        };
        assert!(files.faults()[0].starts_with("redis.tls.ca_file: read /none/ca.crt"));
        files.key_file = "k".to_owned();
        assert!(files.faults()[0].contains("both or neither"));
        assert!(TlsFiles::default().faults().is_empty());
    }
}
