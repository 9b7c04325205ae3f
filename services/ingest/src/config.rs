//! Settings as written → configuration as used, all errors at once.

mod http;

pub use http::{Http, HttpSection};

use crate::auth::KeyTags;
use photofinish_broker::Access;
use photofinish_contract::token::TokenKeys;
use photofinish_jobstore::config::RedisSection;
use photofinish_model::Tenant;
use photofinish_model::estimate::Prior;
use photofinish_model::plan::PlanPolicy;
use photofinish_model::quota::Quotas;
use photofinish_objects::Sealer;
use photofinish_objects::config::S3Section;
use photofinish_outbound::{Guard, Policy};
use photofinish_runtime::Service;
use photofinish_runtime::config::de;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use std::time::Duration;

/// S3 refuses URLs that are good for longer.
const URL_TTL_MAX: Duration = Duration::from_hours(7 * 24);
const URL_TTL_MIN: Duration = Duration::from_mins(1);

/// The service with its embedded defaults.
pub fn service() -> Service<Settings> {
    Service::new("ingest", defaults().leak())
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
    pub http: HttpSection,
    pub links: LinksSection,
    pub auth: AuthSection,
    pub secrets: SecretsSection,
    pub tokens: TokensSection,
    pub outbound: OutboundSection,
    pub admission: AdmissionSection,
    pub quotas: QuotasSection,
    pub retention: RetentionSection,
    pub urls: UrlsSection,
    pub usage: UsageSection,
    pub plan: PlanSection,
    pub broker: photofinish_broker::Settings,
    pub redis: RedisSection,
    pub s3: S3Section,
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
pub struct AuthSection {
    pub operator_key: SecretString,
    #[serde(deserialize_with = "de::optional_text")]
    pub default_tenant: Option<String>,
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
pub struct TokensSection {
    pub keys: SecretString,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml describes each key")]
pub struct OutboundSection {
    pub inputs: NetworksSection,
    pub receivers: NetworksSection,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml describes each key")]
pub struct NetworksSection {
    pub allow: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml describes each key")]
pub struct AdmissionSection {
    pub jobs_in_flight_max: u64,
    pub submissions_concurrency: u16,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml describes each key")]
pub struct QuotasSection {
    pub requests_per_s: i64,
    pub jobs_waiting_max: i64,
    pub items_per_job_max: i64,
    pub gpu_seconds_per_day: f64,
    pub cost_per_day_usd: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml describes each key")]
pub struct RetentionSection {
    #[serde(deserialize_with = "de::seconds", rename = "sweep_every_s")]
    pub sweep_every: Duration,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml describes each key")]
pub struct UrlsSection {
    #[serde(deserialize_with = "de::seconds", rename = "output_ttl_s")]
    pub output_ttl: Duration,
    #[serde(deserialize_with = "de::seconds", rename = "upload_ttl_s")]
    pub upload_ttl: Duration,
    #[serde(deserialize_with = "de::seconds", rename = "input_ttl_s")]
    pub input_ttl: Duration,
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

/// The settings as they are used: typed and checked.
#[derive(Debug)]
pub struct Config {
    /// What a client may take of the process.
    pub http: Http,
    /// Put before links, without a slash at its end.
    pub public_url: String,
    /// The operator's key, if one is configured.
    pub operator_key: Option<SecretString>,
    /// The tenant of AMQP messages without a user.
    pub default_tenant: Option<Tenant>,
    /// Makes and knows the tags of API keys.
    pub(crate) key_tags: KeyTags,
    /// The limits of tenants without limits of their own.
    pub quotas: Quotas,
    /// How often somebody looks for what is kept too long.
    pub sweep_every: Duration,
    /// The broker as clients see it.
    pub amqp: Access,
    /// Seals signing secrets.
    pub sealer: Sealer,
    /// Checks the tokens of hooks.
    pub tokens: TokenKeys,
    /// Checks the addresses of inputs.
    pub inputs: Guard,
    /// Checks the addresses of webhooks.
    pub receivers: Guard,
    /// Runs in flight above which no job is taken.
    pub jobs_in_flight_max: u64,
    /// Submissions handled at once.
    pub submissions_concurrency: u16,
    /// How long outputs' URLs are good.
    pub output_ttl: Duration,
    /// How long an input may be uploaded.
    pub upload_ttl: Duration,
    /// How long an uploaded input's URL is good.
    pub input_ttl: Duration,
    /// US dollars.
    pub usd_per_gpu_second: Option<f64>,
    /// How jobs are split.
    pub plan: PlanPolicy,
    /// What work takes, before anything is learned.
    pub prior: Prior,
    /// Lanes of each priority.
    pub lanes: u16,
    /// Redis.
    pub redis: photofinish_jobstore::Settings,
    /// The bucket.
    pub s3: photofinish_objects::Settings,
}

impl Config {
    /// Checks the settings; every error names its path.
    pub fn of(settings: &Settings) -> Result<Self, Vec<String>> {
        let mut errors = bounds(settings);
        let default_tenant = default_tenant(settings);
        let inputs = networks("inputs", &settings.outbound.inputs);
        let receivers = networks("receivers", &settings.outbound.receivers);
        let sealer = Sealer::new(settings.secrets.key.expose_secret())
            .map_err(|error| vec![format!("secrets.key: {error}")]);
        let tokens = TokenKeys::from_base64(settings.tokens.keys.expose_secret())
            .map_err(|error| vec![format!("tokens.keys: {error}")]);
        let mut keep = |wrong: Vec<String>| errors.extend(wrong);
        let default_tenant = default_tenant.map_err(&mut keep).ok();
        let inputs = inputs.map_err(&mut keep).ok();
        let receivers = receivers.map_err(&mut keep).ok();
        let sealer = sealer.map_err(&mut keep).ok();
        let tokens = tokens.map_err(&mut keep).ok();
        let amqp = settings.broker.access();
        let amqp = amqp.map_err(|error| keep(vec![error.to_string()])).ok();
        let http = settings.http.checked().map_err(&mut keep).ok();
        let redis = settings.redis.settings().map_err(&mut keep).ok();
        let s3 = settings.s3.settings().map_err(&mut keep).ok();
        let whole = inputs
            .zip(receivers)
            .zip(sealer.zip(tokens))
            .zip(redis.zip(s3).zip(amqp.zip(http)));
        let (
            Some(default_tenant),
            Some((((inputs, receivers), (sealer, tokens)), ((redis, s3), (amqp, http)))),
        ) = (default_tenant, whole)
        else {
            return Err(errors);
        };
        if !errors.is_empty() {
            return Err(errors);
        }
        let operator_key = settings.auth.operator_key.clone();
        Ok(Self {
            http,
            public_url: settings.links.public_url.trim_end_matches('/').to_owned(),
            operator_key: Some(operator_key).filter(|key| !key.expose_secret().is_empty()),
            default_tenant,
            key_tags: KeyTags::new(settings.secrets.key.expose_secret()),
            quotas: quotas(&settings.quotas),
            sweep_every: settings
                .retention
                .sweep_every
                .max(Duration::from_millis(100)),
            amqp,
            sealer,
            tokens,
            inputs,
            receivers,
            jobs_in_flight_max: settings.admission.jobs_in_flight_max,
            submissions_concurrency: settings.admission.submissions_concurrency,
            output_ttl: settings.urls.output_ttl,
            upload_ttl: settings.urls.upload_ttl,
            input_ttl: settings.urls.input_ttl,
            usd_per_gpu_second: Some(settings.usage.usd_per_gpu_second).filter(|usd| *usd >= 0.0),
            plan: plan_policy(&settings.plan),
            prior: Prior {
                frames_per_second: settings.plan.frames_per_second,
                item: settings.plan.item,
                video: settings.plan.video,
            },
            lanes: settings.broker.lanes,
            redis,
            s3,
        })
    }
}

fn networks(name: &str, section: &NetworksSection) -> Result<Guard, Vec<String>> {
    let named = |wrong: Vec<String>| -> Vec<String> {
        wrong
            .iter()
            .map(|wrong| format!("outbound.{name}.allow: {wrong}"))
            .collect()
    };
    Policy::from_texts(&section.allow)
        .map(Guard::new)
        .map_err(named)
}

fn default_tenant(settings: &Settings) -> Result<Option<Tenant>, Vec<String>> {
    match &settings.auth.default_tenant {
        None => Ok(None),
        Some(name) => name
            .parse()
            .map(Some)
            .map_err(|_| vec!["auth.default_tenant: must be 1 to 63 of a-z, 0-9 and -".to_owned()]),
    }
}

fn bounds(settings: &Settings) -> Vec<String> {
    let mut errors = Vec::new();
    if !(1..=2000).contains(&settings.admission.submissions_concurrency) {
        errors.push("admission.submissions_concurrency: must be 1 to 2000".to_owned());
    }
    let urls = &settings.urls;
    for (name, ttl) in [
        ("output_ttl_s", urls.output_ttl),
        ("upload_ttl_s", urls.upload_ttl),
        ("input_ttl_s", urls.input_ttl),
    ] {
        if !(URL_TTL_MIN..=URL_TTL_MAX).contains(&ttl) {
            errors.push(format!("urls.{name}: must be 60 to 604800"));
        }
    }
    errors
}

fn quotas(section: &QuotasSection) -> Quotas {
    let whole = |number: i64| u32::try_from(number).ok();
    let amount = |number: f64| Some(number).filter(|number| *number >= 0.0);
    Quotas {
        requests_per_s: whole(section.requests_per_s).filter(|rate| *rate > 0),
        jobs_waiting_max: whole(section.jobs_waiting_max),
        items_per_job_max: whole(section.items_per_job_max),
        gpu_seconds_per_day: amount(section.gpu_seconds_per_day),
        cost_per_day_usd: amount(section.cost_per_day_usd),
    }
}

fn plan_policy(section: &PlanSection) -> PlanPolicy {
    PlanPolicy {
        split_over: section.split_over,
        parallel_max: section.parallel_max.max(1),
        part_work_max: section.part_work_max.max(Duration::from_secs(1)),
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
            ("auth.default_tenant", "Not A Tenant"),
            ("secrets.key", "short"),
            ("tokens.keys", "short"),
            ("outbound.inputs.allow", "nonsense"),
            ("outbound.receivers.allow", "10.0.0.0/99"),
            ("admission.submissions_concurrency", "0"),
            ("urls.output_ttl_s", "1"),
            ("http.connections_max", "0"),
            ("http.bodies_bytes_max", "1000000"),
            ("http.write_timeout_s", "0"),
            ("http.cors_origins", "https://a.example/path"),
        ]);
        let errors = Config::of(&wrong).unwrap_err().join("\n");
        for path in [
            "auth.default_tenant",
            "secrets.key",
            "tokens.keys",
            "outbound.inputs.allow: nonsense",
            "outbound.receivers.allow: 10.0.0.0/99",
            "admission.submissions_concurrency",
            "urls.output_ttl_s",
            "http.connections_max",
            "http.bodies_bytes_max",
            "http.write_timeout_s",
            "http.cors_origins",
            "s3.bucket",
        ] {
            assert!(errors.contains(path), "{path} in\n{errors}");
        }
    }

    #[test]
    fn the_defaults_need_a_bucket_and_two_keys_only() {
        let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        let good = settings(&[
            ("secrets.key", key),
            ("tokens.keys", key),
            ("s3.bucket", "b"),
        ]);
        let config = Config::of(&good).unwrap();
        assert!(config.operator_key.is_none());
        assert!(config.default_tenant.is_none());
        assert_eq!(config.jobs_in_flight_max, 100_000);
    }
}
