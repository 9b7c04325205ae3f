//! Settings as written → configuration as used, all errors at once.

use crate::endpoints::{Endpoint, Limits};
use photofinish_contract::token::TokenKeys;
use photofinish_jobstore::config::RedisSection;
use photofinish_model::estimate::Prior;
use photofinish_model::plan::PlanPolicy;
use photofinish_objects::config::S3Section;
use photofinish_runpod::client::{BreakerPolicy, OperationLimit};
use photofinish_runtime::Service;
use photofinish_runtime::config::de;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use std::time::Duration;

/// RunPod's least `executionTimeout`.
const EXECUTION_MIN: Duration = Duration::from_secs(5);
/// RunPod keeps an attempt for its queue wait, its execution and this.
const TTL_GRACE: Duration = Duration::from_secs(600);
/// RunPod's greatest `ttl`.
const TTL_MAX: Duration = Duration::from_hours(7 * 24);

/// The service with its embedded defaults.
pub fn service() -> Service<Settings> {
    let defaults = [
        include_str!("defaults.toml"),
        photofinish_broker::DEFAULTS,
        photofinish_jobstore::config::DEFAULTS,
        photofinish_objects::config::DEFAULTS,
    ];
    Service::new("dispatcher", defaults.concat().leak())
        .env_aliases(&[
            ("RUNPOD_ENDPOINT_BASE_URL", "runpod.base_url"),
            ("RUNPOD_API_KEY", "runpod.api_key"),
            ("RUNPOD_ENDPOINT_ID", "runpod.endpoint_id"),
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
    pub race: RaceSection,
    pub plan: PlanSection,
    pub attempts: AttemptsSection,
    pub signals: SignalsSection,
    pub tokens: TokensSection,
    pub usage: UsageSection,
    pub dispatcher: DispatcherSection,
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
    pub endpoint_id: String,
    pub workers_max: u32,
    pub per_worker: u32,
    pub backlog: u32,
    pub further_endpoints: Vec<String>,
    #[serde(deserialize_with = "de::seconds", rename = "shortage_max_s")]
    pub shortage_max: Duration,
    #[serde(deserialize_with = "de::seconds", rename = "execution_timeout_s")]
    pub execution_timeout: Duration,
    #[serde(deserialize_with = "de::seconds", rename = "queue_wait_max_s")]
    pub queue_wait_max: Duration,
    pub breaker_failures_max: u32,
    #[serde(deserialize_with = "de::seconds", rename = "breaker_open_min_s")]
    pub breaker_open_min: Duration,
    #[serde(deserialize_with = "de::seconds", rename = "breaker_open_max_s")]
    pub breaker_open_max: Duration,
    pub run_per_10s_max: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml describes each key")]
pub struct RaceSection {
    #[serde(deserialize_with = "de::seconds", rename = "linger_s")]
    pub linger: Duration,
    #[serde(deserialize_with = "de::seconds", rename = "first_contact_s")]
    pub first_contact: Duration,
    #[serde(deserialize_with = "de::seconds", rename = "rescue_reserve_s")]
    pub rescue_reserve: Duration,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml describes each key")]
pub struct PlanSection {
    pub split_over: u16,
    pub parallel_max: u16,
    #[serde(deserialize_with = "de::seconds", rename = "part_work_max_s")]
    pub part_work_max: Duration,
    pub frames_per_second: f64,
    #[serde(deserialize_with = "de::seconds", rename = "item_s")]
    pub item: Duration,
    #[serde(deserialize_with = "de::seconds", rename = "video_s")]
    pub video: Duration,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml describes each key")]
pub struct AttemptsSection {
    pub per_item_max: u8,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml describes each key")]
pub struct SignalsSection {
    pub public_url: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml describes each key")]
pub struct TokensSection {
    pub keys: SecretString,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml describes each key")]
pub struct UsageSection {
    pub usd_per_gpu_second: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml describes each key")]
pub struct DispatcherSection {
    pub concurrency: u16,
    pub submits_max: usize,
    pub tenant_slots_max: u32,
}

/// The settings as they are used: typed and checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// RunPod's endpoints, the preferred one first; at least one.
    pub endpoints: Vec<Endpoint>,
    /// What waits at an endpoint without a worker for longer makes another one preferred.
    pub shortage_max: Duration,
    /// When submits give an endpoint a rest.
    pub breaker: BreakerPolicy,
    pub run_limit: OperationLimit,
    /// RunPod ends an attempt after this.
    pub execution_timeout: Duration,
    /// The longest wait in RunPod's queue.
    pub queue_wait_max: Duration,
    /// The longest wait of a worker to be fetched from.
    pub linger: Duration,
    /// The longest wait of a worker for somebody to come at all.
    pub first_contact: Duration,
    /// So long before its timeout a worker pushes.
    pub rescue_reserve: Duration,
    /// How jobs are split.
    pub plan: PlanPolicy,
    /// What work takes, before anything is learned.
    pub prior: Prior,
    /// Attempts of an item.
    pub attempts_per_item_max: u8,
    /// Our address for workers and RunPod.
    pub public_url: Option<String>,
    /// Keys of tokens.
    pub tokens: TokenKeys,
    /// Messages of a queue handled at once.
    pub concurrency: u16,
    /// Submits under way at once.
    pub submits_max: usize,
    /// Slots of an endpoint that a tenant's lane may have; 0: any number.
    pub tenant_slots_max: u32,
    /// Lanes of each priority.
    pub lanes: u16,
}

impl Config {
    /// Checks the settings; every error names its path.
    pub fn of(settings: &Settings) -> Result<Self, Vec<String>> {
        let mut errors = Vec::new();
        let runpod = &settings.runpod;
        if runpod.endpoint_id.is_empty() {
            errors.push("runpod.endpoint_id: must be set (RUNPOD_ENDPOINT_ID)".to_owned());
        }
        if runpod.api_key.expose_secret().is_empty() {
            errors.push("runpod.api_key: must be set (RUNPOD_API_KEY)".to_owned());
        }
        if runpod.breaker_open_min.is_zero() || runpod.breaker_open_min > runpod.breaker_open_max {
            errors.push(
                "runpod.breaker_open_min_s: must be above 0 and not above runpod.breaker_open_max_s"
                    .to_owned(),
            );
        }
        errors.extend(beyond_runpod(
            runpod.execution_timeout,
            runpod.queue_wait_max,
        ));
        let needed = settings.race.linger + settings.race.rescue_reserve;
        if runpod.execution_timeout < needed {
            errors.push(
                "runpod.execution_timeout_s: must leave room for race.linger_s and \
                 race.rescue_reserve_s"
                    .to_owned(),
            );
        }
        let endpoints = endpoints(runpod, settings.usage.usd_per_gpu_second, &mut errors);
        errors.extend(settings.s3.settings().err().unwrap_or_default());
        errors.extend(settings.redis.settings().err().unwrap_or_default());
        match TokenKeys::from_base64(settings.tokens.keys.expose_secret()) {
            Ok(tokens) if errors.is_empty() => Ok(Self {
                endpoints,
                shortage_max: runpod.shortage_max,
                breaker: BreakerPolicy {
                    failures_max: runpod.breaker_failures_max,
                    open_min: runpod.breaker_open_min,
                    open_max: runpod.breaker_open_max,
                },
                run_limit: OperationLimit::per_10s(runpod.run_per_10s_max),
                execution_timeout: runpod.execution_timeout,
                queue_wait_max: runpod.queue_wait_max,
                linger: settings.race.linger,
                first_contact: settings.race.first_contact,
                rescue_reserve: settings.race.rescue_reserve,
                plan: PlanPolicy {
                    split_over: settings.plan.split_over,
                    parallel_max: settings.plan.parallel_max.max(1),
                    part_work_max: settings.plan.part_work_max.max(Duration::from_secs(1)),
                },
                prior: Prior {
                    frames_per_second: settings.plan.frames_per_second,
                    item: settings.plan.item,
                    video: settings.plan.video,
                },
                attempts_per_item_max: settings.attempts.per_item_max.max(1),
                public_url: public_url(&settings.signals.public_url),
                tokens,
                concurrency: settings.dispatcher.concurrency.max(1),
                submits_max: settings.dispatcher.submits_max.max(1),
                tenant_slots_max: settings.dispatcher.tenant_slots_max,
                lanes: settings.broker.lanes,
            }),
            Ok(_) => Err(errors),
            Err(error) => {
                errors.push(format!("tokens.keys: {error}"));
                Err(errors)
            }
        }
    }
}

/// The first endpoint by its own keys, the further ones by a line each.
fn endpoints(runpod: &RunPodSection, price: f64, errors: &mut Vec<String>) -> Vec<Endpoint> {
    let first = Limits {
        workers_max: runpod.workers_max,
        per_worker: runpod.per_worker,
        backlog: runpod.backlog,
        usd_per_gpu_second: price,
    };
    let mut all = vec![Endpoint::new(&runpod.endpoint_id, first)];
    for line in &runpod.further_endpoints {
        match Endpoint::parse(line, first) {
            Ok(endpoint) if all.iter().any(|known| known.id == endpoint.id) => {
                errors.push(format!(
                    "runpod.further_endpoints: {} is there twice",
                    endpoint.id
                ));
            }
            Ok(endpoint) => all.push(endpoint),
            Err(error) => errors.push(format!("runpod.further_endpoints: {error}")),
        }
    }
    all
}

/// How long RunPod keeps a run at all: never less than it may wait and take.
pub(crate) fn ttl(execution: Duration, queue_wait: Duration) -> Duration {
    queue_wait
        .saturating_add(execution)
        .saturating_add(TTL_GRACE)
}

/// RunPod refuses every submit whose policy is out of its ranges.
fn beyond_runpod(execution: Duration, queue_wait: Duration) -> Vec<String> {
    let mut errors = Vec::new();
    if execution < EXECUTION_MIN {
        errors.push("runpod.execution_timeout_s: RunPod takes no less than 5 s".to_owned());
    }
    if ttl(execution, queue_wait) > TTL_MAX {
        errors.push(
            "runpod.queue_wait_max_s, runpod.execution_timeout_s: together, with 10 min of grace, \
             RunPod takes no more than 7 days"
                .to_owned(),
        );
    }
    errors
}

fn public_url(text: &str) -> Option<String> {
    let trimmed = text.trim_end_matches('/');
    (!trimmed.is_empty()).then(|| trimmed.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runpod_would_refuse_is_refused_at_the_start() {
        let faults = |execution_s, queue_wait_s| {
            let [execution, queue_wait] = [execution_s, queue_wait_s].map(Duration::from_secs);
            beyond_runpod(execution, queue_wait).len()
        };
        let week = 7 * 24 * 3600;
        assert_eq!(faults(1800, 3600), 0);
        assert_eq!((faults(4, 3600), faults(5, 3600)), (1, 0));
        assert_eq!((faults(600, week - 1200), faults(601, week - 1200)), (0, 1));
    }
}
