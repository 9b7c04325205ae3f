//! How many workers there should be: started when jobs wait too long, stopped when they idle.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crate::server::Shared;
use crate::state::{Stage, State};
use crate::{Config, workers};

/// How often it looks.
const PERIOD: Duration = Duration::from_millis(50);

/// First and longest pause after workers that ended without ever having called.
const CRASH_PAUSE_MIN: Duration = Duration::from_millis(500);
const CRASH_PAUSE_MAX: Duration = Duration::from_secs(30);

/// Holds back starts while workers crash at once.
#[derive(Debug, Default)]
pub(crate) struct StartPause {
    crashes: u32,
    until: Option<Instant>,
}

impl StartPause {
    /// A worker has ended.
    pub(crate) fn ended(&mut self, had_called: bool, now: Instant) {
        if had_called {
            *self = Self::default();
            return;
        }
        self.crashes = (self.crashes + 1).min(16);
        let pause = CRASH_PAUSE_MIN * 2_u32.pow(self.crashes - 1);
        self.until = Some(now + pause.min(CRASH_PAUSE_MAX));
    }

    fn is_over(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now >= until)
    }
}

/// What to do now.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    start: usize,
    stop: Vec<String>,
}

/// Pure: one look at the queue and the workers.
fn plan(state: &State, config: &Config, now: Instant) -> Plan {
    let ours = || state.workers().filter(|(_, worker)| worker.ours);
    let free = state
        .workers()
        .filter(|(_, worker)| worker.stage == Stage::Initializing || worker.is_idle())
        .count();
    let alive = ours().count();
    let staying = ours()
        .filter(|(_, worker)| worker.stage != Stage::Stopping)
        .count();
    let wanted = state.waiting(config.queue_delay, now).saturating_sub(free);
    let below_min = config.workers_min.saturating_sub(staying);
    let room = config
        .workers_max
        .max(config.workers_min)
        .saturating_sub(alive);
    let mut idle: Vec<(&String, Instant)> = ours()
        .filter(|(_, worker)| worker.is_idle())
        .map(|(id, worker)| (id, worker.idle_since))
        .filter(|(_, since)| now.saturating_duration_since(*since) >= config.idle_timeout)
        .collect();
    idle.sort_by_key(|(_, since)| *since);
    let spare = staying.saturating_sub(config.workers_min);
    Plan {
        start: wanted.max(below_min).min(room),
        stop: idle
            .into_iter()
            .take(spare)
            .map(|(id, _)| id.clone())
            .collect(),
    }
}

/// Looks until the emulator closes.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut period = tokio::time::interval(PERIOD);
    period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = period.tick() => {}
            () = shared.closing.cancelled() => return,
        }
        shared.change(State::tick);
        let plan = shared.look(|state, now| {
            let plan = plan(state, &shared.config, now);
            // Under the same lock: no job can be handed out between.
            for worker in &plan.stop {
                state.worker_stopping(worker);
            }
            plan
        });
        for worker in plan.stop {
            tracing::info!(worker, "idle, stopped");
            if let Some(handle) = shared.processes().get(&worker) {
                handle.stop.cancel();
            }
        }
        let pause_over = shared
            .starts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_over(Instant::now());
        if pause_over && !shared.command.is_empty() {
            for _ in 0..plan.start {
                workers::start(&shared);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::state::{NewJob, Rules};

    fn config() -> Config {
        Config::parse_from(["runpod-sim", "--queue-delay", "4s", "--idle-timeout", "10s"])
    }

    fn state(jobs: usize, now: Instant) -> State {
        let long = Duration::from_hours(1);
        let mut state = State::new(Rules {
            execution_timeout: long,
            ttl: long,
            retention: long,
            ping_loss: long,
            stop_react: long,
            init_timeout: long,
            retries_max: 1,
        });
        for n in 0..jobs {
            state.submit(format!("j{n}"), NewJob::default(), now);
        }
        state
    }

    #[test]
    fn workers_come_when_jobs_wait_and_only_as_many_as_are_missing() {
        let now = Instant::now();
        let mut state = state(5, now);
        assert_eq!(plan(&state, &config(), now), Plan::default());
        let later = now + Duration::from_secs(4);
        assert_eq!(
            plan(&state, &config(), later).start,
            3,
            "at most workers_max"
        );
        state.worker_starting("a".to_owned(), later);
        state.worker_starting("b".to_owned(), later);
        assert_eq!(plan(&state, &config(), later).start, 1);
        state.worker_stopping("a");
        assert_eq!(
            plan(&state, &config(), later).start,
            1,
            "a stopping one takes a place"
        );
    }

    #[test]
    fn idle_workers_go_but_for_the_minimum() {
        let now = Instant::now();
        let mut state = state(0, now);
        for id in ["a", "b"] {
            state.worker_starting(id.to_owned(), now);
            assert!(state.take(id, 1, now).is_empty());
        }
        let later = now + Duration::from_secs(10);
        assert!(plan(&state, &config(), now).stop.is_empty());
        assert_eq!(plan(&state, &config(), later).stop, ["a", "b"]);
        let config = Config {
            workers_min: 1,
            ..config()
        };
        assert_eq!(plan(&state, &config, later).stop, ["a"]);
    }

    #[test]
    fn crashes_hold_back_starts() {
        let now = Instant::now();
        let mut pause = StartPause::default();
        assert!(pause.is_over(now));
        pause.ended(false, now);
        pause.ended(false, now);
        assert!(!pause.is_over(now + Duration::from_millis(999)));
        assert!(pause.is_over(now + Duration::from_secs(1)));
        pause.ended(true, now);
        assert!(pause.is_over(now));
    }
}
