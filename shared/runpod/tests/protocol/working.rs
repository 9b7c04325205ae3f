//! A worker of ours at a scripted server.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use photofinish_runpod::worker::{
    Handler, Job, JobContext, JobOutcome, Worker, WorkerEnv, WorkerSettings,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::server::{SOON, Seen, Server, Then};

/// How long a poll is held.
pub const HOLD: Duration = Duration::from_secs(30);

/// What a healthy server says to all but `job-take`.
pub fn healthy(seen: &Seen) -> Then {
    match seen.operation() {
        "ping" => Then::json(200, &json!({"status": "pong"})),
        "job-done" => Then::status(200),
        _ => Then::status(204).after(HOLD),
    }
}

/// Answers of one operation, one after the other; afterwards, and to all else, healthy ones.
pub fn in_turn(operation: &'static str, answers: Vec<Then>) -> impl Fn(&Seen) -> Then {
    let left = Mutex::new(answers.into_iter());
    move |seen| {
        if seen.operation() != operation {
            return healthy(seen);
        }
        left.lock().unwrap().next().unwrap_or_else(|| healthy(seen))
    }
}

/// A job as RunPod hands it out.
pub fn job(id: &str) -> Value {
    json!({"id": id, "input": {"job": id}, "webhook": "https://example.org", "delayTime": 3})
}

pub fn give(jobs: &Value) -> Then {
    Then::json(200, jobs)
}

/// The environment that a server gives, with changes.
pub fn env(server: &str, changes: &[(&str, &str)]) -> WorkerEnv {
    let mut vars = vec![
        (
            "RUNPOD_WEBHOOK_GET_JOB",
            format!("{server}/job-take/$ID?gpu=A+B"),
        ),
        (
            "RUNPOD_WEBHOOK_POST_OUTPUT",
            format!("{server}/job-done/$RUNPOD_POD_ID/$ID?gpu=A+B"),
        ),
        (
            "RUNPOD_WEBHOOK_PING",
            format!("{server}/ping/$RUNPOD_POD_ID?gpu=A+B"),
        ),
        ("RUNPOD_AI_API_KEY", "wkey".to_owned()),
        ("RUNPOD_POD_ID", "w1".to_owned()),
        ("RUNPOD_POD_HOSTNAME", "w1-host".to_owned()),
        ("RUNPOD_PING_INTERVAL", "200".to_owned()),
    ];
    vars.extend(
        changes
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned())),
    );
    WorkerEnv::from_map(vars).unwrap()
}

/// A worker at work; it ends with the test.
pub struct Working {
    pub shutdown: CancellationToken,
    run: JoinSet<()>,
}

impl Working {
    pub fn start<H: Handler>(server: &Server, settings: WorkerSettings, handler: H) -> Self {
        let worker = Worker::start(env(&server.url, &[]), settings).unwrap();
        let shutdown = CancellationToken::new();
        let mut run = JoinSet::new();
        run.spawn(worker.run(handler, shutdown.clone()));
        Self { shutdown, run }
    }

    /// Waits until the worker's loop has ended; how long that took.
    pub async fn ended(&mut self) -> Duration {
        let began = Instant::now();
        let ended = tokio::time::timeout(SOON, self.run.join_next()).await;
        ended.expect("the worker did not end").unwrap().unwrap();
        began.elapsed()
    }
}

/// Settings that do not wait long for a server which hangs.
pub fn quick() -> WorkerSettings {
    WorkerSettings {
        result_timeout: Duration::from_millis(300),
        backoff_max: Duration::from_millis(400),
        ..WorkerSettings::default()
    }
}

/// Gives back what it was given.
pub async fn echo(job: Job, _: JobContext) -> JobOutcome {
    JobOutcome::done(job.input)
}

/// A handler that waits until its job's id is let go.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<tokio::sync::watch::Sender<Vec<String>>>);

impl Gate {
    pub fn let_go(&self, id: &str) {
        self.0.send_modify(|ids| ids.push(id.to_owned()));
    }

    pub async fn pass(&self, id: &str) {
        let mut ids = self.0.subscribe();
        ids.wait_for(|ids| ids.iter().any(|let_go| let_go == id))
            .await
            .unwrap();
    }

    /// The handler.
    pub fn handler(&self) -> impl Handler {
        let gate = self.clone();
        move |job: Job, context: JobContext| {
            let gate = gate.clone();
            async move {
                tokio::select! {
                    () = gate.pass(&job.id) => JobOutcome::done(json!(job.id)),
                    () = context.cancelled.cancelled() => JobOutcome::done(json!("cancelled")),
                    () = context.stopping.cancelled() => JobOutcome::failed("stopped", "as told"),
                }
            }
        }
    }
}

/// The last path segment of a post: its job.
pub fn job_of(seen: &Seen) -> &str {
    let path = seen.target.split('?').next().unwrap();
    path.rsplit('/').next().unwrap()
}

/// The structured error in a result.
pub fn error_of(seen: &Seen) -> Value {
    let body = seen.json();
    serde_json::from_str(body["error"].as_str().unwrap()).unwrap()
}
