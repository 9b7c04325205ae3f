//! A dispatcher and, if wanted, a fetcher as real processes on servers of their own, an emulator
//! without workers, and a worker that the test plays itself.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use jiff::{SignedDuration, Timestamp};
use photofinish_broker::{Broker, Outgoing, Route, Target};
use photofinish_contract::attempt_input::AttemptInput;
use photofinish_contract::messages::{Command, JobAccepted, JobCommand, PlanMessage, RequestRef};
use photofinish_contract::request::{Fit, Image, Img2vid, JobRequest, Motion, Task};
use photofinish_jobstore::JobStore;
use photofinish_kit::{Process, ProcessSpec, Rabbit, Redis, S3, wait_for};
use photofinish_model::{JobId, JobSnapshot, OnItemError, Priority, Tenant};
use photofinish_objects::Objects;
use photofinish_runpod_sim::{Config, Sim};
use photofinish_runtime::{Health, Shutdown, Tasks};
use serde_json::{Value, json};

/// Longest wait for anything here.
pub const SOON: Duration = Duration::from_secs(40);
pub const ENDPOINT: &str = "ep-sim";
/// One more endpoint of the emulator; nobody uses it unless the settings say so.
pub const FURTHER: &str = "ep-more";
const TOKEN_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const CLIENT_KEY: &str = "sim-client-key";
const WORKER_KEY: &str = "sim-worker-key";
/// The worker that the test plays.
pub const WORKER: &str = "w1";

/// The emulator's command line.
const SIM: [&str; 7] = [
    "runpod-sim",
    "--listen",
    "127.0.0.1:0",
    "--ping-loss",
    "10m",
    "--endpoint-also",
    FURTHER,
];

/// Everything that a test needs; ended on drop.
pub struct House {
    pub broker: Broker,
    pub jobstore: JobStore,
    pub objects: Objects,
    pub tenant: Tenant,
    pub sim: Sim,
    pub processes: BTreeMap<&'static str, Process>,
    /// Where each process tells its numbers.
    admin: BTreeMap<&'static str, String>,
    env: BTreeMap<String, String>,
    dir: tempfile::TempDir,
    tasks: Tasks,
    _rabbit: Rabbit,
    _s3: S3,
}

/// A job that a worker was handed.
pub struct Taken {
    /// RunPod's id.
    pub id: String,
    /// What it was given.
    pub input: AttemptInput,
}

impl Drop for House {
    fn drop(&mut self) {
        self.tasks.shutdown().cut();
    }
}

impl House {
    /// A dispatcher alone.
    pub async fn open() -> anyhow::Result<Self> {
        Self::with(&[]).await
    }

    /// A dispatcher with these settings (`section.key`).
    pub async fn with(settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let redis = Redis::fresh()?;
        let mut house = Self::empty(&redis.url, &redis.prefix, settings).await?;
        house.start("photofinish-dispatcher").await?;
        Ok(house)
    }

    /// The servers, and none of our processes yet.
    pub async fn empty(
        redis_url: &str,
        prefix: &str,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let (rabbit, s3) = (Rabbit::fresh().await?, S3::start().await?);
        let sim = Sim::start(Config::try_parse_from(SIM)?).await?;
        let credentials = s3.credentials();
        let own = [
            ("admin.listen", "127.0.0.1:0"),
            ("broker.url", &rabbit.url()),
            ("broker.lanes", "1"),
            ("redis.url", redis_url),
            ("redis.prefix", prefix),
            ("redis.epoch_age_min_s", "0"),
            ("s3.endpoint", &s3.endpoint()),
            ("s3.bucket", s3.bucket()),
            ("s3.region", &credentials.region),
            ("s3.access_key_id", &credentials.access_key),
            ("s3.secret_access_key", &credentials.secret_key),
            ("s3.path_style", "true"),
            ("tokens.keys", TOKEN_KEY),
            ("runpod.base_url", &sim.base_url()),
            ("runpod.api_key", CLIENT_KEY),
        ];
        let pairs = own.iter().chain(settings);
        let variable =
            |path: &str| format!("PHOTOFINISH__{}", path.replace('.', "__").to_uppercase());
        let env: BTreeMap<String, String> = pairs
            .map(|(path, value)| (variable(path), (*value).to_owned()))
            .collect();
        let (tasks, health) = (Tasks::new(Shutdown::new()), Health::new());
        let broker = broker_settings(rabbit.url(), settings)?;
        let broker = Broker::connect(&broker, "test", &tasks, &health)?;
        let jobstore = photofinish_jobstore::Settings {
            url: redis_url.to_owned().into(),
            prefix: prefix.to_owned(),
            epoch_age_min: Duration::ZERO,
            ..photofinish_jobstore::Settings::default()
        };
        let objects = photofinish_objects::Settings {
            endpoint: s3.endpoint(),
            public_endpoint: String::new(),
            bucket: s3.bucket().to_owned(),
            region: credentials.region.clone(),
            access_key_id: credentials.access_key.clone(),
            secret_access_key: credentials.secret_key.clone(),
            prefix: String::new(),
            path_style: true,
            request_timeout: Duration::from_secs(20),
            ..photofinish_objects::Settings::default()
        };
        Ok(Self {
            broker,
            jobstore: JobStore::connect(&jobstore)?,
            objects: Objects::connect(&objects)?,
            tenant: "acme".parse()?,
            sim,
            processes: BTreeMap::new(),
            admin: BTreeMap::new(),
            env,
            dir: tempfile::tempdir()?,
            tasks,
            _rabbit: rabbit,
            _s3: s3,
        })
    }

    /// Starts one of our programs and waits until it is ready.
    pub async fn start(&mut self, name: &'static str) -> anyhow::Result<()> {
        let mut spec = ProcessSpec::service(name, self.dir.path())?;
        let sections: &[&str] = if name == "photofinish-dispatcher" {
            &["FETCHER", "OUTBOUND", "RUNPOD__PROXY_URL"]
        } else {
            &[
                "PLAN",
                "RUNPOD__ENDPOINT_ID",
                "RUNPOD__FURTHER_ENDPOINTS",
                "RUNPOD__WORKERS_MAX",
                "RUNPOD__BACKLOG",
                "USAGE",
                "RUNPOD__EXECUTION",
                "RACE",
                "DISPATCHER",
                "ATTEMPTS",
            ]
        };
        for (variable, value) in &self.env {
            let others = |section: &&str| variable.starts_with(&format!("PHOTOFINISH__{section}"));
            if !sections.iter().any(others) {
                spec = spec.env(variable, value);
            }
        }
        if name == "photofinish-dispatcher" {
            spec = spec.env("PHOTOFINISH__RUNPOD__ENDPOINT_ID", ENDPOINT);
        }
        let (process, ports) = Process::start_ready(spec, SOON).await?;
        let url = format!("http://{}/readyz", ports["admin"]);
        let http = photofinish_kit::client()?;
        let ready = wait_for(SOON, "it is ready", || async {
            let answer = http.get(&url).send().await.ok()?;
            answer.status().is_success().then_some(())
        });
        let ready = ready.await;
        ready.with_context(|| process.log_tail())?;
        self.processes.insert(name, process);
        self.admin
            .insert(name, format!("http://{}", ports["admin"]));
        Ok(())
    }

    /// What a process tells of itself in numbers.
    pub async fn metrics(&self, name: &'static str) -> anyhow::Result<String> {
        let call = photofinish_kit::client()?.get(format!("{}/metrics", self.admin[name]));
        Ok(call.send().await?.error_for_status()?.text().await?)
    }

    /// What the processes have logged, for a test that fails.
    pub fn logs(&self) -> String {
        let tails = self.processes.iter();
        let tails = tails.map(|(name, process)| format!("--- {name}\n{}\n", process.log_tail()));
        tails.collect()
    }

    /// Admits a job of so many pictures, as ingest does; gives its id.
    pub async fn submit(&self, items: usize, deadline_s: u32) -> anyhow::Result<JobId> {
        let accepted = self.accepted(items, deadline_s);
        self.publish(&PlanMessage::JobAccepted(accepted.clone()))
            .await?;
        Ok(accepted.job)
    }

    /// The message of a job, not sent.
    pub fn accepted(&self, items: usize, deadline_s: u32) -> JobAccepted {
        let images = (0..items).map(|at| Image {
            id: format!("image{}", at + 1),
            image_url: format!("http://127.0.0.1:9/{at}.jpg"),
            duration_s: 1.0,
            motion: Motion::ZoomIn,
        });
        let request = JobRequest {
            task: Task::Img2vid(Img2vid {
                frame_rate: 30.0,
                width: 640,
                height: 360,
                fit: Fit::Cover,
                on_item_error: OnItemError::Fail,
                images: images.collect(),
            }),
            webhook_url: None,
            priority: Priority::Normal,
            deadline_s,
            metadata: None,
        };
        JobAccepted {
            job: JobId::from_random(uuid::Uuid::new_v4().as_u128()),
            tenant: self.tenant.clone(),
            accepted_at: now(),
            body_sha256: "0".repeat(64),
            request: RequestRef::Inline(Box::new(request)),
            rate: None,
        }
    }

    pub async fn command(&self, job: &JobId, run: u32, command: Command) -> anyhow::Result<()> {
        let message = JobCommand {
            job: job.clone(),
            tenant: self.tenant.clone(),
            run,
            command,
        };
        self.publish(&PlanMessage::JobCommand(message)).await
    }

    pub async fn publish(&self, message: &PlanMessage) -> anyhow::Result<()> {
        let route = match message {
            PlanMessage::JobAccepted(_) => Route::JobAccepted,
            PlanMessage::JobCommand(_) => Route::JobCommand,
        };
        let outgoing = Outgoing::json(Target::Pipeline(route), message)?;
        Ok(self.broker.publisher().publish(outgoing).await?)
    }

    /// What the emulator knows.
    pub async fn sim_state(&self) -> anyhow::Result<Value> {
        let url = format!("http://{}/_sim/state", self.sim.addr());
        Ok(photofinish_kit::client()?
            .get(url)
            .send()
            .await?
            .json()
            .await?)
    }

    /// RunPod's jobs, whatever became of them.
    pub async fn sim_jobs(&self) -> anyhow::Result<Vec<Value>> {
        let state = self.sim_state().await?;
        Ok(state["jobs"].as_array().cloned().unwrap_or_default())
    }

    /// The next calls of an operation are answered so.
    pub async fn fault(&self, fault: Value) -> anyhow::Result<()> {
        let url = format!("http://{}/_sim/faults", self.sim.addr());
        let answer = photofinish_kit::client()?
            .post(url)
            .json(&fault)
            .send()
            .await?;
        anyhow::ensure!(answer.status().is_success(), "{}", answer.text().await?);
        Ok(())
    }

    /// Waits for RunPod's status of the only job.
    pub async fn sim_status(&self, status: &str) -> anyhow::Result<Value> {
        let found = wait_for(SOON, status, || async {
            let jobs = self.sim_jobs().await.ok()?;
            jobs.into_iter().find(|job| job["status"] == status)
        });
        found.await.with_context(|| self.logs())
    }

    /// Takes the next job, as a worker.
    pub async fn take(&self) -> anyhow::Result<Taken> {
        let url = format!("{}/{ENDPOINT}/job-take/{WORKER}", self.sim.base_url());
        let http = photofinish_kit::client()?;
        let taken = wait_for(SOON, "a job for the worker", || async {
            let call = http.get(&url).bearer_auth(WORKER_KEY).send();
            call.await.ok()?.json::<Value>().await.ok()
        });
        let job = taken.await.with_context(|| self.logs())?;
        Ok(Taken {
            id: job["id"].as_str().context("an id")?.to_owned(),
            input: serde_json::from_value(job["input"].clone())?,
        })
    }

    /// Progress or a result of a taken job, as RunPod's worker sends it.
    pub async fn tell_runpod(&self, job: &str, body: Value) -> anyhow::Result<()> {
        let url = format!("{}/{ENDPOINT}/job-done/{WORKER}/{job}", self.sim.base_url());
        let call = photofinish_kit::client()?
            .post(url)
            .bearer_auth(WORKER_KEY)
            .json(&body)
            .send();
        let answer = call.await?;
        anyhow::ensure!(answer.status().is_success(), "{}", answer.text().await?);
        Ok(())
    }

    /// Ends a taken job with an error.
    pub async fn fail_job(&self, job: &str) -> anyhow::Result<()> {
        self.tell_runpod(job, json!({"error": "on purpose"})).await
    }

    /// Waits for the end of a run, and until the run is closed.
    pub async fn end(&self, job: &JobId, run: u32) -> anyhow::Result<JobSnapshot> {
        let closed = wait_for(SOON, "the run is closed", || async {
            let end = self.objects.end(&self.tenant, job, run).await.ok()??;
            let open = self.objects.is_open(&self.tenant, job, run).await.ok()?;
            (!open).then_some(end)
        });
        closed.await.with_context(|| self.logs())
    }
}

/// As many lanes as the processes are told of, else one.
fn broker_settings(
    url: String,
    settings: &[(&str, &str)],
) -> anyhow::Result<photofinish_broker::Settings> {
    let mut broker = photofinish_broker::Settings::new(url);
    let lanes = settings.iter().find(|(path, _)| *path == "broker.lanes");
    broker.lanes = lanes.map_or(Ok(1), |(_, lanes)| lanes.parse())?;
    Ok(broker)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test plays ingest, which stamps a job"
)]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// So long after now.
pub fn in_seconds(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}
