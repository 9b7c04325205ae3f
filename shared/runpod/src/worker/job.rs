//! One job: its handler, what the handler is told, and the result that is posted.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt as _;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::progress::{ProgressSender, progress};
use super::registry::Held;
use super::result::post_result;
use super::{HANDLER_PANICKED, MISSING_INPUT, Shared, WORKER_STOPPING};

/// A job as RunPod handed it out.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// RunPod's id of the run.
    pub id: String,
    /// What the client sent as `input`.
    pub input: Value,
}

/// What a handler is given beside the job.
#[derive(Debug, Clone)]
pub struct JobContext {
    /// Tells RunPod how far the job is.
    pub progress: ProgressSender,
    /// Cancelled when RunPod stops this job: return at once, nothing will be posted. A handler
    /// that goes on is dropped after a grace.
    pub cancelled: CancellationToken,
    /// Cancelled when the worker is about to stop: save what there is and return quickly.
    pub stopping: CancellationToken,
    /// Id of this worker.
    pub worker_id: String,
    /// When the job was taken: budgets count from here.
    pub taken_at: Instant,
    /// Cancelled when this worker is to be given up for a fresh one.
    refresh: CancellationToken,
}

impl JobContext {
    /// Asks for a fresh worker: this one takes no more jobs, the last result of those in hand
    /// carries `stopPod`, and the worker's loop ends. For a GPU that misbehaves, or a leak.
    pub fn refresh_worker(&self) {
        self.refresh.cancel();
    }
}

/// Why a job failed; becomes RunPod's structured error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFailure {
    /// A stable code such as `unsupported_input`, sent as `error_type`.
    pub error_type: String,
    /// A sentence for people.
    pub message: String,
}

/// What came of a job.
#[derive(Debug, Clone, PartialEq)]
pub enum JobOutcome {
    /// The job is `COMPLETED`.
    Done {
        /// Its output.
        output: Value,
    },
    /// The job is `FAILED`.
    Failed {
        /// Why.
        failure: JobFailure,
        /// What there is all the same; shown beside the error.
        output: Option<Value>,
    },
}

impl JobOutcome {
    /// A completed job.
    pub fn done(output: Value) -> Self {
        Self::Done { output }
    }

    /// A failed job without output.
    pub fn failed(error_type: impl Into<String>, message: impl Into<String>) -> Self {
        let failure = JobFailure {
            error_type: error_type.into(),
            message: message.into(),
        };
        Self::Failed {
            failure,
            output: None,
        }
    }
}

/// Does jobs. Closures `Fn(Job, JobContext) -> impl Future<Output = JobOutcome>` are handlers.
pub trait Handler: Send + Sync + 'static {
    /// Does one job; several may run at once.
    fn handle(&self, job: Job, context: JobContext) -> impl Future<Output = JobOutcome> + Send;
}

impl<F, Fut> Handler for F
where
    F: Fn(Job, JobContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = JobOutcome> + Send,
{
    fn handle(&self, job: Job, context: JobContext) -> impl Future<Output = JobOutcome> + Send {
        self(job, context)
    }
}

/// A job in hand, entered in the registry.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) held: Held,
    /// `None` when RunPod sent no input.
    pub(super) input: Option<Value>,
    pub(super) since: Instant,
}

/// Does a job from its taking to its post. `stopping` tells the handler; `abandon` drops it.
pub(super) async fn do_job<H: Handler>(
    shared: Arc<Shared>,
    handler: Arc<H>,
    taken: Taken,
    stopping: CancellationToken,
    abandon: CancellationToken,
) {
    let Taken {
        held,
        input,
        since: taken_at,
    } = taken;
    let job_id = held.job_id.clone();
    let outcome = match input {
        None => Some(JobOutcome::failed(
            MISSING_INPUT,
            "the job came without an input",
        )),
        Some(input) => {
            let job = Job {
                id: job_id.clone(),
                input,
            };
            handle(
                &shared,
                handler.as_ref(),
                &held,
                job,
                taken_at,
                stopping,
                abandon,
            )
            .await
        }
    };
    let Some(outcome) = outcome else {
        tracing::info!(requestId = job_id, "job cancelled, nothing posted");
        metrics::counter!("photofinish_runpod_jobs_total", "outcome" => "cancelled").increment(1);
        return;
    };
    let label = match &outcome {
        JobOutcome::Done { .. } => "done",
        JobOutcome::Failed { .. } => "failed",
    };
    metrics::counter!("photofinish_runpod_jobs_total", "outcome" => label).increment(1);
    post_result(&shared, held, &outcome).await;
}

/// Posts a job that slipped in while the worker was stopping, so that it can run elsewhere.
pub(super) async fn refuse_job(shared: Arc<Shared>, held: Held) {
    tracing::warn!(
        requestId = held.job_id,
        "job came while stopping, posted as failed"
    );
    let outcome = JobOutcome::failed(WORKER_STOPPING, "the worker was stopping");
    post_result(&shared, held, &outcome).await;
}

/// Runs the handler with its progress beside it. `None`: cancelled.
async fn handle<H: Handler>(
    shared: &Shared,
    handler: &H,
    held: &Held,
    job: Job,
    taken_at: Instant,
    stopping: CancellationToken,
    abandon: CancellationToken,
) -> Option<JobOutcome> {
    // A cancelled job has nothing more to tell.
    let done = held.cancelled.child_token();
    let (sender, updates) = progress(done.clone(), shared.settings.result_bytes_max);
    let job_id = job.id.clone();
    let context = JobContext {
        progress: sender,
        cancelled: held.cancelled.clone(),
        stopping: stopping.child_token(),
        worker_id: shared.env.worker_id.clone(),
        taken_at,
        refresh: shared.refresh.due.clone(),
    };
    let work = async {
        let outcome = run_handler(shared, handler, held, job, context, abandon).await;
        done.cancel();
        outcome
    };
    // Joined, so that an update under way has ended before the result goes out.
    let (outcome, ()) = tokio::join!(work, updates.run(shared, &job_id));
    if held.cancelled.is_cancelled() {
        None
    } else {
        Some(outcome)
    }
}

async fn run_handler<H: Handler>(
    shared: &Shared,
    handler: &H,
    held: &Held,
    job: Job,
    context: JobContext,
    abandon: CancellationToken,
) -> JobOutcome {
    let work = AssertUnwindSafe(async {
        let Ok(_slot) = shared.slots.acquire().await else {
            return JobOutcome::failed(WORKER_STOPPING, "the worker was stopping");
        };
        handler.handle(job, context).await
    })
    .catch_unwind();
    let dropped = async {
        held.cancelled.cancelled().await;
        tokio::time::sleep(shared.settings.cancel_grace).await;
    };
    tokio::select! {
        biased;
        outcome = work => outcome.unwrap_or_else(|_| {
            metrics::counter!("photofinish_runpod_handler_panics_total").increment(1);
            tracing::error!(requestId = held.job_id, "handler panicked");
            JobOutcome::failed(HANDLER_PANICKED, "the worker had an internal fault")
        }),
        () = dropped => JobOutcome::failed("cancelled", "dropped after its grace"),
        () = abandon.cancelled() => {
            tracing::warn!(requestId = held.job_id, "time for stopping is over, job dropped");
            JobOutcome::failed(WORKER_STOPPING, "the worker stopped before the job had ended")
        }
    }
}
