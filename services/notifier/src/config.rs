//! Settings as written → configuration as used, all errors at once.

use photofinish_jobstore::config::RedisSection;
use photofinish_model::breaker::BreakerPolicy;
use photofinish_model::line::{CALLS_PER_S_MAX, LinePolicy, Shares};
use photofinish_objects::Sealer;
use photofinish_objects::config::S3Section;
use photofinish_outbound::Policy;
use photofinish_runtime::Service;
use photofinish_runtime::config::de;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use std::time::Duration;

/// S3 refuses URLs that are good for longer.
const OUTPUT_TTL_MAX: Duration = Duration::from_hours(7 * 24);
const OUTPUT_TTL_MIN: Duration = Duration::from_mins(1);

/// The service with its embedded defaults.
pub fn service() -> Service<Settings> {
    Service::new("notifier", defaults().leak())
        .env_aliases(photofinish_objects::config::ENV_ALIASES)
        .checked_by(|settings| Config::of(settings).err().unwrap_or_default())
}

/// The embedded defaults: commented TOML that names every key.
pub fn defaults() -> String {
    [
        include_str!("defaults.toml"),
        photofinish_broker::DEFAULTS,
        photofinish_jobstore::config::DEFAULTS,
        photofinish_objects::config::DEFAULTS,
    ]
    .concat()
}

/// The settings as they are written; `defaults.toml` describes each.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml describes each key")]
pub struct Settings {
    pub notifier: NotifierSection,
    pub outbound: OutboundSection,
    pub secrets: SecretsSection,
    pub links: LinksSection,
    pub urls: UrlsSection,
    pub usage: UsageSection,
    pub broker: photofinish_broker::Settings,
    pub redis: RedisSection,
    pub s3: S3Section,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml describes each key")]
pub struct NotifierSection {
    pub events_concurrency: u16,
    pub deliver_concurrency: u16,
    #[serde(deserialize_with = "de::seconds", rename = "delivery_timeout_s")]
    pub delivery_timeout: Duration,
    #[serde(deserialize_with = "de::seconds", rename = "progress_interval_s")]
    pub progress_interval: Duration,
    pub progress_jobs_max: usize,
    pub receivers: LinesSection,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml describes each key")]
pub struct LinesSection {
    pub slots_max: u16,
    pub calls_per_s: u32,
    pub tenant_share: f64,
    pub doubtful_share: f64,
    pub failures_max: u32,
    #[serde(deserialize_with = "de::seconds", rename = "rest_min_s")]
    pub rest_min: Duration,
    #[serde(deserialize_with = "de::seconds", rename = "rest_max_s")]
    pub rest_max: Duration,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml describes each key")]
pub struct OutboundSection {
    pub receivers: ReceiversSection,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml describes each key")]
pub struct ReceiversSection {
    pub allow: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml describes each key")]
pub struct SecretsSection {
    pub key: SecretString,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml describes each key")]
pub struct LinksSection {
    pub public_url: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml describes each key")]
pub struct UrlsSection {
    #[serde(deserialize_with = "de::seconds", rename = "output_ttl_s")]
    pub output_ttl: Duration,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml describes each key")]
pub struct UsageSection {
    pub usd_per_gpu_second: f64,
}

/// The settings as they are used: typed and checked.
#[derive(Debug)]
pub struct Config {
    /// Job events handled at once.
    pub events_concurrency: u16,
    /// Deliveries under way at once.
    pub deliver_concurrency: u16,
    /// How long a receiver has to answer.
    pub delivery_timeout: Duration,
    /// Between two `job.progress` of one job.
    pub progress_interval: Duration,
    /// Jobs whose progress is paced at once.
    pub progress_jobs_max: usize,
    /// What one receiver gets.
    pub lines: LinePolicy,
    /// Calls a second of a receiver that has no rate of its own.
    pub calls_per_s: Option<u32>,
    /// What a tenant gets, and receivers that are not known to be well.
    pub shares: Shares,
    /// Which private networks may be called.
    pub receivers: Policy,
    /// Opens signing secrets.
    pub sealer: Sealer,
    /// Put before links, without a slash at its end.
    pub public_url: String,
    /// How long outputs' URLs are good.
    pub output_ttl: Duration,
    /// US dollars.
    pub usd_per_gpu_second: Option<f64>,
    /// Redis.
    pub redis: photofinish_jobstore::Settings,
    /// The bucket.
    pub s3: photofinish_objects::Settings,
}

impl LinesSection {
    fn faults(&self) -> Vec<String> {
        let share = 0.01..=1.0;
        let rules = [
            (self.slots_max > 0, "slots_max: must be at least 1"),
            (
                self.calls_per_s <= CALLS_PER_S_MAX,
                "calls_per_s: must be 0 to 10000",
            ),
            (
                share.contains(&self.tenant_share),
                "tenant_share: must be 0.01 to 1",
            ),
            (
                share.contains(&self.doubtful_share),
                "doubtful_share: must be 0.01 to 1",
            ),
            (
                self.rest_min >= Duration::from_secs(1) && self.rest_max >= self.rest_min,
                "rest_min_s: must be at least 1 and not above rest_max_s",
            ),
        ];
        let broken = rules.iter().filter(|(kept, _)| !kept);
        broken
            .map(|(_, rule)| format!("notifier.receivers.{rule}"))
            .collect()
    }

    fn policy(&self) -> LinePolicy {
        LinePolicy {
            slots_max: self.slots_max,
            breaker: BreakerPolicy {
                failures_max: self.failures_max,
                open_min: self.rest_min,
                open_max: self.rest_max,
            },
        }
    }

    fn shares(&self, all: u16) -> Shares {
        let of = |share: f64| ((f64::from(all) * share) as u16).max(1);
        Shares {
            tenant_max: of(self.tenant_share),
            doubtful_max: of(self.doubtful_share),
        }
    }
}

impl Config {
    /// Checks the settings; every error names its path.
    pub fn of(settings: &Settings) -> Result<Self, Vec<String>> {
        let mut errors = Vec::new();
        let own = &settings.notifier;
        for (name, value) in [
            ("events_concurrency", own.events_concurrency),
            ("deliver_concurrency", own.deliver_concurrency),
        ] {
            if !(1..=2000).contains(&value) {
                errors.push(format!("notifier.{name}: must be 1 to 2000"));
            }
        }
        if !(Duration::from_secs(1)..=Duration::from_mins(1)).contains(&own.delivery_timeout) {
            errors.push("notifier.delivery_timeout_s: must be 1 to 60".to_owned());
        }
        errors.extend(own.receivers.faults());
        if !(OUTPUT_TTL_MIN..=OUTPUT_TTL_MAX).contains(&settings.urls.output_ttl) {
            errors.push("urls.output_ttl_s: must be 60 to 604800".to_owned());
        }
        let receivers = Policy::from_texts(&settings.outbound.receivers.allow).map_err(|wrong| {
            wrong
                .iter()
                .map(|w| format!("outbound.receivers.allow: {w}"))
                .collect()
        });
        let sealer = Sealer::new(settings.secrets.key.expose_secret())
            .map_err(|error| vec![format!("secrets.key: {error}")]);
        let mut keep = |wrong: Vec<String>| errors.extend(wrong);
        let receivers = receivers.map_err(&mut keep).ok();
        let sealer = sealer.map_err(&mut keep).ok();
        let redis = settings.redis.settings().map_err(&mut keep).ok();
        let s3 = settings.s3.settings().map_err(&mut keep).ok();
        match (receivers, sealer, redis, s3) {
            (Some(receivers), Some(sealer), Some(redis), Some(s3)) if errors.is_empty() => {
                Ok(Self {
                    events_concurrency: own.events_concurrency,
                    deliver_concurrency: own.deliver_concurrency,
                    delivery_timeout: own.delivery_timeout,
                    progress_interval: own.progress_interval,
                    progress_jobs_max: own.progress_jobs_max,
                    lines: own.receivers.policy(),
                    calls_per_s: Some(own.receivers.calls_per_s).filter(|rate| *rate > 0),
                    shares: own.receivers.shares(own.deliver_concurrency),
                    receivers,
                    sealer,
                    public_url: settings.links.public_url.trim_end_matches('/').to_owned(),
                    output_ttl: settings.urls.output_ttl,
                    usd_per_gpu_second: Some(settings.usage.usd_per_gpu_second)
                        .filter(|usd| *usd >= 0.0),
                    redis,
                    s3,
                })
            }
            _ => Err(errors),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use photofinish_runtime::config::{Sources, load};

    fn settings(overrides: &[(&str, &str)]) -> Settings {
        let overrides = overrides
            .iter()
            .map(|(path, value)| ((*path).to_owned(), (*value).to_owned()));
        load(&Sources {
            defaults: defaults(),
            overrides: overrides.collect(),
            ..Sources::default()
        })
        .unwrap()
    }

    #[test]
    fn every_error_is_told_at_once_with_its_path() {
        let wrong = settings(&[
            ("notifier.events_concurrency", "0"),
            ("notifier.delivery_timeout_s", "600"),
            ("notifier.receivers.slots_max", "0"),
            ("notifier.receivers.calls_per_s", "10001"),
            ("notifier.receivers.tenant_share", "1.5"),
            ("notifier.receivers.doubtful_share", "0"),
            ("notifier.receivers.rest_max_s", "1"),
            ("urls.output_ttl_s", "1"),
            ("outbound.receivers.allow", "10.0.0.0/8,nonsense"),
            ("secrets.key", "short"),
        ]);
        let errors = Config::of(&wrong).unwrap_err().join("\n");
        for path in [
            "notifier.events_concurrency",
            "notifier.delivery_timeout_s",
            "notifier.receivers.slots_max",
            "notifier.receivers.calls_per_s",
            "notifier.receivers.tenant_share",
            "notifier.receivers.doubtful_share",
            "notifier.receivers.rest_min_s",
            "urls.output_ttl_s",
            "outbound.receivers.allow: nonsense",
            "secrets.key",
            "s3.bucket",
        ] {
            assert!(errors.contains(path), "{path} in\n{errors}");
        }
    }

    #[test]
    fn the_defaults_need_a_bucket_and_a_key_only() {
        let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        let config = Config::of(&settings(&[("secrets.key", key), ("s3.bucket", "b")])).unwrap();
        assert_eq!(config.delivery_timeout, Duration::from_secs(15));
        assert_eq!(config.progress_interval, Duration::from_secs(1));
        assert!(config.receivers.allow.is_empty());
        assert!(config.usd_per_gpu_second.is_none() && config.calls_per_s.is_none());
        assert_eq!(
            (config.shares.tenant_max, config.shares.doubtful_max),
            (128, 128)
        );
    }
}
