//! Every address, key and setting that the processes share: the one place that knows how each is told.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use base64::Engine as _;
use photofinish_kit::ProcessSpec;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// RunPod's id of the emulated endpoint.
pub const ENDPOINT_ID: &str = "ep-local";
/// The bucket.
pub const BUCKET: &str = "photofinish";
/// The bucket's region.
pub const REGION: &str = "us-east-1";
/// The four services, in the order of starting; ingest first, since workers are told its address.
pub const SERVICES: [&str; 4] = ["ingest", "dispatcher", "fetcher", "notifier"];

const LOOPBACK: &str = "127.0.0.0/8";
const ANY_PORT: &str = "127.0.0.1:0";

/// Keys made at start, random each time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Secrets {
    /// The operator's API key.
    pub operator_key: String,
    /// Of the emulator's client API.
    pub runpod_key: String,
    /// Of the emulator's worker API.
    pub runpod_worker_key: String,
    /// Who we are at the S3 server.
    pub s3_key_id: String,
    /// Of the S3 server.
    pub s3_secret: String,
    /// Base64 of 32 bytes: makes tokens.
    pub token_key: String,
    /// Base64 of 32 bytes: seals secrets at rest.
    pub sealing_key: String,
}

impl Secrets {
    /// New ones.
    pub fn random() -> Self {
        let word = || format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let key = || {
            let bytes = [Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes()].concat();
            base64::engine::general_purpose::STANDARD.encode(bytes)
        };
        Self {
            operator_key: format!("op_{}", word()),
            runpod_key: format!("rp_{}", word()),
            runpod_worker_key: format!("rpw_{}", word()),
            s3_key_id: "photofinish-local".to_owned(),
            s3_secret: word(),
            token_key: key(),
            sealing_key: key(),
        }
    }
}

/// The servers that are not ours.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Servers {
    /// `amqp://user:password@host:port/vhost` of an administrator.
    pub amqp_url: String,
    /// The management API, `http://user:password@host:port`.
    pub rabbitmq_api: String,
    /// The virtual host.
    pub vhost: String,
    /// `redis://host:port`.
    pub redis_url: String,
    /// Before every Redis key.
    pub redis_prefix: String,
}

/// What a client of the product needs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Client {
    /// The tenant, which is also its user at the broker.
    pub tenant: String,
    /// Its API key.
    pub api_key: String,
    /// Its webhook secret, `whsec_…`.
    pub webhook_secret: String,
    /// The broker with the tenant's own user.
    pub amqp_url: String,
}

/// Where everything is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Wiring {
    /// The servers that are not ours.
    pub servers: Servers,
    /// Keys.
    pub secrets: Secrets,
    /// The S3 server, `http://host:port`.
    pub s3: String,
    /// The emulator, `http://host:port`.
    pub runpod: String,
    /// Ingest's public door, `http://host:port`.
    pub ingest: String,
    /// The admin ports, `http://host:port` by service.
    pub admin: BTreeMap<String, String>,
    /// The tenant.
    pub client: Client,
}

/// A setting that differs from the service's default.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The service, or `s3`.
    pub service: &'static str,
    /// `section.key`.
    pub path: &'static str,
    /// The value.
    pub value: String,
}

impl Setting {
    /// A setting of a service.
    pub fn new(service: &'static str, path: &'static str, value: impl Into<String>) -> Self {
        Self {
            service,
            path,
            value: value.into(),
        }
    }
}

/// The emulator and its workers.
#[derive(Debug, Clone)]
pub struct RunPod {
    /// The worker's program.
    pub worker: &'static str,
    /// Variables of the worker.
    pub worker_env: Vec<(&'static str, String)>,
    /// Flags of the emulator, in the place of those that [`Wiring::runpod_sim`] gives it.
    pub flags: Vec<(&'static str, String)>,
}

impl Default for RunPod {
    /// The worker that renders.
    fn default() -> Self {
        Self {
            worker: "photofinish-worker",
            worker_env: Vec::new(),
            flags: Vec::new(),
        }
    }
}

impl RunPod {
    /// The worker that only waits and writes bytes; `photofinish-stand-in` says what it reads.
    pub fn stand_in() -> Self {
        Self {
            worker: "stand-in-worker",
            ..Self::default()
        }
    }

    /// Another flag of the emulator.
    #[must_use]
    pub fn flag(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.flags.push((name, value.into()));
        self
    }

    /// Another variable of the worker.
    #[must_use]
    pub fn env(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.worker_env.push((name, value.into()));
        self
    }
}

/// The directory that all stand-in workers of a stack share.
pub fn stand_in_dir(dir: &Path) -> PathBuf {
    dir.join("stand-in")
}

impl Wiring {
    /// Servers and keys; addresses come as the processes start.
    pub fn new(servers: Servers, tenant: &str) -> Self {
        Self {
            servers,
            secrets: Secrets::random(),
            s3: String::new(),
            runpod: String::new(),
            ingest: String::new(),
            admin: BTreeMap::new(),
            client: Client {
                tenant: tenant.to_owned(),
                ..Client::default()
            },
        }
    }

    /// The S3 server; with the setting `s3`, `memory`, its objects are in memory alone.
    pub fn s3_server(&self, dir: &Path, settings: &[Setting]) -> anyhow::Result<ProcessSpec> {
        let root = dir.join("s3");
        std::fs::create_dir_all(&root).context("make the directory of the S3 server")?;
        let spec = ProcessSpec::service("photofinish-s3", &dir.join("logs"))?;
        let memory = |setting: &Setting| (setting.service, setting.path) == ("s3", "memory");
        let spec = if settings.iter().any(memory) {
            spec.arg("--memory")
        } else {
            spec.arg("--root").arg(root.display().to_string())
        };
        Ok(spec
            .arg("--bucket")
            .arg(BUCKET)
            .arg("--access-key")
            .arg(&self.secrets.s3_key_id)
            .arg("--secret-key")
            .arg(&self.secrets.s3_secret))
    }

    /// The emulator and its workers.
    pub fn runpod_sim(&self, dir: &Path, runpod: &RunPod) -> anyhow::Result<ProcessSpec> {
        let worker = photofinish_kit::binary(runpod.worker)?;
        let logs = dir.join("logs");
        let spec = ProcessSpec::service("runpod-sim", &logs)?;
        let mut spec = spec
            .env("RUNPOD_SIM_API_KEY", &self.secrets.runpod_key)
            .env("RUNPOD_SIM_WORKER_KEY", &self.secrets.runpod_worker_key);
        let mut flags = BTreeMap::from([
            ("--listen", ANY_PORT.to_owned()),
            ("--endpoint", ENDPOINT_ID.to_owned()),
            ("--worker", format!("'{}'", worker.display())),
            ("--workers-max", "3".to_owned()),
            ("--cold-start", "300ms".to_owned()),
            ("--queue-delay", "200ms".to_owned()),
            ("--idle-timeout", "5s".to_owned()),
            ("--worker-log-dir", logs.display().to_string()),
            ("--worker-dir", dir.join("workers").display().to_string()),
        ]);
        flags.extend(runpod.flags.iter().cloned());
        for (flag, value) in flags {
            spec = spec.arg(flag).arg(value);
        }
        let shared = [
            ("PHOTOFINISH__OUTBOUND__INPUTS__ALLOW", LOOPBACK.to_owned()),
            ("PHOTOFINISH__ADMIN__LISTEN", ANY_PORT.to_owned()),
            ("STAND_IN_DIR", stand_in_dir(dir).display().to_string()),
        ];
        for (name, value) in shared.iter().chain(&runpod.worker_env) {
            spec = spec.arg("--worker-env").arg(format!("{name}={value}"));
        }
        Ok(spec)
    }

    /// One of the four services.
    pub fn service(
        &self,
        name: &'static str,
        dir: &Path,
        settings: &[Setting],
    ) -> anyhow::Result<ProcessSpec> {
        let mut spec = ProcessSpec::service(&format!("photofinish-{name}"), &dir.join("logs"))?;
        let common = [
            ("admin.listen", ANY_PORT.to_owned()),
            ("log.format", "json".to_owned()),
            ("broker.url", self.servers.amqp_url.clone()),
            // Few tenants: with 32 lanes a start declares a hundred queues more.
            ("broker.lanes", "4".to_owned()),
            ("redis.url", self.servers.redis_url.clone()),
            ("redis.prefix", self.servers.redis_prefix.clone()),
            ("s3.endpoint", self.s3.clone()),
            ("s3.bucket", BUCKET.to_owned()),
            ("s3.region", REGION.to_owned()),
            ("s3.access_key_id", self.secrets.s3_key_id.clone()),
            ("s3.secret_access_key", self.secrets.s3_secret.clone()),
            ("s3.path_style", "true".to_owned()),
        ];
        let own = self.own_settings(name);
        let changed = settings.iter().filter(|setting| setting.service == name);
        let changed = changed.map(|setting| (setting.path, setting.value.clone()));
        for (path, value) in common.into_iter().chain(own).chain(changed) {
            spec = spec.env(&variable(path), value);
        }
        Ok(spec)
    }

    fn own_settings(&self, name: &str) -> Vec<(&'static str, String)> {
        let tokens = ("tokens.keys", self.secrets.token_key.clone());
        let sealing = ("secrets.key", self.secrets.sealing_key.clone());
        let runpod = [
            ("runpod.base_url", format!("{}/v2", self.runpod)),
            ("runpod.api_key", self.secrets.runpod_key.clone()),
        ];
        match name {
            "ingest" => vec![
                tokens,
                sealing,
                ("http.listen", ANY_PORT.to_owned()),
                ("auth.operator_key", self.secrets.operator_key.clone()),
                ("broker.management_url", self.servers.rabbitmq_api.clone()),
                ("outbound.inputs.allow", LOOPBACK.to_owned()),
                ("outbound.receivers.allow", LOOPBACK.to_owned()),
            ],
            "dispatcher" => {
                let mut settings = vec![
                    tokens,
                    ("runpod.endpoint_id", ENDPOINT_ID.to_owned()),
                    ("signals.public_url", self.ingest.clone()),
                    ("redis.epoch_age_min_s", "0".to_owned()),
                ];
                settings.extend(runpod);
                settings
            }
            "fetcher" => {
                let proxy_url = format!("{}/proxy/{{worker}}-8000", self.runpod);
                let mut settings = vec![
                    tokens,
                    ("runpod.proxy_url", proxy_url),
                    ("outbound.workers.allow", LOOPBACK.to_owned()),
                ];
                settings.extend(runpod);
                settings
            }
            "notifier" => {
                vec![sealing, ("outbound.receivers.allow", LOOPBACK.to_owned())]
            }
            other => unreachable!("no such service: {other}"),
        }
    }

    /// The lines of `.dev/env`.
    pub fn env_lines(&self) -> Vec<(&'static str, String)> {
        let ingest_admin = self.admin.get("ingest").cloned().unwrap_or_default();
        vec![
            ("PHOTOFINISH_URL", self.ingest.clone()),
            ("PHOTOFINISH_API_KEY", self.client.api_key.clone()),
            (
                "PHOTOFINISH_OPERATOR_KEY",
                self.secrets.operator_key.clone(),
            ),
            ("PHOTOFINISH_TENANT", self.client.tenant.clone()),
            (
                "PHOTOFINISH_WEBHOOK_SECRET",
                self.client.webhook_secret.clone(),
            ),
            ("PHOTOFINISH_AMQP_URL", self.client.amqp_url.clone()),
            ("PHOTOFINISH_REDIS_URL", self.servers.redis_url.clone()),
            ("PHOTOFINISH_INGEST_ADMIN_URL", ingest_admin),
            ("PHOTOFINISH_S3_ENDPOINT", self.s3.clone()),
            ("PHOTOFINISH_S3_BUCKET", BUCKET.to_owned()),
            ("AWS_ACCESS_KEY_ID", self.secrets.s3_key_id.clone()),
            ("AWS_SECRET_ACCESS_KEY", self.secrets.s3_secret.clone()),
            ("AWS_REGION", REGION.to_owned()),
            ("RUNPOD_ENDPOINT_BASE_URL", format!("{}/v2", self.runpod)),
            ("RUNPOD_ENDPOINT_ID", ENDPOINT_ID.to_owned()),
            ("RUNPOD_API_KEY", self.secrets.runpod_key.clone()),
        ]
    }

    /// The bucket as our own crate reads it.
    pub fn objects(&self) -> anyhow::Result<photofinish_objects::Objects> {
        let settings = photofinish_objects::Settings {
            endpoint: self.s3.clone(),
            public_endpoint: String::new(),
            bucket: BUCKET.to_owned(),
            region: REGION.to_owned(),
            access_key_id: self.secrets.s3_key_id.clone(),
            secret_access_key: self.secrets.s3_secret.clone(),
            prefix: String::new(),
            path_style: true,
            request_timeout: std::time::Duration::from_secs(20),
            ..photofinish_objects::Settings::default()
        };
        photofinish_objects::Objects::connect(&settings).context("reach the bucket")
    }
}

fn variable(path: &str) -> String {
    format!("PHOTOFINISH__{}", path.replace('.', "__").to_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_variables() {
        assert_eq!(
            variable("outbound.inputs.allow"),
            "PHOTOFINISH__OUTBOUND__INPUTS__ALLOW"
        );
    }

    #[test]
    fn keys_are_32_bytes_and_differ() {
        let secrets = Secrets::random();
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(&secrets.token_key)
            .unwrap();
        assert_eq!(bytes.len(), 32);
        assert_ne!(secrets.token_key, secrets.sealing_key);
    }
}
