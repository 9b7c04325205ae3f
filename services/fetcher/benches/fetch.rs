//! The whole fetcher as a process against `curl`, in turn in one run, over the same worker's port and the
//! same S3 server, all on loopback.
//!
//! | figure | what | goal |
//! |---|---|---|
//! | `fetch_small_latency_ratio` | 1 MB: announced → stored, recorded and acknowledged to the worker | ≤ 1.0 |
//! | `fetch_200mb_wall_ratio` | 200 MB: the same | ≤ 0.6 |
//! | `fetch_peak_mib_per_pull` | growth of the fetcher's peak memory while the 200 MB pass | ≤ 24 |
//!
//! The other side is what a person would do: `curl` downloads the file to disk, `curl -T` uploads it to a presigned
//! address. Ours begins with a worker's signal on its way through RabbitMQ. A ratio compares the best of each side.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a benchmark has no runtime of ours, and one that cannot go on has failed"
)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use photofinish_broker::{Broker, Outgoing, Route, Target};
use photofinish_contract::announcement::{Announcement, AnnouncementKind, ReadyOutput, Spent};
use photofinish_contract::messages::{Heard, PartSubmitted, Signal, WatchState};
use photofinish_jobstore::JobStore;
use photofinish_kit::measure::{Figure, Goal, record};
use photofinish_kit::{Process, ProcessSpec, Rabbit, Redis, S3, wait_for};
use photofinish_model::{
    AttemptRef, ItemIndex, ItemRow, ItemState, JobId, JobSnapshot, JobStatus, Nonce, OnItemError,
    Operation, Priority, Usage,
};
use photofinish_objects::Objects;
use photofinish_runtime::{Health, Shutdown, Tasks};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::process::Command;
use tokio::sync::Notify;
use tokio_util::io::ReaderStream;

const SMALL_BYTES: usize = 1_000_000;
const LARGE_BYTES: usize = 200_000_000;
const SMALL_ROUNDS: u16 = 30;
const LARGE_ROUNDS: u16 = 6;
const SOON: Duration = Duration::from_secs(60);
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const WORKER: &str = "w1";

/// The files of a worker; each piece is read as our worker reads it.
#[derive(Debug, Default)]
struct Files {
    by_name: Mutex<BTreeMap<String, PathBuf>>,
    /// One of them was acknowledged.
    acknowledged: Notify,
}

async fn acknowledge(State(files): State<Arc<Files>>) -> StatusCode {
    files.acknowledged.notify_one();
    StatusCode::NO_CONTENT
}

async fn output(
    State(files): State<Arc<Files>>,
    Path((_, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    if headers.contains_key(header::RANGE) {
        return StatusCode::RANGE_NOT_SATISFIABLE.into_response();
    }
    let path = files.by_name.lock().unwrap()[&name].clone();
    let file = tokio::fs::File::open(path).await.unwrap();
    let length = file.metadata().await.unwrap().len();
    let pieces = ReaderStream::with_capacity(file, 128 * 1024);
    let head = [(header::CONTENT_LENGTH, length)];
    (head, Body::from_stream(pieces)).into_response()
}

async fn status(Path((_, id)): Path<(String, String)>) -> Json<Value> {
    Json(json!({"id": id, "status": "IN_PROGRESS", "workerId": WORKER}))
}

/// The worker's port, behind RunPod's proxy, and RunPod's API.
async fn serve(files: Arc<Files>) -> anyhow::Result<String> {
    let router = Router::new()
        .route("/w1/attempts/{nonce}", get(async || StatusCode::OK))
        .route(
            "/w1/attempts/{nonce}/outputs/{name}",
            get(output).delete(acknowledge),
        )
        .route("/{endpoint}/status/{id}", get(status))
        .with_state(files);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(format!("http://{addr}"))
}

struct Scene {
    base: String,
    attempt: AttemptRef,
    files: Arc<Files>,
    outputs: Vec<ReadyOutput>,
    objects: Objects,
    broker: Broker,
    fetcher: Process,
    dir: tempfile::TempDir,
    tasks: Tasks,
    _rabbit: Rabbit,
    _s3: S3,
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.tasks.shutdown().cut();
    }
}

impl Scene {
    async fn open(items: u16) -> anyhow::Result<Self> {
        photofinish_kit::install_crypto();
        let dir = tempfile::tempdir()?;
        let files = Arc::new(Files::default());
        let base = serve(files.clone()).await?;
        let (rabbit, s3, redis) = (Rabbit::fresh().await?, S3::start().await?, Redis::fresh()?);
        let (tasks, health) = (Tasks::new(Shutdown::new()), Health::new());
        let mut settings = photofinish_broker::Settings::new(rabbit.url());
        settings.lanes = 1;
        let broker = Broker::connect(&settings, "bench", &tasks, &health)?;
        let attempt = attempt();
        let jobstore = JobStore::connect(&photofinish_jobstore::Settings {
            url: redis.url.clone().into(),
            prefix: redis.prefix.clone(),
            ..photofinish_jobstore::Settings::default()
        })?;
        let _created = jobstore.create(&snapshot(&attempt, items)).await?;
        let fetcher = fetcher(dir.path(), &base, &rabbit, &redis, &s3).await?;
        Ok(Self {
            base,
            attempt,
            files,
            outputs: Vec::new(),
            objects: objects(&s3)?,
            broker,
            fetcher,
            dir,
            tasks,
            _rabbit: rabbit,
            _s3: s3,
        })
    }

    /// Puts the attempt into the fetcher's hands and waits until it is watched.
    async fn submit(&self, items: u16) -> anyhow::Result<()> {
        let message = PartSubmitted {
            attempt: self.attempt.clone(),
            endpoint: "ep".to_owned(),
            runpod_id: Some("run-1".to_owned().try_into()?),
            operation: Operation::Img2vid,
            items: (0..items).collect(),
            submitted_at: jiff::Timestamp::now(),
            budget_s: 3600.0,
            fails_at_once: false,
            state: None,
            watch: WatchState::default(),
        };
        let outgoing = Outgoing::json(Target::Pipeline(Route::PartSubmitted), &message)?;
        self.broker.publisher().publish(outgoing).await?;
        Ok(())
    }

    /// A file on the worker, of its own content.
    fn render(&mut self, index: ItemIndex, bytes: usize) -> anyhow::Result<()> {
        let mut content = noise(bytes);
        content[..2].copy_from_slice(&index.to_be_bytes());
        let name = format!("{index:04}-i{index}.mp4");
        let path = self.dir.path().join(&name);
        std::fs::write(&path, &content)?;
        self.files
            .by_name
            .lock()
            .unwrap()
            .insert(name.clone(), path);
        self.outputs.push(ReadyOutput {
            index,
            item: format!("i{index}"),
            name,
            bytes: bytes as u64,
            sha256: hex::encode(Sha256::digest(&content)),
            duration_s: 1.0,
            encoder: None,
            render_s: None,
        });
        Ok(())
    }

    /// Announces the newest output and waits until the worker is told that it is stored.
    async fn ours(&self) -> anyhow::Result<Duration> {
        let announcement = Announcement {
            kind: AnnouncementKind::Ready,
            run_id: "run-1".to_owned(),
            nonce: self.attempt.nonce.clone(),
            worker_id: WORKER.to_owned(),
            boot: "b".to_owned(),
            addresses: Vec::new(),
            outputs: self.outputs.clone(),
            rescued: Vec::new(),
            errors: Vec::new(),
            rendering: Vec::new(),
            spent: Spent::default(),
            nothing_pushed: false,
        };
        let signal = Signal {
            attempt: self.attempt.clone(),
            heard: Heard::Announcement(Box::new(announcement)),
        };
        let begun = Instant::now();
        let outgoing = Outgoing::json(Target::Signals, &signal)?;
        self.broker.publisher().publish(outgoing).await?;
        let acknowledged = self.files.acknowledged.notified();
        let acknowledged = tokio::time::timeout(SOON, acknowledged).await;
        acknowledged.with_context(|| self.fetcher.log_tail())?;
        Ok(begun.elapsed())
    }

    /// Downloads the newest output and uploads it, as a person would.
    async fn curl(&self, round: u16) -> anyhow::Result<Duration> {
        let output = self.outputs.last().context("an output")?;
        let upload = self
            .objects
            .presign_upload_put(&self.attempt.tenant, &format!("{round}"), SOON, SOON)
            .await?;
        let url = format!(
            "{}/w1/attempts/{}/outputs/{}",
            self.base, self.attempt.nonce, output.name
        );
        let file = self.dir.path().join("curl.mp4");
        let begun = Instant::now();
        let mut download = Command::new("curl");
        download.args(["-sfo"]).arg(&file).arg(&url);
        anyhow::ensure!(download.status().await?.success(), "curl downloads");
        let mut put = Command::new("curl");
        put.args(["-sfT"]).arg(&file).arg(&upload.put_url);
        anyhow::ensure!(put.status().await?.success(), "curl uploads");
        Ok(begun.elapsed())
    }

    /// Both sides in turn; the best of each in seconds.
    async fn race(&mut self, from: u16, rounds: u16, bytes: usize) -> anyhow::Result<(f64, f64)> {
        let (mut ours, mut theirs) = (Duration::MAX, Duration::MAX);
        for round in from..from + rounds {
            self.render(round, bytes)?;
            ours = ours.min(self.ours().await?);
            theirs = theirs.min(self.curl(round).await?);
        }
        Ok((ours.as_secs_f64(), theirs.as_secs_f64()))
    }
}

async fn fetcher(
    dir: &std::path::Path,
    base: &str,
    rabbit: &Rabbit,
    redis: &Redis,
    s3: &S3,
) -> anyhow::Result<Process> {
    let credentials = s3.credentials();
    let settings = [
        ("admin.listen", "127.0.0.1:0".to_owned()),
        ("broker.url", rabbit.url()),
        ("broker.lanes", "1".to_owned()),
        ("redis.url", redis.url.clone()),
        ("redis.prefix", redis.prefix.clone()),
        ("s3.endpoint", s3.endpoint()),
        ("s3.bucket", s3.bucket().to_owned()),
        ("s3.access_key_id", credentials.access_key.clone()),
        ("s3.secret_access_key", credentials.secret_key.clone()),
        ("tokens.keys", KEY.to_owned()),
        ("runpod.base_url", base.to_owned()),
        ("runpod.api_key", "key".to_owned()),
        ("runpod.proxy_url", format!("{base}/{{worker}}")),
    ];
    let mut spec = ProcessSpec::service("photofinish-fetcher", dir)?;
    for (path, value) in settings {
        let variable = path.replace('.', "__").to_uppercase();
        spec = spec.env(&format!("PHOTOFINISH__{variable}"), value);
    }
    let (process, ports) = Process::start_ready(spec, SOON).await?;
    let url = format!("http://{}/readyz", ports["admin"]);
    let http = photofinish_kit::client()?;
    wait_for(SOON, "the fetcher is ready", || async {
        let answer = http.get(&url).send().await.ok()?;
        answer.status().is_success().then_some(())
    })
    .await
    .with_context(|| process.log_tail())?;
    Ok(process)
}

fn objects(s3: &S3) -> anyhow::Result<Objects> {
    let credentials = s3.credentials().clone();
    Ok(Objects::connect(&photofinish_objects::Settings {
        endpoint: s3.endpoint(),
        public_endpoint: String::new(),
        bucket: s3.bucket().to_owned(),
        region: credentials.region,
        access_key_id: credentials.access_key,
        secret_access_key: credentials.secret_key,
        prefix: String::new(),
        path_style: true,
        request_timeout: Duration::from_secs(20),
        ..photofinish_objects::Settings::default()
    })?)
}

fn attempt() -> AttemptRef {
    AttemptRef {
        tenant: "acme".parse().unwrap(),
        job: JobId::from_random(uuid::Uuid::new_v4().as_u128()),
        run: 1,
        part: 0,
        attempt: 1,
        nonce: Nonce::from_random(uuid::Uuid::new_v4().as_u128()),
    }
}

fn snapshot(attempt: &AttemptRef, items: u16) -> JobSnapshot {
    let now = jiff::Timestamp::now();
    JobSnapshot {
        job: attempt.job.clone(),
        tenant: attempt.tenant.clone(),
        run: 1,
        operation: Operation::Img2vid,
        priority: Priority::Normal,
        status: JobStatus::Running,
        created_at: now,
        started_at: Some(now),
        finished_at: None,
        deadline_at: now + jiff::SignedDuration::from_hours(2),
        on_item_error: OnItemError::Skip,
        items: (0..items)
            .map(|index| ItemRow {
                index,
                item: format!("i{index}"),
                state: ItemState::Pending,
            })
            .collect(),
        parts: 1,
        forecast: photofinish_model::estimate::Forecast::default(),
        error: None,
        usage: Usage::default(),
        metadata: None,
        receivers: None,
        outputs_deleted_at: None,
        body_sha256: "00".repeat(32),
    }
}

/// Bytes that do not repeat soon.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = (0..bytes.div_ceil(8)).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    let mut noise: Vec<u8> = words.collect();
    noise.truncate(bytes);
    noise
}

/// `VmHWM` of a process in MiB: the most memory that it ever held.
fn peak_mib(pid: u32) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.context("VmHWM")?.parse::<f64>()? / 1024.0)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let items = SMALL_ROUNDS + LARGE_ROUNDS;
    let mut scene = Scene::open(items).await?;
    scene.submit(items).await?;
    let (ours, theirs) = scene.race(0, SMALL_ROUNDS, SMALL_BYTES).await?;
    let small = ours / theirs;
    let small_against = format!(
        "best of {SMALL_ROUNDS}: from the signal, through RabbitMQ, to the acknowledgement of what is stored {:.1} ms; curl download then curl upload {:.1} ms",
        ours * 1e3,
        theirs * 1e3
    );
    let before = peak_mib(scene.fetcher.pid())?;
    let (ours, theirs) = scene.race(SMALL_ROUNDS, LARGE_ROUNDS, LARGE_BYTES).await?;
    let growth = peak_mib(scene.fetcher.pid())? - before;
    let figure = |name, value, unit, most, against: String| Figure {
        name,
        value,
        unit,
        goal: Goal::AtMost(most),
        against,
    };
    record(&[
        figure("fetch_small_latency_ratio", small, "x", 1.0, small_against),
        figure(
            "fetch_200mb_wall_ratio",
            ours / theirs,
            "x",
            0.6,
            format!(
                "best of {LARGE_ROUNDS}: {:.0} ms; curl download then curl upload {:.0} ms; the same worker's port and S3 server",
                ours * 1e3,
                theirs * 1e3
            ),
        ),
        figure(
            "fetch_peak_mib_per_pull",
            growth,
            "MiB",
            24.0,
            format!(
                "growth of the whole process's VmHWM over {LARGE_ROUNDS} pulls of 200 MB, one at a time"
            ),
        ),
    ])
}
