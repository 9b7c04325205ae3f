//! The section `[s3]` of a service's configuration.

use crate::Settings;
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
        let settings = Settings {
            endpoint: self.endpoint.clone(),
            public_endpoint: self.public_endpoint.clone(),
            bucket: self.bucket.clone(),
            region: self.region.clone(),
            access_key_id: self.access_key_id.clone(),
            secret_access_key: self.secret_access_key.expose_secret().to_owned(),
            prefix: self.prefix.clone(),
            path_style: self.path_style,
            connect_timeout: seconds("connect_timeout_s", self.connect_timeout_s),
            request_timeout: seconds("request_timeout_s", self.request_timeout_s),
        };
        if errors.is_empty() {
            Ok(settings)
        } else {
            Err(errors)
        }
    }
}
