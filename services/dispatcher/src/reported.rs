//! RunPod's own count of attempts and workers, asked of each endpoint for itself: nobody waits for
//! an endpoint that does not say.
//!
//! It is asked every few seconds where there are several endpoints to choose from, while something
//! waits for a slot, and while the endpoint lacks workers; now and then while attempts are in
//! flight; and not at all while nothing is. What was said counts no longer when it is old: then
//! our own count of slots counts alone.

use crate::core::Core;
use crate::endpoints::Endpoint;
use crate::telemetry;
use photofinish_model::endpoint::is_short;
use photofinish_runpod::client::{Health, Shortage};
use photofinish_runtime::{Shutdown, error_chain};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The pause between an answer and the next question, while the answer decides something.
const ASK: Duration = Duration::from_secs(4);
/// The same while attempts are in flight and no decision hangs on it: a lack of workers is said.
const ASK_RARELY: Duration = Duration::from_secs(30);
/// What an endpoint said of its attempts counts for so long.
const FRESH_MAX: Duration = Duration::from_secs(10);
/// A slot that was refused so long ago is one that somebody waits for.
const REFUSED_MAX: Duration = Duration::from_secs(5);
/// What an endpoint said before counts no longer when it does not answer in this time.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// What RunPod said last of each endpoint.
#[derive(Debug, Default)]
pub struct Reported(Mutex<HashMap<String, Known>>);

#[derive(Debug, Default, Clone, Copy)]
struct Known {
    standing: Standing,
    /// When that was said.
    said: Option<Instant>,
    /// When a slot of ours was refused there.
    refused: Option<Instant>,
}

/// What speaks for asking an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Causes {
    /// Something waits for a slot there.
    waited_for: bool,
    /// It lacked workers when it was asked last.
    short: bool,
    /// Attempts of ours are in flight there.
    in_flight: bool,
    /// Another endpoint could have the next part.
    choice: bool,
}

impl Causes {
    /// How long after its last answer it is asked again; nothing: not now.
    fn pause(self) -> Option<Duration> {
        if self.waited_for || self.short || self.choice {
            Some(ASK)
        } else {
            self.in_flight.then_some(ASK_RARELY)
        }
    }
}

impl Reported {
    /// How an endpoint stands, as far as it is known.
    pub fn of(&self, endpoint: &str) -> Standing {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = known.get(endpoint) else {
            return Standing::default();
        };
        let fresh = known.said.is_some_and(|at| at.elapsed() < FRESH_MAX);
        Standing {
            in_flight: if fresh { known.standing.in_flight } else { 0 },
            ..known.standing
        }
    }

    fn note(&self, endpoint: &str, standing: Standing) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.entry(endpoint.to_owned()).or_default();
        known.standing = standing;
        known.said = Some(Instant::now());
    }

    /// A slot was refused there although something waits for one.
    pub fn refused(&self, endpoint: &str) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(endpoint.to_owned()).or_default().refused = Some(Instant::now());
    }

    fn waited_for(&self, endpoint: &str) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = known.get(endpoint).and_then(|known| known.refused);
        refused.is_some_and(|at| at.elapsed() < REFUSED_MAX)
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
    let (mut since, mut asked) = (None, None::<Instant>);
    while !shutdown.stopping() {
        if let Err(error) = core.begin_epoch(&endpoint).await {
            tracing::warn!(
                endpoint = endpoint.id,
                error = error_chain(&error),
                "begin an epoch"
            );
        }
        let pause = core.causes_to_ask(&endpoint).await.pause();
        if asked.is_none_or(|at| pause.is_some_and(|pause| at.elapsed() >= pause)) {
            since = core.ask_health(&endpoint, since).await;
            core.note_endpoint(&endpoint).await;
            asked = Some(Instant::now());
        }
        tokio::select! {
            () = tokio::time::sleep(ASK) => {}
            () = shutdown.wait() => {}
        }
    }
}

impl Core {
    async fn causes_to_ask(&self, endpoint: &Endpoint) -> Causes {
        // Unknown never means that nothing is in flight.
        let slots = self.jobstore.slots(&endpoint.id).await;
        if let Ok(taken) = &slots {
            telemetry::slots(&endpoint.id, endpoint.capacity, taken);
        }
        Causes {
            waited_for: self.reported.waited_for(&endpoint.id),
            short: self.reported.of(&endpoint.id).short,
            in_flight: slots.map_or(true, |slots| !slots.is_empty()),
            choice: self.config.endpoints.len() > 1,
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Causes = Causes {
        waited_for: false,
        short: false,
        in_flight: false,
        choice: false,
    };

    #[test]
    fn an_endpoint_is_asked_while_the_answer_decides_something() {
        let in_flight = Causes {
            in_flight: true,
            ..IDLE
        };
        assert_eq!(IDLE.pause(), None);
        assert_eq!(in_flight.pause(), Some(ASK_RARELY));
        for deciding in [
            Causes {
                choice: true,
                ..IDLE
            },
            Causes {
                waited_for: true,
                ..IDLE
            },
            Causes {
                short: true,
                ..IDLE
            },
        ] {
            assert_eq!(deciding.pause(), Some(ASK), "{deciding:?}");
        }
    }

    #[test]
    fn what_was_said_of_attempts_counts_while_it_is_fresh() {
        let reported = Reported::default();
        let said = Standing {
            in_flight: 7,
            short: true,
        };
        reported.note("ep", said);
        assert_eq!(reported.of("ep").in_flight, 7);
        let old = Instant::now().checked_sub(FRESH_MAX).unwrap();
        reported.0.lock().unwrap().get_mut("ep").unwrap().said = Some(old);
        let standing = reported.of("ep");
        assert_eq!((standing.in_flight, standing.short), (0, true));
        assert!(!reported.waited_for("ep"));
        reported.refused("ep");
        assert!(reported.waited_for("ep"));
    }
}
