//! RunPod's own count of attempts and workers, asked for now and then.

use crate::core::Core;
use photofinish_runpod::client::{Health, Shortage};
use photofinish_runtime::error_chain;
use std::time::{Duration, Instant};

/// RunPod's own count of what is queued and running, asked for at most so often.
const HEALTH_AGE_MAX: Duration = Duration::from_secs(5);

/// A start takes a while: what lasts longer is said.
const SHORTAGE_AGE_MIN: Duration = Duration::from_secs(60);

/// RunPod's own count, and when it was asked for.
#[derive(Debug, Default)]
pub struct Reported(tokio::sync::Mutex<Option<Last>>);

#[derive(Debug, Clone, Copy)]
struct Last {
    asked_at: Instant,
    in_flight: u32,
    shortage: Option<Lack>,
}

/// Jobs wait, no worker is up.
#[derive(Debug, Clone, Copy)]
struct Lack {
    since: Instant,
    said: Option<Shortage>,
}

impl Core {
    /// Attempts in flight by RunPod's own count; 0 while it cannot be had (then ours counts alone).
    pub async fn reported(&self) -> u32 {
        let mut last = self.reported.0.lock().await;
        if let Some(last) = *last
            && last.asked_at.elapsed() < HEALTH_AGE_MAX
        {
            return last.in_flight;
        }
        let before = last.and_then(|last| last.shortage);
        let (in_flight, shortage) = match self.runpod.health(&self.config.endpoint_id).await {
            Ok(health) => {
                count(&health);
                let in_flight = u32::try_from(health.in_flight()).unwrap_or(u32::MAX);
                (in_flight, self.lack(before, health.shortage()))
            }
            Err(error) => {
                tracing::warn!(error = error_chain(&error), "ask RunPod for its counts");
                (0, before)
            }
        };
        *last = Some(Last {
            asked_at: Instant::now(),
            in_flight,
            shortage,
        });
        in_flight
    }

    /// Says once why a queue stands still, and once when it does no longer.
    fn lack(&self, before: Option<Lack>, now: Option<Shortage>) -> Option<Lack> {
        let endpoint = &self.config.endpoint_id;
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
        if lack.since.elapsed() >= SHORTAGE_AGE_MIN && lack.said != Some(now) {
            tracing::warn!(endpoint, why = now.label(), "jobs wait and no worker is up");
            lack.said = Some(now);
        }
        Some(lack)
    }
}

fn count(health: &Health) {
    let workers = [
        ("idle", health.workers.idle),
        ("initializing", health.workers.initializing),
        ("ready", health.workers.ready),
        ("running", health.workers.running),
        ("throttled", health.workers.throttled),
        ("unhealthy", health.workers.unhealthy),
    ];
    for (state, number) in workers {
        metrics::gauge!("photofinish_runpod_workers", "state" => state).set(number as f64);
    }
    metrics::gauge!("photofinish_runpod_jobs", "state" => "in_queue")
        .set(health.jobs.in_queue as f64);
    metrics::gauge!("photofinish_runpod_jobs", "state" => "in_progress")
        .set(health.jobs.in_progress as f64);
}
