//! Certificates for `amqps://` and for the management API over https.
//!
//! Guarantee: files are read at each connection, so new ones need no restart; one that cannot be read is named.

use std::path::{Path, PathBuf};

use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use serde::Deserialize;

/// The section `[broker.tls]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsFiles {
    /// PEM: who may sign the broker's certificate, besides the public authorities. Empty: only those.
    pub ca_file: String,
    /// PEM: our own certificate, for brokers that ask for one.
    pub cert_file: String,
    /// PEM: its private key.
    pub key_file: String,
}

/// A file for TLS with the broker cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("read broker.tls.{name} {}", .file.display())]
pub struct TlsFileError {
    name: &'static str,
    file: PathBuf,
    source: std::io::Error,
}

impl TlsFiles {
    /// Both halves of our own certificate, or none.
    pub(crate) fn is_whole(&self) -> bool {
        self.cert_file.is_empty() == self.key_file.is_empty()
    }

    /// Who else may sign, as PEM.
    pub(crate) fn ca(&self) -> Result<Option<String>, TlsFileError> {
        read("ca_file", &self.ca_file)
    }

    /// As lapin takes it.
    pub(crate) fn load(&self) -> Result<OwnedTLSConfig, TlsFileError> {
        let cert = read("cert_file", &self.cert_file)?;
        let key = read("key_file", &self.key_file)?;
        let identity = cert.zip(key).map(|(cert, key)| OwnedIdentity::PKCS8 {
            pem: cert.into_bytes(),
            key: key.into_bytes(),
        });
        Ok(OwnedTLSConfig {
            identity,
            cert_chain: self.ca()?,
        })
    }
}

fn read(name: &'static str, file: &str) -> Result<Option<String>, TlsFileError> {
    if file.is_empty() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(file);
    text.map(Some).map_err(|source| TlsFileError {
        name,
        file: Path::new(file).to_path_buf(),
        source,
    })
}
