//! The two long polls: for jobs to do, and for jobs to stop.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::Shared;
use super::calls::Polled;
use super::job::{Handler, Taken, do_job, refuse_job};

/// A poll that answers earlier than this without a job was not held: without a pause it would
/// be asked a thousand times a second.
const HELD_MIN: Duration = Duration::from_millis(500);

/// First pause after a fault or a poll that was not held.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// Longest pause, before jitter, while polls are not held: a job may be there at any moment.
const NOT_HELD_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Pause after a 429 that names none, before jitter.
const SLOWER_PAUSE: Duration = Duration::from_secs(5);

/// A wait that RunPod asks for is believed up to this.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(1);

/// Takes and does jobs until `shutdown` or a refresh, then drains.
pub(super) async fn take_jobs<H: Handler>(
    shared: &Arc<Shared>,
    handler: Arc<H>,
    shutdown: CancellationToken,
) {
    let mut jobs = JoinSet::new();
    let abandon = CancellationToken::new();
    let mut pauses = Pauses::new(shared.settings.backoff_max);
    let refresh = &shared.refresh.due;
    while !shutdown.is_cancelled() && !refresh.is_cancelled() {
        while let Some(ended) = jobs.try_join_next() {
            log_join(ended);
        }
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            () = refresh.cancelled() => break,
            () = shared.registry.below(shared.settings.concurrency) => {}
        }
        let Some((polled, asked_at)) = poll_once(shared, &shutdown).await else {
            break;
        };
        let stopping = shutdown.is_cancelled();
        let pause = match polled {
            Polled::Json(value) => {
                let taken = enter(shared, value);
                let pause = if taken.is_empty() {
                    pauses.not_held(asked_at)
                } else {
                    pauses.reset()
                };
                for taken in taken {
                    let span = tracing::info_span!("job", requestId = taken.held.job_id);
                    let shared = Arc::clone(shared);
                    if stopping {
                        jobs.spawn(refuse_job(shared, taken.held).instrument(span));
                    } else {
                        let (shutdown, abandon) = (shutdown.clone(), abandon.clone());
                        let handler = Arc::clone(&handler);
                        let work = do_job(shared, handler, taken, shutdown, abandon);
                        jobs.spawn(work.instrument(span));
                    }
                }
                pause
            }
            other @ (Polled::Nothing | Polled::Slower(_) | Polled::Cut | Polled::Fault(_)) => {
                pauses.after(&other, asked_at, "job-take")
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = refresh.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
    drain(shared, jobs, &shutdown, &abandon).await;
}

/// One poll, sized to the free slots. After the shutdown signal it gets a short grace, since a
/// job that is on its way would be lost with it. `None`: ended without an answer.
async fn poll_once(shared: &Shared, shutdown: &CancellationToken) -> Option<(Polled, Instant)> {
    let held = shared.registry.len();
    let free = shared.settings.concurrency.saturating_sub(held);
    let wanted = shared.refresh.room(free).max(1);
    let asked_at = Instant::now();
    let poll = shared.calls.poll(shared.env.take_url(wanted, held > 0));
    let grace = async {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = shared.refresh.due.cancelled() => {}
        }
        tokio::time::sleep(shared.settings.take_grace).await;
    };
    tokio::select! {
        biased;
        polled = poll => Some((polled, asked_at)),
        () = grace => None,
    }
}

/// Enters what a poll brought into the registry: one job or a list of them. What is no job, or is
/// here already, harms none of the others.
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
                requestId = id,
                "job handed out again while it runs here, left alone"
            );
            continue;
        };
        shared.refresh.took();
        let input = element.get_mut("input").map(Value::take);
        tracing::info!(requestId = id, "job taken");
        taken.push(Taken {
            held,
            input,
            since: Instant::now(),
        });
    }
    taken
}

/// Awaits the jobs. From the shutdown signal on they have so much time: then their handlers are
/// dropped, and the posts of that awaited.
async fn drain(
    shared: &Shared,
    mut jobs: JoinSet<()>,
    shutdown: &CancellationToken,
    abandon: &CancellationToken,
) {
    let all = async {
        while let Some(ended) = jobs.join_next().await {
            log_join(ended);
        }
    };
    tokio::pin!(all);
    let too_long = async {
        shutdown.cancelled().await;
        tokio::time::sleep(shared.settings.drain_max).await;
    };
    tokio::select! {
        () = &mut all => return,
        () = too_long => abandon.cancel(),
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
    let Some(url) = shared.env.stop_url() else {
        tracing::warn!("RUNPOD_WEBHOOK_GET_JOB has no /job-take/: cancels will not be heard");
        return;
    };
    let mut pauses = Pauses::new(shared.settings.backoff_max);
    loop {
        let asked_at = Instant::now();
        let polled = tokio::select! {
            polled = shared.calls.poll(url.clone()) => polled,
            () = ended.cancelled() => return,
        };
        let pause = match polled {
            Polled::Json(value) if stop_listed(&shared, &value) => pauses.reset(),
            Polled::Json(_) => pauses.not_held(asked_at),
            other @ (Polled::Nothing | Polled::Slower(_) | Polled::Cut | Polled::Fault(_)) => {
                pauses.after(&other, asked_at, "job-stop")
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = ended.cancelled() => return,
        }
    }
}

/// Whether any id was listed that this worker holds and had not been told of.
fn stop_listed(shared: &Shared, value: &Value) -> bool {
    let ids = value["jobsToStop"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let mut any = false;
    for id in ids.iter().filter_map(Value::as_str) {
        if shared.registry.cancel(id) {
            tracing::info!(requestId = id, "job stopped by runpod");
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

    /// None, and the next one is short again.
    fn reset(&mut self) -> Duration {
        self.next = PAUSE_MIN;
        Duration::ZERO
    }

    /// After an answer without anything to do: none if the server had held the poll.
    fn not_held(&mut self, asked_at: Instant) -> Duration {
        if asked_at.elapsed() >= HELD_MIN {
            self.reset()
        } else {
            self.longer(NOT_HELD_PAUSE_MAX)
        }
    }

    /// After a poll that brought no document.
    fn after(&mut self, polled: &Polled, asked_at: Instant, what: &'static str) -> Duration {
        match polled {
            Polled::Json(_) | Polled::Cut => self.reset(),
            Polled::Nothing => self.not_held(asked_at),
            Polled::Slower(Some(wait)) => super::jittered(PAUSE_MIN) + (*wait).min(RETRY_AFTER_MAX),
            Polled::Slower(None) => super::jittered(SLOWER_PAUSE),
            Polled::Fault(fault) => {
                tracing::warn!(fault, "{what} failed");
                self.longer(self.max)
            }
        }
    }

    fn longer(&mut self, max: Duration) -> Duration {
        let pause = self.next.min(max);
        self.next = (pause * 2).min(max);
        super::jittered(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_second_without_a_job_and_to_the_limit_after_faults() {
        let max = Duration::from_secs(10);
        let mut pauses = Pauses::new(max);
        let idle: Vec<Duration> = (0..50).map(|_| pauses.not_held(Instant::now())).collect();
        assert!(idle[0] <= PAUSE_MIN * 3 / 2);
        assert!(
            idle.iter()
                .all(|pause| *pause <= NOT_HELD_PAUSE_MAX * 3 / 2)
        );
        let in_a_minute: Duration = idle.iter().sum();
        assert!(
            in_a_minute > Duration::from_secs(30),
            "50 polls in {in_a_minute:?}"
        );
        let fault = Polled::Fault("x".to_owned());
        let after: Vec<Duration> = (0..50)
            .map(|_| pauses.after(&fault, Instant::now(), "job-take"))
            .collect();
        let most = after.iter().max().copied().unwrap_or_default();
        assert!(
            most > Duration::from_secs(5) && most <= max * 3 / 2,
            "{most:?}"
        );
        let held = Instant::now().checked_sub(HELD_MIN);
        assert_eq!(
            pauses.not_held(held.unwrap_or_else(Instant::now)),
            Duration::ZERO
        );
        assert!(
            pauses.not_held(Instant::now()) <= PAUSE_MIN * 3 / 2,
            "short again"
        );
    }
}
