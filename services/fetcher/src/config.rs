//! Settings as written → configuration as used, all errors at once.

use photofinish_contract::token::TokenKeys;
use photofinish_jobstore::config::RedisSection;
use photofinish_model::attempt::WatchPolicy;
use photofinish_objects::config::S3Section;
use photofinish_outbound::Policy;
use photofinish_runtime::Service;
use photofinish_runtime::config::de;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use std::time::Duration;

/// 10,000 parts are the most that S3 takes; a worker's disk is smaller.
const OUTPUT_BYTES_LIMIT: u64 = 256 * 1024 * 1024 * 1024;
/// Nobody is reached in less.
const CONNECT_MIN: Duration = Duration::from_millis(100);

/// The service with its embedded defaults.
pub fn service() -> Service<Settings> {
    let defaults = [
        include_str!("defaults.toml"),
        photofinish_broker::DEFAULTS,
        photofinish_jobstore::config::DEFAULTS,
        photofinish_objects::config::DEFAULTS,
    ];
    Service::new("fetcher", defaults.concat().leak())
        .env_aliases(&[
            ("RUNPOD_ENDPOINT_BASE_URL", "runpod.base_url"),
            ("RUNPOD_API_KEY", "runpod.api_key"),
        ])
        .env_aliases(photofinish_objects::config::ENV_ALIASES)
        .checked_by(|settings| Config::of(settings).err().unwrap_or_default())
}

/// The settings as they are written; `defaults.toml` describes each.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml describes each key")]
pub struct Settings {
    pub runpod: RunPodSection,
    pub fetcher: FetcherSection,
    pub outbound: OutboundSection,
    pub tokens: TokensSection,
    pub broker: photofinish_broker::Settings,
    pub redis: RedisSection,
    pub s3: S3Section,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml describes each key")]
pub struct RunPodSection {
    pub base_url: String,
    pub api_key: SecretString,
    pub status_per_10s_max: u32,
    pub proxy_url: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml describes each key")]
pub struct FetcherSection {
    pub watches_max: u16,
    pub pulls_max: usize,
    pub pulls_per_worker_max: usize,
    pub output_bytes_max: u64,
    #[serde(deserialize_with = "de::seconds", rename = "shutdown_grace_s")]
    pub shutdown_grace: Duration,
    #[serde(deserialize_with = "de::seconds", rename = "turn_max_s")]
    pub turn_max: Duration,
    #[serde(deserialize_with = "de::seconds", rename = "pulling_turn_max_s")]
    pub pulling_turn_max: Duration,
    #[serde(deserialize_with = "de::seconds", rename = "stall_max_s")]
    pub stall_max: Duration,
    #[serde(deserialize_with = "de::seconds", rename = "direct_connect_timeout_s")]
    pub direct_connect_timeout: Duration,
    pub pull_rate_min: u64,
    #[serde(deserialize_with = "de::seconds", rename = "queue_wait_max_s")]
    pub queue_wait_max: Duration,
    #[serde(deserialize_with = "de::seconds", rename = "run_unknown_s")]
    pub run_unknown: Duration,
    #[serde(deserialize_with = "de::seconds", rename = "queued_poll_max_s")]
    pub queued_poll_max: Duration,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml describes each key")]
pub struct OutboundSection {
    pub workers: OutboundWorkers,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml describes each key")]
pub struct OutboundWorkers {
    pub allow: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml describes each key")]
pub struct TokensSection {
    pub keys: SecretString,
}

/// The settings as they are used: typed and checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Rhythms and limits of a watch.
    pub watch: WatchPolicy,
    /// Attempts watched at once.
    pub watches_max: u16,
    /// Outputs pulled at once.
    pub pulls_max: usize,
    /// Outputs pulled off one worker at once.
    pub pulls_per_worker_max: usize,
    /// The largest output that is taken.
    pub output_bytes_max: u64,
    /// How long pulls go on when the process is to end.
    pub shutdown_grace: Duration,
    /// The length of a turn.
    pub turn_max: Duration,
    /// The same while a pull is under way.
    pub pulling_turn_max: Duration,
    /// The longest silence of a worker.
    pub stall_max: Duration,
    /// The longest wait for TCP and TLS to a worker's exposed port.
    pub direct_connect_timeout: Duration,
    /// Which special networks workers may be called in.
    pub workers: Policy,
    /// Bytes a second.
    pub pull_rate_min: u64,
    /// Keys of tokens.
    pub tokens: TokenKeys,
}

impl Config {
    /// Checks the settings; every error names its path.
    pub fn of(settings: &Settings) -> Result<Self, Vec<String>> {
        let mut errors = Vec::new();
        let fetcher = &settings.fetcher;
        if settings.runpod.api_key.expose_secret().is_empty() {
            errors.push("runpod.api_key: must be set (RUNPOD_API_KEY)".to_owned());
        }
        if !(1..=2000).contains(&fetcher.watches_max) {
            errors.push("fetcher.watches_max: must be 1 to 2000".to_owned());
        }
        if fetcher.output_bytes_max > OUTPUT_BYTES_LIMIT {
            errors.push(format!(
                "fetcher.output_bytes_max: must be at most {OUTPUT_BYTES_LIMIT}"
            ));
        }
        // RunPod keeps a result for 30 minutes: no watch may pause for longer.
        if fetcher.pulling_turn_max > Duration::from_secs(25 * 60) {
            errors.push("fetcher.pulling_turn_max_s: must be at most 1500".to_owned());
        }
        errors.extend(settings.s3.settings().err().unwrap_or_default());
        errors.extend(settings.redis.settings().err().unwrap_or_default());
        let workers =
            Policy::from_texts(&settings.outbound.workers.allow).unwrap_or_else(|wrong| {
                let wrong = wrong.into_iter();
                errors.extend(wrong.map(|wrong| format!("outbound.workers.allow: {wrong}")));
                Policy::default()
            });
        let tokens = TokenKeys::from_base64(settings.tokens.keys.expose_secret());
        match tokens {
            Ok(tokens) if errors.is_empty() => Ok(Self {
                watch: WatchPolicy {
                    queue_wait_max: fetcher.queue_wait_max,
                    run_unknown: fetcher.run_unknown,
                    queued_poll_max: fetcher.queued_poll_max.max(Duration::from_secs(2)),
                    ..WatchPolicy::default()
                },
                watches_max: fetcher.watches_max,
                pulls_max: fetcher.pulls_max.max(1),
                pulls_per_worker_max: fetcher.pulls_per_worker_max.max(1),
                output_bytes_max: fetcher.output_bytes_max,
                shutdown_grace: fetcher.shutdown_grace,
                turn_max: fetcher.turn_max.max(Duration::from_secs(1)),
                pulling_turn_max: fetcher.pulling_turn_max,
                stall_max: fetcher.stall_max.max(Duration::from_secs(1)),
                direct_connect_timeout: fetcher.direct_connect_timeout.max(CONNECT_MIN),
                workers,
                pull_rate_min: fetcher.pull_rate_min,
                tokens,
            }),
            Ok(_) => Err(errors),
            Err(error) => {
                errors.push(format!("tokens.keys: {error}"));
                Err(errors)
            }
        }
    }
}
