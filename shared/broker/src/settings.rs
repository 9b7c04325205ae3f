//! Settings of the broker, and their limits.

use std::time::Duration;

use lapin::uri::{AMQPScheme, AMQPUri};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use crate::error::SettingsError;
use crate::tls::TlsFiles;

/// Largest body of an internal message, in bytes. What is larger lies in S3 and is named.
pub const INTERNAL_BYTES_MAX: usize = 64 * 1024;
/// Deliveries after which the consume loop itself parks a message, below RabbitMQ's own limit, which 4.x no longer
/// reaches when a consumer timeout or a nack returned the message.
pub const DELIVERIES_MAX: u32 = 10;
/// Attempts after which a message whose handler panics is parked.
pub const PANICS_MAX: u32 = 10;
/// How long a message waits whose handler panicked.
pub const PANIC_WAIT: Duration = Duration::from_secs(30);
/// Heartbeat of both connections.
pub const HEARTBEAT_S: u16 = 10;
/// Longest wait for a TCP connection and the AMQP handshake.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// First and longest wait before a connection or channel is tried again.
pub(crate) const REBUILD_MIN: Duration = Duration::from_millis(200);
/// See [`REBUILD_MIN`].
pub(crate) const REBUILD_MAX: Duration = Duration::from_secs(5);

/// The section `[broker]` of a service's configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `amqp://user:password@host:port/vhost` or `amqps://…`. Never logged.
    pub url: String,
    /// Submit lanes of each priority, 1 to 256. The same in every service.
    #[serde(default = "Settings::default_lanes")]
    pub lanes: u16,
    /// Longest wait for a confirm, reconnecting included, in seconds.
    #[serde(default = "Settings::default_publish_timeout_s")]
    pub publish_timeout_s: f64,
    /// Unconfirmed messages of the process at once, 1 to 10,000.
    #[serde(default = "Settings::default_in_flight_max")]
    pub in_flight_max: usize,
    /// Whether the topology is declared (or else only checked).
    #[serde(default = "Settings::default_declare")]
    pub declare: bool,
    /// `http://user:password@host:port` of the management API; empty: there is none. Never logged.
    #[serde(default)]
    pub management_url: String,
    /// For `amqps://`, and for a management API over https.
    #[serde(default)]
    pub tls: TlsFiles,
}

/// Where the broker is and who we are there, for those who write the address of somebody else's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Our own AMQP user.
    pub user: String,
    /// The virtual host, as it is.
    pub vhost: String,
    /// `amqp` or `amqps`.
    scheme: &'static str,
    authority: String,
}

impl Access {
    /// The address for another user.
    pub fn url_for(&self, user: &str, password: &str) -> String {
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let (user, password, vhost) = (encode(user), encode(password), encode(&self.vhost));
        let Self {
            scheme, authority, ..
        } = self;
        format!("{scheme}://{user}:{password}@{authority}/{vhost}")
    }
}

impl Settings {
    const fn default_lanes() -> u16 {
        32
    }
    const fn default_publish_timeout_s() -> f64 {
        10.0
    }
    const fn default_in_flight_max() -> usize {
        500
    }
    const fn default_declare() -> bool {
        true
    }

    /// The defaults, for this URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            lanes: Self::default_lanes(),
            publish_timeout_s: Self::default_publish_timeout_s(),
            in_flight_max: Self::default_in_flight_max(),
            declare: Self::default_declare(),
            management_url: String::new(),
            tls: TlsFiles::default(),
        }
    }

    /// Where the broker is and who we are there.
    pub fn access(&self) -> Result<Access, SettingsError> {
        let uri = self.check()?.uri;
        let authority = &uri.authority;
        Ok(Access {
            user: authority.userinfo.username.clone(),
            vhost: uri.vhost.clone(),
            scheme: match uri.scheme {
                AMQPScheme::AMQP => "amqp",
                AMQPScheme::AMQPS => "amqps",
            },
            authority: format!("{}:{}", authority.host, authority.port),
        })
    }

    pub(crate) fn check(&self) -> Result<Checked, SettingsError> {
        let bounds = |name, rule, good: bool| {
            if good {
                Ok(())
            } else {
                Err(SettingsError::Bounds { name, rule })
            }
        };
        bounds("lanes", "1 to 256", (1..=256).contains(&self.lanes))?;
        let timeout = self.publish_timeout_s;
        bounds(
            "publish_timeout_s",
            "0.1 to 120",
            (0.1..=120.0).contains(&timeout),
        )?;
        bounds(
            "in_flight_max",
            "1 to 10000",
            (1..=10_000).contains(&self.in_flight_max),
        )?;
        if !self.tls.is_whole() {
            return Err(SettingsError::HalfACertificate);
        }
        self.tls.load()?;
        let mut uri: AMQPUri = self.url.parse().map_err(SettingsError::Url)?;
        uri.query.heartbeat = Some(HEARTBEAT_S);
        let connect_ms = u64::try_from(CONNECT_TIMEOUT.as_millis()).unwrap_or(u64::MAX);
        uri.query.connection_timeout.get_or_insert(connect_ms);
        Ok(Checked {
            user: uri.authority.userinfo.username.clone(),
            uri,
            tls: self.tls.clone(),
            publish_timeout: Duration::from_secs_f64(timeout),
        })
    }
}

/// What the settings come to once they are checked.
#[derive(Debug, Clone)]
pub(crate) struct Checked {
    pub(crate) uri: AMQPUri,
    /// Our own AMQP user: a message with this `user_id` was published by one of our services.
    pub(crate) user: String,
    pub(crate) tls: TlsFiles,
    pub(crate) publish_timeout: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_kept_and_the_error_names_the_setting() {
        let good = Settings::new("amqp://us%40er:pw@localhost:5672/%2f");
        assert_eq!(good.check().unwrap().user, "us@er");
        let lanes = Settings {
            lanes: 0,
            ..good.clone()
        };
        assert!(
            lanes
                .check()
                .unwrap_err()
                .to_string()
                .contains("broker.lanes")
        );
        let timeout = Settings {
            publish_timeout_s: f64::NAN,
            ..good.clone()
        };
        assert!(
            timeout
                .check()
                .unwrap_err()
                .to_string()
                .contains("publish_timeout_s")
        );
        let window = Settings {
            in_flight_max: 0,
            ..good
        };
        assert!(
            window
                .check()
                .unwrap_err()
                .to_string()
                .contains("in_flight_max")
        );
        assert!(Settings::new("http://localhost").check().is_err());
        let tls = |cert_file: &str, key_file: &str| Settings {
            tls: TlsFiles {
                cert_file: cert_file.to_owned(),
                key_file: key_file.to_owned(),
                ..TlsFiles::default()
            },
            ..Settings::new("amqps://localhost")
        };
        let told = |settings: &Settings| settings.check().unwrap_err().to_string();
        assert!(told(&tls("only.crt", "")).contains("both or neither"));
        assert!(told(&tls("/none/tls.crt", "/none/tls.key")).contains("cert_file /none/tls.crt"));
    }
}
