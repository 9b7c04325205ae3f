//! The section `[s3]` of a service's configuration.

use crate::{Encryption, Settings};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use std::time::Duration;

/// The section with its defaults and comments, for a service's embedded configuration.
pub const DEFAULTS: &str = include_str!("defaults.toml");
/// Variables that S3 users have already.
pub const ENV_ALIASES: &[(&str, &str)] = &[
    ("AWS_ACCESS_KEY_ID", "s3.access_key_id"),
    ("AWS_SECRET_ACCESS_KEY", "s3.secret_access_key"),
    ("AWS_REGION", "s3.region"),
];

/// The section as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3Section {
    /// The URL of the S3 service; empty for AWS itself.
    pub endpoint: String,
    /// The same service as clients and workers reach it; empty: `endpoint`.
    pub public_endpoint: String,
    /// The bucket.
    pub bucket: String,
    /// The region.
    pub region: String,
    /// The access key's id.
    pub access_key_id: String,
    /// The access key's secret.
    pub secret_access_key: SecretString,
    /// Everything lies under it; may be empty.
    pub prefix: String,
    /// `http://host/bucket/key` instead of `http://bucket.host/key`.
    pub path_style: bool,
    /// `AES256`, `aws:kms`, or empty.
    pub encryption: String,
    /// The key of `aws:kms`; empty: the account's own.
    pub kms_key_id: String,
    /// PEM: who may sign the endpoint's certificate, besides whom this machine trusts.
    pub ca_file: String,
    /// Seconds.
    pub connect_timeout_s: f64,
    /// Seconds.
    pub request_timeout_s: f64,
}

impl S3Section {
    /// The settings of the store; every error with its path.
    pub fn settings(&self) -> Result<Settings, Vec<String>> {
        let mut errors = Vec::new();
        if self.bucket.is_empty() {
            errors.push("s3.bucket: must be set".to_owned());
        }
        let mut seconds = |name: &str, value: f64| {
            Duration::try_from_secs_f64(value).unwrap_or_else(|error| {
                errors.push(format!("s3.{name}: {error}"));
                Duration::ZERO
            })
        };
        let connect_timeout = seconds("connect_timeout_s", self.connect_timeout_s);
        let request_timeout = seconds("request_timeout_s", self.request_timeout_s);
        let encryption = self.encryption().unwrap_or_else(|error| {
            errors.push(error);
            Encryption::Bucket
        });
        let ca_pem = match self.ca_file.as_str() {
            "" => None,
            file => std::fs::read(file)
                .map_err(|error| errors.push(format!("s3.ca_file: read {file}: {error}")))
                .ok(),
        };
        let settings = Settings {
            endpoint: self.endpoint.clone(),
            public_endpoint: self.public_endpoint.clone(),
            bucket: self.bucket.clone(),
            region: self.region.clone(),
            access_key_id: self.access_key_id.clone(),
            secret_access_key: self.secret_access_key.expose_secret().to_owned(),
            prefix: self.prefix.clone(),
            path_style: self.path_style,
            encryption,
            ca_pem,
            connect_timeout,
            request_timeout,
        };
        if errors.is_empty() {
            Ok(settings)
        } else {
            Err(errors)
        }
    }

    fn encryption(&self) -> Result<Encryption, String> {
        let key_id = Some(self.kms_key_id.clone()).filter(|key| !key.is_empty());
        match (self.encryption.as_str(), key_id) {
            ("aws:kms", key_id) => Ok(Encryption::Kms { key_id }),
            ("" | "AES256", Some(_)) => {
                Err("s3.kms_key_id: only with s3.encryption = \"aws:kms\"".to_owned())
            }
            ("", None) => Ok(Encryption::Bucket),
            ("AES256", None) => Ok(Encryption::Aes256),
            (other, _) => Err(format!(
                "s3.encryption: {other:?} is none of \"\", \"AES256\" and \"aws:kms\""
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(encryption: &str, kms_key_id: &str, ca_file: &str) -> S3Section {
        S3Section {
            endpoint: String::new(),
            public_endpoint: String::new(),
            bucket: "media".to_owned(),
            region: "eu-central-1".to_owned(),
            access_key_id: String::new(),
            secret_access_key: SecretString::default(),
            prefix: String::new(),
            path_style: false,
            encryption: encryption.to_owned(),
            kms_key_id: kms_key_id.to_owned(),
            ca_file: ca_file.to_owned(),
            connect_timeout_s: 5.0,
            request_timeout_s: 30.0,
        }
    }

    #[test]
    fn encryption_is_one_of_three_and_faults_are_named() {
        let of = |encryption, key| section(encryption, key, "").settings();
        assert_eq!(of("", "").unwrap().encryption, Encryption::Bucket);
        assert_eq!(of("AES256", "").unwrap().encryption, Encryption::Aes256);
        let kms = |key_id: Option<&str>| Encryption::Kms {
            key_id: key_id.map(str::to_owned),
        };
        assert_eq!(of("aws:kms", "").unwrap().encryption, kms(None));
        assert_eq!(of("aws:kms", "k1").unwrap().encryption, kms(Some("k1")));
        for (wrong, path) in [
            (section("rot13", "", ""), "s3.encryption"),
            (section("AES256", "k1", ""), "s3.kms_key_id"),
            (
                section("", "", "/none/ca.crt"),
                "s3.ca_file: read /none/ca.crt",
            ),
        ] {
            let errors = wrong.settings().unwrap_err();
            assert!(errors[0].starts_with(path), "{errors:?}");
        }
    }
}
