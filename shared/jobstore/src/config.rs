//! The section `[redis]` of a service's configuration.

use crate::{Settings, TlsFiles};
use secrecy::SecretString;
use serde::Deserialize;
use std::time::Duration;

/// The section with its defaults and comments, for a service's embedded configuration.
pub const DEFAULTS: &str = include_str!("defaults.toml");

/// The section as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisSection {
    /// `redis://[user:password@]host:port[/db]` or `rediss://…`
    pub url: SecretString,
    /// Put before every key.
    pub prefix: String,
    /// Connections of a process at most.
    pub connections_max: usize,
    /// Seconds that a command may take.
    pub timeout_s: f64,
    /// Days that a job's record outlives its last change.
    pub job_days: u32,
    /// Days that a delivery's record outlives its last change.
    pub delivery_days: u32,
    /// Deliveries of a tenant that are kept.
    pub deliveries_max: u64,
    /// Seconds after an emptied Redis in which no slot is granted.
    pub epoch_age_min_s: f64,
    /// For `rediss://`.
    pub tls: TlsFiles,
}

impl RedisSection {
    /// The settings of the store; every error with its path.
    pub fn settings(&self) -> Result<Settings, Vec<String>> {
        let mut errors = Vec::new();
        let mut seconds = |name: &str, value: f64| {
            Duration::try_from_secs_f64(value).unwrap_or_else(|error| {
                errors.push(format!("redis.{name}: {error}"));
                Duration::ZERO
            })
        };
        let day = Duration::from_hours(24);
        let settings = Settings {
            url: self.url.clone(),
            prefix: self.prefix.clone(),
            connections_max: self.connections_max.max(1),
            timeout: seconds("timeout_s", self.timeout_s),
            job_ttl: day * self.job_days,
            delivery_ttl: day * self.delivery_days,
            deliveries_max: self.deliveries_max,
            epoch_age_min: seconds("epoch_age_min_s", self.epoch_age_min_s),
            tls: self.tls.clone(),
        };
        errors.extend(self.tls.faults());
        if errors.is_empty() {
            Ok(settings)
        } else {
            Err(errors)
        }
    }
}
