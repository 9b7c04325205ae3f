//! Settings as they are written, and the configuration that is made of them.
//!
//! Guarantee: every fault is named at once, before anything starts.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use photofinish_outbound::Policy;
use photofinish_runtime::Service;
use photofinish_runtime::config::de;
use serde::Deserialize;

use crate::media::encoder::Choice;
use crate::operations::inputs::InputLimits;
use crate::operations::studio::StudioSettings;

/// The embedded defaults.
pub const DEFAULTS: &str = include_str!("defaults.toml");

/// Variable names that users have already.
pub const ENV_ALIASES: &[(&str, &str)] = &[
    ("WORK_DIR", "worker.work_dir"),
    ("OUTPUT_DIR", "worker.output_dir"),
    ("BATCH_SIZE", "worker.batch_size"),
    ("HTTP_PORT", "worker.http_port"),
    ("WORKER_PROXY_URL", "worker.proxy_url"),
];

/// More items at once help nobody.
const BATCH_AUTO_MAX: usize = 8;

/// The service with its embedded defaults.
pub fn service() -> Service<Settings> {
    Service::new("worker", DEFAULTS)
        .env_aliases(ENV_ALIASES)
        .checked_by(|settings| settings.config(1).err().unwrap_or_default())
}

/// The settings as they are written; `defaults.toml` describes each.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml describes each key")]
pub struct Settings {
    pub worker: WorkerSection,
    pub encoder: EncoderSection,
    pub inputs: InputsSection,
    pub outbound: OutboundSection,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml describes each key")]
pub struct WorkerSection {
    pub work_dir: PathBuf,
    pub output_dir: PathBuf,
    pub batch_size: usize,
    pub jobs_max: usize,
    pub refresh_after_jobs: u32,
    pub http_host: String,
    pub http_port: u16,
    pub proxy_url: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml describes each key")]
pub struct EncoderSection {
    pub choice: Choice,
    pub nvenc_sessions_max: usize,
    pub ffmpeg: String,
    pub ffprobe: String,
    #[serde(deserialize_with = "de::seconds", rename = "timeout_base_s")]
    pub timeout_base: Duration,
    #[serde(deserialize_with = "de::seconds", rename = "timeout_per_second_s")]
    pub timeout_per_second: Duration,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml describes each key")]
pub struct InputsSection {
    pub image_bytes_max: u64,
    pub video_bytes_max: u64,
    pub audio_bytes_max: u64,
    pub captions_bytes_max: u64,
    #[serde(deserialize_with = "de::seconds", rename = "download_timeout_s")]
    pub download_timeout: Duration,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml describes each key")]
pub struct OutboundSection {
    pub inputs: OutboundInputs,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml describes each key")]
pub struct OutboundInputs {
    pub allow: Vec<String>,
}

/// The configuration as it is used.
#[derive(Debug, Clone)]
pub struct Config {
    /// Directories and the output server.
    pub worker: WorkerSection,
    /// What rendering needs.
    pub studio: StudioSettings,
    /// Which private networks inputs may come from.
    pub policy: Policy,
}

impl Settings {
    /// The configuration on a machine with `cpus` processors, or every fault.
    pub fn config(&self, cpus: usize) -> Result<Config, Vec<String>> {
        let mut errors = Vec::new();
        let worker = &self.worker;
        if !worker.proxy_url.starts_with("http://") && !worker.proxy_url.starts_with("https://") {
            errors.push("worker.proxy_url: must begin with http:// or https://".to_owned());
        }
        if worker.jobs_max == 0 {
            errors.push("worker.jobs_max: must be at least 1".to_owned());
        }
        if self.encoder.nvenc_sessions_max == 0 {
            errors.push("encoder.nvenc_sessions_max: must be at least 1".to_owned());
        }
        let policy = Policy::from_texts(&self.outbound.inputs.allow).unwrap_or_else(|faults| {
            errors.extend(
                faults
                    .into_iter()
                    .map(|fault| format!("outbound.inputs.allow: {fault}")),
            );
            Policy::default()
        });
        if !errors.is_empty() {
            return Err(errors);
        }
        let batch = match worker.batch_size {
            0 => cpus.clamp(1, BATCH_AUTO_MAX),
            chosen => chosen,
        };
        let (encoder, inputs) = (&self.encoder, &self.inputs);
        let studio = StudioSettings {
            ffmpeg: encoder.ffmpeg.clone(),
            ffprobe: encoder.ffprobe.clone(),
            encoder: encoder.choice,
            nvenc_sessions: encoder.nvenc_sessions_max,
            batch,
            cpus,
            inputs: InputLimits {
                image_bytes_max: inputs.image_bytes_max,
                video_bytes_max: inputs.video_bytes_max,
                audio_bytes_max: inputs.audio_bytes_max,
                captions_bytes_max: inputs.captions_bytes_max,
                download_timeout: inputs.download_timeout,
                local: BTreeMap::new(),
            },
            encode_timeout_base: encoder.timeout_base,
            encode_timeout_per_second: encoder.timeout_per_second,
        };
        Ok(Config {
            worker: worker.clone(),
            studio,
            policy,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use photofinish_runtime::config::{Sources, load};

    use super::*;

    pub(crate) fn settings(env: &[(&str, &str)]) -> Settings {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let sources = Sources {
            defaults: DEFAULTS.to_owned(),
            env: env.iter().map(owned).collect::<BTreeMap<_, _>>(),
            aliases: ENV_ALIASES.iter().map(owned).collect(),
            ..Sources::default()
        };
        load(&sources).unwrap()
    }

    #[test]
    fn the_variables_of_old_are_understood() {
        let config = settings(&[
            ("BATCH_SIZE", "5"),
            ("HTTP_PORT", "0"),
            (
                "PHOTOFINISH__OUTBOUND__INPUTS__ALLOW",
                "127.0.0.0/8,::1/128",
            ),
        ])
        .config(2)
        .unwrap();
        assert_eq!((config.studio.batch, config.worker.http_port), (5, 0));
        assert_eq!(config.policy.allow.len(), 2);
        assert_eq!(settings(&[]).config(2).unwrap().studio.batch, 2);
    }

    #[test]
    fn all_faults_are_named_at_once() {
        let faults = settings(&[
            ("WORKER_PROXY_URL", "ftp://x"),
            ("PHOTOFINISH__WORKER__JOBS_MAX", "0"),
            ("PHOTOFINISH__ENCODER__NVENC_SESSIONS_MAX", "0"),
            ("PHOTOFINISH__OUTBOUND__INPUTS__ALLOW", "here,there"),
        ])
        .config(1)
        .unwrap_err();
        assert_eq!(faults.len(), 5, "{faults:?}");
    }
}
