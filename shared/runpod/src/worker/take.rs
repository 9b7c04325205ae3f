//! The two long polls: for jobs to do, and for jobs to stop.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::calls::Polled;
use super::job::{Handler, Taken, do_job, refuse_job};

/// A poll that answers earlier than this without a job was not held: without a pause it would
/// be asked a thousand times a second.
const HELD_MIN: Duration = Duration::from_millis(500);

/// First pause after a fault or a poll that was not held.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// Pause after a 429.
const SLOWER_PAUSE: Duration = Duration::from_secs(5);

/// Takes and does jobs until `shutdown`, then drains.
pub(super) async fn take_jobs<H: Handler>(
    shared: &Arc<Shared>,
    handler: Arc<H>,
    shutdown: CancellationToken,
) {
    let mut jobs = JoinSet::new();
    let abandon = CancellationToken::new();
    let mut pauses = Pauses::new(shared.settings.backoff_max);
    while !shutdown.is_cancelled() {
        while let Some(ended) = jobs.try_join_next() {
            log_join(ended);
        }
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            () = shared.registry.below(shared.settings.concurrency) => {}
        }
        let Some((polled, asked_at)) = poll_once(shared, &shutdown).await else {
            break;
        };
        let stopping = shutdown.is_cancelled();
        let pause = match polled {
            Polled::Json(value) => {
                pauses.reset();
                for taken in enter(shared, value) {
                    if stopping {
                        jobs.spawn(refuse_job(Arc::clone(shared), taken.held));
                    } else {
                        let (shutdown, abandon) = (shutdown.clone(), abandon.clone());
                        let (shared, handler) = (Arc::clone(shared), Arc::clone(&handler));
                        jobs.spawn(do_job(shared, handler, taken, shutdown, abandon));
                    }
                }
                Duration::ZERO
            }
            Polled::Nothing if asked_at.elapsed() >= HELD_MIN => {
                pauses.reset();
                Duration::ZERO
            }
            Polled::Nothing => pauses.next(),
            Polled::Slower => SLOWER_PAUSE,
            Polled::Fault(fault) => {
                tracing::warn!(fault, "job-take failed");
                pauses.next()
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
    drain(shared, jobs, &abandon).await;
}

/// One poll, sized to the free slots. After the shutdown signal it gets a short grace, since a
/// job that is on its way would be lost with it. `None`: ended without an answer.
async fn poll_once(shared: &Shared, shutdown: &CancellationToken) -> Option<(Polled, Instant)> {
    let held = shared.registry.len();
    let free = shared.settings.concurrency.saturating_sub(held).max(1);
    let asked_at = Instant::now();
    let poll = shared.calls.poll(shared.env.take_url(free, held > 0));
    let grace = async {
        shutdown.cancelled().await;
        tokio::time::sleep(shared.settings.take_grace).await;
    };
    tokio::select! {
        biased;
        polled = poll => Some((polled, asked_at)),
        () = grace => None,
    }
}

/// Enters what a poll brought into the registry: one job or a list of them.
fn enter(shared: &Shared, value: Value) -> Vec<Taken> {
    let elements = match value {
        Value::Array(elements) => elements,
        other @ (Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Object(_)) => vec![other],
    };
    let mut taken = Vec::new();
    for mut element in elements {
        let id = element["id"]
            .as_str()
            .filter(|id| !id.is_empty())
            .map(str::to_owned);
        let Some(id) = id else {
            tracing::error!("job-take gave a job without an id, left alone");
            continue;
        };
        let Some(held) = shared.registry.enter(&id) else {
            tracing::warn!(
                job_id = id,
                "job handed out again while it runs here, left alone"
            );
            continue;
        };
        let input = element.get_mut("input").map(Value::take);
        tracing::info!(job_id = id, "job taken");
        taken.push(Taken {
            held,
            input,
            since: Instant::now(),
        });
    }
    taken
}

/// Awaits the jobs; drops their handlers when the time is over, and awaits the posts of that.
async fn drain(shared: &Shared, mut jobs: JoinSet<()>, abandon: &CancellationToken) {
    let all = async {
        while let Some(ended) = jobs.join_next().await {
            log_join(ended);
        }
    };
    tokio::pin!(all);
    tokio::select! {
        () = &mut all => return,
        () = tokio::time::sleep(shared.settings.drain_max) => abandon.cancel(),
    }
    all.await;
}

fn log_join(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "task of a job ended badly");
    }
}

/// Polls for jobs to stop and cancels their tokens.
pub(super) async fn watch_stops(shared: Arc<Shared>, ended: CancellationToken) {
    let mut pauses = Pauses::new(shared.settings.backoff_max);
    loop {
        let asked_at = Instant::now();
        let polled = tokio::select! {
            polled = shared.calls.poll(shared.env.stop_url()) => polled,
            () = ended.cancelled() => return,
        };
        let pause = match polled {
            Polled::Json(value) if stop_listed(&shared, &value) => {
                pauses.reset();
                Duration::ZERO
            }
            Polled::Json(_) | Polled::Nothing if asked_at.elapsed() >= HELD_MIN => {
                pauses.reset();
                Duration::ZERO
            }
            Polled::Json(_) | Polled::Nothing => pauses.next(),
            Polled::Slower => SLOWER_PAUSE,
            Polled::Fault(fault) => {
                tracing::warn!(fault, "job-stop failed");
                pauses.next()
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = ended.cancelled() => return,
        }
    }
}

/// Whether any id was listed that this worker holds.
fn stop_listed(shared: &Shared, value: &Value) -> bool {
    let ids = value["jobsToStop"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let mut any = false;
    for id in ids.iter().filter_map(Value::as_str) {
        if shared.registry.cancel(id) {
            tracing::info!(job_id = id, "job stopped by runpod");
            any = true;
        }
    }
    any
}

/// Doubling pauses with jitter.
#[derive(Debug)]
struct Pauses {
    next: Duration,
    max: Duration,
}

impl Pauses {
    fn new(max: Duration) -> Self {
        Self {
            next: PAUSE_MIN,
            max,
        }
    }

    fn reset(&mut self) {
        self.next = PAUSE_MIN;
    }

    fn next(&mut self) -> Duration {
        let pause = self.next.mul_f64(0.5 + rand::random::<f64>());
        self.next = (self.next * 2).min(self.max);
        pause
    }
}
