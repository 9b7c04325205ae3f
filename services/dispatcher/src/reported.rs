//! RunPod's own count of attempts and workers, asked of each endpoint every few seconds, each for
//! itself: nobody waits for an endpoint that does not say.

use crate::core::Core;
use crate::endpoints::Endpoint;
use photofinish_model::endpoint::is_short;
use photofinish_runpod::client::{Health, Shortage};
use photofinish_runtime::{Shutdown, error_chain};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The pause between an answer and the next question.
const ASK: Duration = Duration::from_secs(4);
/// What an endpoint said before counts no longer when it does not answer in this time.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// What RunPod said last of each endpoint.
#[derive(Debug, Default)]
pub struct Reported(Mutex<HashMap<String, Standing>>);

impl Reported {
    /// How an endpoint stands, as far as it is known.
    pub fn of(&self, endpoint: &str) -> Standing {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(endpoint).copied().unwrap_or_default()
    }

    fn note(&self, endpoint: &str, standing: Standing) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(endpoint.to_owned(), standing);
    }
}

/// How an endpoint stands by RunPod's own word.
#[derive(Debug, Clone, Copy, Default)]
pub struct Standing {
    /// Attempts in flight; 0 while it cannot be had (then ours counts alone).
    pub in_flight: u32,
    /// What waits there is better sent elsewhere.
    pub short: bool,
}

/// Jobs wait, no worker is up.
#[derive(Debug, Clone, Copy)]
struct Lack {
    since: Instant,
    said: Option<Shortage>,
}

/// Asks one endpoint for as long as the process lives.
pub async fn run(core: Arc<Core>, endpoint: Endpoint, shutdown: Shutdown) {
    let mut since = None;
    while !shutdown.stopping() {
        if let Err(error) = core.begin_epoch(&endpoint).await {
            tracing::warn!(
                endpoint = endpoint.id,
                error = error_chain(&error),
                "begin an epoch"
            );
        }
        since = core.ask_health(&endpoint, since).await;
        tokio::select! {
            () = tokio::time::sleep(ASK) => {}
            () = shutdown.wait() => {}
        }
    }
}

impl Core {
    async fn ask_health(&self, endpoint: &Endpoint, before: Option<Lack>) -> Option<Lack> {
        let id = &endpoint.id;
        let known = self.reported.of(id);
        let asked = self.runpod.health(id);
        let why = match tokio::time::timeout(ANSWER_MAX, asked).await {
            Ok(Ok(health)) => return self.on_health(endpoint, before, &health),
            Ok(Err(error)) => error_chain(&error),
            Err(_elapsed) => "no answer in time".to_owned(),
        };
        tracing::warn!(endpoint = id, error = why, "ask RunPod for its counts");
        let unknown = Standing {
            in_flight: 0,
            ..known
        };
        self.reported.note(id, unknown);
        before
    }

    fn on_health(
        &self,
        endpoint: &Endpoint,
        before: Option<Lack>,
        health: &Health,
    ) -> Option<Lack> {
        let id = &endpoint.id;
        let known = self.reported.of(id);
        count(id, health);
        let patience = self.config.shortage_max;
        let lack = lack(id, before, health.shortage(), patience);
        let waiting = lack.map(|lack| lack.since.elapsed());
        let short = is_short(health.is_stuck(), waiting, patience);
        if short && !known.short {
            tracing::warn!(
                endpoint = id,
                "no worker for what waits, other endpoints are preferred"
            );
        } else if known.short && !short {
            tracing::info!(endpoint = id, "the endpoint is well again");
        }
        let in_flight = u32::try_from(health.in_flight()).unwrap_or(u32::MAX);
        self.reported.note(id, Standing { in_flight, short });
        if known.short && !short {
            self.work.notify_one();
        }
        lack
    }
}

/// Says once why a queue stands still, and once when it does no longer.
fn lack(
    endpoint: &str,
    before: Option<Lack>,
    now: Option<Shortage>,
    patience: Duration,
) -> Option<Lack> {
    let Some(now) = now else {
        if before.is_some_and(|lack| lack.said.is_some()) {
            tracing::info!(endpoint, "a worker is up, or nothing waits any more");
        }
        return None;
    };
    let mut lack = before.unwrap_or_else(|| Lack {
        since: Instant::now(),
        said: None,
    });
    if lack.since.elapsed() >= patience && lack.said != Some(now) {
        tracing::warn!(endpoint, why = now.label(), "jobs wait and no worker is up");
        lack.said = Some(now);
    }
    Some(lack)
}

fn count(endpoint: &str, health: &Health) {
    let workers = [
        ("idle", health.workers.idle),
        ("initializing", health.workers.initializing),
        ("ready", health.workers.ready),
        ("running", health.workers.running),
        ("throttled", health.workers.throttled),
        ("unhealthy", health.workers.unhealthy),
    ];
    let jobs = [
        ("in_queue", health.jobs.in_queue),
        ("in_progress", health.jobs.in_progress),
    ];
    for (state, number) in workers {
        metrics::gauge!("photofinish_runpod_workers", "endpoint" => endpoint.to_owned(), "state" => state)
            .set(number as f64);
    }
    for (state, number) in jobs {
        metrics::gauge!("photofinish_runpod_jobs", "endpoint" => endpoint.to_owned(), "state" => state)
            .set(number as f64);
    }
}
