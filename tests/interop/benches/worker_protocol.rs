//! Our worker against the official Python SDK's, both in this run, alternating, against the same small server.
//!
//! | ratio | from | to | goal |
//! |---|---|---|---|
//! | `worker_start_ratio` | start of the process | its first job-take | ≥ 20 |
//! | `worker_handout_to_result_ratio` | job handed out | result of an empty job | ≥ 10 |
//! | `worker_next_take_ratio` | result | next job-take | ≥ 50 |
//!
//! A ratio is the SDK's median by ours. Ours is the whole `photofinish-worker`, which for an attempt without items
//! makes its directories, announces and reports; the SDK's handler returns `{}`.
#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark has no runtime of ours"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use photofinish_interop::{SOON, attempt, python, script};
use photofinish_kit::binary;
use photofinish_kit::measure::{Figure, Goal, record};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, mpsc};

/// Starts of each worker.
const ROUNDS: usize = 7;
/// Jobs in each round.
const JOBS: usize = 5;
/// More is never open at once.
const MOMENTS_MAX: usize = 1024;
const HOLD: Duration = Duration::from_secs(20);

/// RunPod's queue with moments written down.
struct Stub {
    base: String,
    takes: mpsc::Receiver<Instant>,
    results: mpsc::Receiver<Instant>,
    jobs: mpsc::Sender<Value>,
}

struct Shared {
    takes: mpsc::Sender<Instant>,
    results: mpsc::Sender<Instant>,
    jobs: Mutex<mpsc::Receiver<Value>>,
}

impl Stub {
    async fn start() -> anyhow::Result<Self> {
        let (takes_in, takes) = mpsc::channel(MOMENTS_MAX);
        let (results_in, results) = mpsc::channel(MOMENTS_MAX);
        let (jobs, jobs_out) = mpsc::channel(MOMENTS_MAX);
        let shared = Arc::new(Shared {
            takes: takes_in,
            results: results_in,
            jobs: Mutex::new(jobs_out),
        });
        let stop = || async {
            tokio::time::sleep(HOLD).await;
            StatusCode::NO_CONTENT
        };
        let router = Router::new()
            .route("/job-take/{worker}", get(take))
            .route("/job-stop/{worker}", get(stop))
            .route("/ping/{worker}", get(|| async {}))
            .route("/job-done/{worker}/{job}", post(done))
            .with_state(shared);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let base = format!("http://{}", listener.local_addr()?);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self {
            base,
            takes,
            results,
            jobs,
        })
    }

    async fn next_take(&mut self) -> anyhow::Result<Instant> {
        let take = tokio::time::timeout(SOON, self.takes.recv()).await;
        take.context("a job-take in time")?.context("a job-take")
    }

    async fn next_result(&mut self) -> anyhow::Result<Instant> {
        let result = tokio::time::timeout(SOON, self.results.recv()).await;
        result.context("a result in time")?.context("a result")
    }
}

async fn take(State(shared): State<Arc<Shared>>) -> Response {
    let _measured = shared.takes.try_send(Instant::now());
    let job = tokio::time::timeout(HOLD, async { shared.jobs.lock().await.recv().await }).await;
    match job {
        Ok(Some(job)) => Json(job).into_response(),
        Ok(None) | Err(_) => StatusCode::NO_CONTENT.into_response(),
    }
}

async fn done(State(shared): State<Arc<Shared>>, body: String) -> StatusCode {
    let arrived = Instant::now();
    let body: Value = serde_json::from_str(&body).unwrap_or_default();
    if body["status"] != "IN_PROGRESS" {
        let _measured = shared.results.try_send(arrived);
    }
    StatusCode::OK
}

/// What was measured of one worker.
#[derive(Default)]
struct Measured {
    start: Vec<Duration>,
    handout_to_result: Vec<Duration>,
    next_take: Vec<Duration>,
}

async fn round(
    measured: &mut Measured,
    start: impl Fn(&str, &Path) -> std::io::Result<Child>,
    job: &Value,
) -> anyhow::Result<()> {
    let mut stub = Stub::start().await?;
    let dir = tempfile::tempdir()?;
    let begun = Instant::now();
    let mut worker = start(&stub.base, dir.path())?;
    measured.start.push(stub.next_take().await? - begun);
    for n in 0..JOBS {
        let mut job = job.clone();
        job["id"] = json!(format!("job-{n}-u1"));
        let handed = Instant::now();
        stub.jobs.try_send(job).context("hand out a job")?;
        let result = stub.next_result().await?;
        measured.handout_to_result.push(result - handed);
        measured
            .next_take
            .push(stub.next_take().await?.saturating_duration_since(result));
    }
    worker.kill().await?;
    Ok(())
}

fn environment(base: &str) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        (
            "RUNPOD_WEBHOOK_GET_JOB",
            format!("{base}/job-take/$ID?gpu=x"),
        ),
        (
            "RUNPOD_WEBHOOK_POST_OUTPUT",
            format!("{base}/job-done/$RUNPOD_POD_ID/$ID?gpu=x"),
        ),
        (
            "RUNPOD_WEBHOOK_POST_STREAM",
            format!("{base}/job-stream/$RUNPOD_POD_ID/$ID?gpu=x"),
        ),
        (
            "RUNPOD_WEBHOOK_PING",
            format!("{base}/ping/$RUNPOD_POD_ID?gpu=x"),
        ),
        ("RUNPOD_AI_API_KEY", "key".to_owned()),
        ("RUNPOD_POD_ID", "pod1".to_owned()),
        ("RUNPOD_ENDPOINT_ID", "ep1".to_owned()),
        ("RUNPOD_PING_INTERVAL", "10000".to_owned()),
        ("RUNPOD_SKIP_AUTO_SYSTEM_CHECKS", "true".to_owned()),
        ("RUNPOD_SKIP_GPU_CHECK", "true".to_owned()),
        ("HTTP_PORT", "0".to_owned()),
    ])
}

fn command(program: &Path, base: &str) -> Command {
    let mut command = Command::new(program);
    command
        .envs(environment(base))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    command
}

fn median(of: &[Duration]) -> f64 {
    let mut sorted = of.to_vec();
    sorted.sort();
    sorted
        .get(sorted.len() / 2)
        .map_or(0.0, |middle| middle.as_secs_f64() * 1000.0)
}

fn figure(name: &'static str, goal: f64, sdk: &[Duration], ours: &[Duration]) -> Figure {
    let (sdk, ours) = (median(sdk), median(ours));
    Figure {
        name,
        value: sdk / ours,
        unit: "x",
        goal: Goal::AtLeast(goal),
        against: format!("RunPod's Python SDK: {sdk:.2} ms, ours {ours:.3} ms (medians)"),
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (python, handler) = (python()?, script("python/empty.py"));
    let worker = binary("photofinish-worker")?;
    let (mut sdk, mut ours) = (Measured::default(), Measured::default());
    // Nothing to render, so nothing is fetched or put anywhere.
    let attempt = json!({"input": attempt("http://127.0.0.1:9", 0, 60.0)?});
    for _ in 0..ROUNDS {
        let start = |base: &str, _: &Path| command(&python, base).arg("-u").arg(&handler).spawn();
        round(&mut sdk, start, &json!({"input": {"empty": true}}))
            .await
            .context("the SDK's worker")?;
        let start = |base: &str, dir: &Path| {
            command(&worker, base)
                .env("WORK_DIR", dir.join("work"))
                .env("OUTPUT_DIR", dir.join("output"))
                .spawn()
        };
        round(&mut ours, start, &attempt)
            .await
            .context("our worker")?;
    }
    let (sdk_next, ours_next) = (&sdk.next_take, &ours.next_take);
    record(&[
        figure("worker_start_ratio", 20.0, &sdk.start, &ours.start),
        figure(
            "worker_handout_to_result_ratio",
            10.0,
            &sdk.handout_to_result,
            &ours.handout_to_result,
        ),
        figure("worker_next_take_ratio", 50.0, sdk_next, ours_next),
    ])
}
