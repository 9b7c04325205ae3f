//! Settings as written → configuration as used, all errors at once.

use photofinish_contract::token::TokenKeys;
use photofinish_jobstore::config::RedisSection;
use photofinish_model::plan::PlanPolicy;
use photofinish_objects::Sealer;
use photofinish_objects::config::S3Section;
use photofinish_outbound::Policy;
use photofinish_runtime::Service;
use photofinish_runtime::config::de;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use std::time::Duration;

/// An operator key has at least so many characters.
const OPERATOR_KEY_CHARS_MIN: usize = 16;

/// The service with its embedded defaults.
pub fn service() -> Service<Settings> {
    let defaults = [
        include_str!("defaults.toml"),
        photofinish_broker::DEFAULTS,
        photofinish_jobstore::config::DEFAULTS,
        photofinish_objects::config::DEFAULTS,
    ];
    Service::new("ingest", defaults.concat().leak())
        .env_aliases(photofinish_objects::config::ENV_ALIASES)
        .checked_by(|settings| Config::of(settings).err().unwrap_or_default())
}

/// The settings as they are written; `defaults.toml` describes each.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml describes each key")]
pub struct Settings {
    pub http: HttpSection,
    pub auth: AuthSection,
    pub limits: LimitsSection,
    pub outbound: OutboundSection,
    pub plan: PlanSection,
    pub usage: UsageSection,
    pub tokens: TokensSection,
    pub secrets: SecretsSection,
    pub ingest: IngestSection,
    pub broker: photofinish_broker::Settings,
    pub redis: RedisSection,
    pub s3: S3Section,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml describes each key")]
pub struct HttpSection {
    pub listen: String,
    pub public_url: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml describes each key")]
pub struct AuthSection {
    #[serde(deserialize_with = "de::optional_secret")]
    pub operator_key: Option<SecretString>,
    #[serde(deserialize_with = "de::optional_text")]
    pub default_tenant: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml describes each key")]
pub struct LimitsSection {
    pub jobs_in_flight_max: u64,
    #[serde(deserialize_with = "de::seconds", rename = "output_url_s")]
    pub output_url: Duration,
    #[serde(deserialize_with = "de::seconds", rename = "upload_s")]
    pub upload: Duration,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml describes each key")]
pub struct OutboundSection {
    pub inputs: AllowSection,
    pub receivers: AllowSection,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml describes each key")]
pub struct AllowSection {
    pub allow: Vec<String>,
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
pub struct TokensSection {
    pub keys: SecretString,
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
pub struct IngestSection {
    pub concurrency: u16,
}

/// The settings as they are used: typed and checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Put before the paths of links.
    pub public_url: String,
    /// The operator's key.
    pub operator_key: Option<SecretString>,
    /// The tenant of AMQP messages without a user.
    pub default_tenant: Option<String>,
    /// Jobs in flight in the deployment.
    pub jobs_in_flight_max: u64,
    /// How long an output's URL lives.
    pub output_url: Duration,
    /// How long an uploaded input can be read.
    pub upload: Duration,
    /// Which inputs may be named.
    pub inputs: Policy,
    /// Which receivers may be named.
    pub receivers: Policy,
    /// How jobs are split, for dry runs.
    pub plan: PlanPolicy,
    /// US dollars.
    pub usd_per_gpu_second: Option<f64>,
    /// Keys of tokens.
    pub tokens: TokenKeys,
    /// Submissions handled at once.
    pub concurrency: u16,
    /// Lanes of each priority.
    pub lanes: u16,
}

impl Config {
    /// Checks the settings; every error names its path.
    pub fn of(settings: &Settings) -> Result<Self, Vec<String>> {
        let mut errors = Vec::new();
        if let Some(key) = &settings.auth.operator_key
            && key.expose_secret().len() < OPERATOR_KEY_CHARS_MIN
        {
            errors.push(format!(
                "auth.operator_key: must have at least {OPERATOR_KEY_CHARS_MIN} characters"
            ));
        }
        if let Err(error) = Sealer::new(settings.secrets.key.expose_secret()) {
            errors.push(format!("secrets.key: {error}"));
        }
        let mut policy = |name: &str, section: &AllowSection| {
            Policy::from_texts(&section.allow).unwrap_or_else(|bad| {
                errors.push(format!("outbound.{name}.allow: {}", bad.join(", ")));
                Policy::default()
            })
        };
        let inputs = policy("inputs", &settings.outbound.inputs);
        let receivers = policy("receivers", &settings.outbound.receivers);
        errors.extend(settings.s3.settings().err().unwrap_or_default());
        errors.extend(settings.redis.settings().err().unwrap_or_default());
        match TokenKeys::from_base64(settings.tokens.keys.expose_secret()) {
            Ok(tokens) if errors.is_empty() => Ok(Self {
                public_url: settings.http.public_url.trim_end_matches('/').to_owned(),
                operator_key: settings.auth.operator_key.clone(),
                default_tenant: settings.auth.default_tenant.clone(),
                jobs_in_flight_max: settings.limits.jobs_in_flight_max,
                output_url: settings.limits.output_url,
                upload: settings.limits.upload,
                inputs,
                receivers,
                plan: PlanPolicy {
                    split_over: settings.plan.split_over,
                    parallel_max: settings.plan.parallel_max.max(1),
                    part_work_max: settings.plan.part_work_max.max(Duration::from_secs(1)),
                    frames_per_second: settings.plan.frames_per_second,
                },
                usd_per_gpu_second: Some(settings.usage.usd_per_gpu_second)
                    .filter(|usd| *usd >= 0.0),
                tokens,
                concurrency: settings.ingest.concurrency.max(1),
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
