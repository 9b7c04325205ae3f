//! Jobs, their handler, and the loop that takes them: RunPod's worker protocol, inside the
//! container.
//!
//! [`Worker::start`] pings at once, on a thread of its own, so that a long trial encode or model
//! load is not taken for a dead worker. [`Worker::run`] takes jobs, as many at once as there are
//! slots and never one more, and posts the result of each until it arrives or its deadline is
//! over. A cancelled job's result is never posted. After the shutdown signal nothing is taken;
//! running jobs are told through [`JobContext::stopping`] and their results still go out.
//!
//! A worker that was frozen and thawed notices, gives its dead connections up, pings and polls
//! afresh. RunPod may hand out one job twice: while it runs here the copy is left alone, later it
//! runs again, and a handler must bear that. Not for: what a job means.

mod calls;
mod env;
mod job;
mod ping;
mod progress;
mod refresh;
mod registry;
mod result;
mod take;
mod thaw;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use self::env::{EnvError, WorkerEnv};
pub use self::job::{Handler, Job, JobContext, JobFailure, JobOutcome};
pub use self::progress::ProgressSender;
pub use self::thaw::{Clocks, Reading};

use self::calls::Calls;
use self::ping::{Heart, Pinger};
use self::refresh::Refresh;
use self::registry::Registry;
use self::thaw::ThawWatch;

/// The protocol version that is told to RunPod: that of its Python SDK which we follow.
pub const PROTOCOL_VERSION: &str = "1.12.0";

/// `error_type` of a job that was handed out while the worker was stopping, or that had not
/// ended when the time for stopping was over.
pub const WORKER_STOPPING: &str = "worker_stopping";

/// `error_type` of a result above [`WorkerSettings::result_bytes_max`].
pub const RESULT_TOO_LARGE: &str = "result_too_large";

/// `error_type` of a handler that panicked.
pub const HANDLER_PANICKED: &str = "handler_panicked";

/// `error_type` of a job without an input.
pub const MISSING_INPUT: &str = "missing_input";

/// How the worker behaves; all have defaults.
#[derive(Debug, Clone)]
pub struct WorkerSettings {
    /// Jobs at once, at least 1.
    pub concurrency: usize,
    /// How long a long poll may stay open before it is begun anew.
    pub poll_timeout: Duration,
    /// Least time between two progress posts of a job.
    pub progress_interval_min: Duration,
    /// One post of a progress update.
    pub progress_timeout: Duration,
    /// One post of a result.
    pub result_timeout: Duration,
    /// How long a result is posted again and again before it is given up.
    pub result_deadline: Duration,
    /// Largest body of a result, in bytes. RunPod refuses one of 10 MB.
    pub result_bytes_max: usize,
    /// How long a cancelled job's handler may go on before it is dropped.
    pub cancel_grace: Duration,
    /// How long an open poll may still answer after the shutdown signal.
    pub take_grace: Duration,
    /// How long running jobs may go on after the shutdown signal before they are dropped and
    /// posted as failed. RunPod may kill the worker earlier, without a word.
    pub drain_max: Duration,
    /// Longest pause after repeated errors of a poll or of a post.
    pub backoff_max: Duration,
    /// Jobs after which this worker is given up for a fresh one: no more are taken, the last
    /// result carries `stopPod`, and [`Worker::run`] returns. 1: after each job. 0: never.
    pub refresh_after_jobs: u32,
    /// Least time of standing still that is taken for a freeze and a thaw.
    pub thaw_gap_min: Duration,
    /// The clocks by which a thaw is noticed.
    pub clocks: Clocks,
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self {
            concurrency: 1,
            poll_timeout: Duration::from_secs(90),
            progress_interval_min: Duration::from_millis(250),
            progress_timeout: Duration::from_secs(5),
            result_timeout: Duration::from_secs(30),
            result_deadline: Duration::from_mins(2),
            result_bytes_max: 9_000_000,
            cancel_grace: Duration::from_secs(5),
            take_grace: Duration::from_millis(250),
            drain_max: Duration::from_secs(30),
            backoff_max: Duration::from_secs(10),
            refresh_after_jobs: 0,
            thaw_gap_min: Duration::from_secs(10),
            clocks: Clocks::default(),
        }
    }
}

/// Why the worker could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The HTTP client could not be set up.
    #[error("set up the HTTP client of the worker protocol")]
    Http(#[source] reqwest::Error),
    /// The worker key has characters that no header may have.
    #[error("RUNPOD_AI_API_KEY has characters that cannot be sent in a header")]
    KeyNotAHeader,
    /// The ping thread could not be started.
    #[error("start the ping thread")]
    PingThread(#[source] std::io::Error),
}

/// A worker that pings; [`run`](Self::run) makes it take jobs. Pings end when it is dropped.
#[derive(Debug)]
pub struct Worker {
    shared: Arc<Shared>,
    pinger: Pinger,
}

/// What all tasks of one worker share.
#[derive(Debug)]
struct Shared {
    env: WorkerEnv,
    settings: WorkerSettings,
    calls: Arc<Calls>,
    registry: Registry,
    refresh: Refresh,
    slots: Arc<Semaphore>,
}

impl Worker {
    /// Starts pinging. Call it first of all in the process.
    pub fn start(env: WorkerEnv, mut settings: WorkerSettings) -> Result<Self, StartError> {
        crate::install_tls_provider();
        settings.concurrency = settings.concurrency.clamp(1, 1024);
        let calls = Arc::new(Calls::new(&env, &settings));
        let registry = Registry::default();
        let heart = Heart {
            env: env.clone(),
            registry: registry.clone(),
            calls: Arc::clone(&calls),
            thaws: ThawWatch::new(settings.clocks.clone(), settings.thaw_gap_min),
        };
        let pinger = Pinger::start(heart, || calls.open())?;
        let slots = Arc::new(Semaphore::new(settings.concurrency));
        let shared = Arc::new(Shared {
            env,
            calls,
            registry,
            refresh: Refresh::new(settings.refresh_after_jobs),
            settings,
            slots,
        });
        Ok(Self { shared, pinger })
    }

    /// Id of this worker.
    pub fn worker_id(&self) -> &str {
        &self.shared.env.worker_id
    }

    /// Takes and does jobs until `shutdown` is cancelled, then drains: the open poll is ended,
    /// running jobs are told and awaited (at most [`WorkerSettings::drain_max`]), their results
    /// posted. Returns when nothing is left to do; without a shutdown that is after a refresh
    /// ([`WorkerSettings::refresh_after_jobs`]), and the process should end.
    ///
    /// No job is lost at the end: one that comes while the open poll is ended is posted as failed
    /// with [`WORKER_STOPPING`], so that its owner runs it again; one that comes later is not read
    /// at all and never named in a ping, so that RunPod runs it again.
    pub async fn run<H: Handler>(self, handler: H, shutdown: CancellationToken) {
        let Self { shared, pinger } = self;
        let stop_polls = CancellationToken::new();
        let mut side = JoinSet::new();
        side.spawn(take::watch_stops(Arc::clone(&shared), stop_polls.clone()));
        take::take_jobs(&shared, Arc::new(handler), shutdown).await;
        // Cancels still reach the jobs that drain; nobody listens for them any longer from here.
        stop_polls.cancel();
        while side.join_next().await.is_some() {}
        pinger.stop();
        tracing::info!(worker_id = %shared.env.worker_id, "worker stopped");
    }
}

/// Half to one and a half of a pause, so that many workers do not come at once.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + rand::random::<f64>())
}
