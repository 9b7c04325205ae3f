//! How many workers there should be: started when jobs wait too long, stopped when they idle.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crate::endpoints::{Endpoint, EndpointSpec, Scaler};
use crate::state::{Signal, Stage, State, Worker};
use crate::workers;

/// How often it looks, in real time.
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
    wake: Vec<String>,
    freeze: Vec<String>,
    stop: Vec<String>,
}

/// Jobs that call for a worker and have none.
fn wanted(state: &State, scaler: Scaler, now: Instant) -> usize {
    let staying = |worker: &Worker| match worker.stage {
        Stage::Initializing | Stage::Running => !worker.is_stale(state.version()),
        Stage::Frozen | Stage::Unhealthy | Stage::Stopping => false,
    };
    let staying = state.workers().filter(|(_, worker)| staying(worker));
    match scaler {
        Scaler::QueueDelay(delay) => {
            let free = |worker: &Worker| worker.stage == Stage::Initializing || worker.is_idle();
            let free = staying.filter(|(_, worker)| free(worker)).count();
            state.waiting(delay, now).saturating_sub(free)
        }
        Scaler::RequestCount(per_worker) => {
            let per_worker = usize::try_from(per_worker.max(1)).unwrap_or(usize::MAX);
            let wanted = state.open().div_ceil(per_worker);
            wanted.saturating_sub(staying.count())
        }
    }
}

/// Pure: one look at the queue and the workers.
fn plan(state: &State, spec: &EndpointSpec, now: Instant) -> Plan {
    let (stop, freeze) = leaving(state, spec, now);
    let (start, wake) = coming(state, spec, now);
    Plan {
        start,
        wake,
        freeze,
        stop,
    }
}

fn is_up(worker: &Worker) -> bool {
    matches!(worker.stage, Stage::Initializing | Stage::Running)
}

fn is_asleep(worker: &Worker) -> bool {
    worker.stage == Stage::Frozen
}

/// Our own workers that `which` wants.
fn ours(
    state: &State,
    which: impl Fn(&Worker) -> bool,
) -> impl Iterator<Item = (&String, &Worker)> {
    let wanted = move |(_, worker): &(&String, &Worker)| worker.ours && which(worker);
    state.workers().filter(wanted)
}

/// Who is to be stopped and who frozen.
fn leaving(state: &State, spec: &EndpointSpec, now: Instant) -> (Vec<String>, Vec<String>) {
    let is_stale = |worker: &Worker| worker.is_stale(state.version());
    let staying = ours(state, |w| is_up(w) && !is_stale(w)).count();
    let idle = ours(state, |w| w.is_idle() && !is_stale(w));
    let mut idle: Vec<(&String, &Worker)> = idle.collect();
    idle.sort_by_key(|(_, worker)| worker.idle_since);
    let excess = staying.saturating_sub(spec.workers_max).min(idle.len());
    let (excess, others) = idle.split_at(excess);
    // Nobody waits for what is stale and has no job.
    let rests = |w: &Worker| w.is_idle() || w.stage == Stage::Initializing || is_asleep(w);
    let outdated = ours(state, |w| is_stale(w) && rests(w));
    // Asleep it has a place too.
    let asleep = ours(state, |w| is_asleep(w) && !is_stale(w));
    let asleep: Vec<(&String, &Worker)> = asleep.collect();
    let places = spec.workers_max.saturating_sub(staying);
    let surplus = asleep.into_iter().skip(places);
    let stop = excess.iter().copied().chain(outdated).chain(surplus);
    let mut stop: Vec<String> = stop.map(|(id, _)| id.clone()).collect();

    let spare = (staying - excess.len()).saturating_sub(spec.workers_min);
    let is_tired =
        |worker: &Worker| now.saturating_duration_since(worker.idle_since) >= spec.idle_timeout;
    let tired = others.iter().filter(|(_, w)| is_tired(w)).take(spare);
    let tired: Vec<String> = tired.map(|(id, _)| (*id).clone()).collect();
    if spec.flashboot {
        return (stop, tired);
    }
    stop.extend(tired);
    (stop, Vec::new())
}

/// How many are to be started, and who woken.
fn coming(state: &State, spec: &EndpointSpec, now: Instant) -> (usize, Vec<String>) {
    let is_stale = |worker: &Worker| worker.is_stale(state.version());
    // A stale one that is busy is replaced after its job, not before.
    let serving = ours(state, |w| is_up(w) && (!is_stale(w) || !w.is_idle())).count();
    let replaced = ours(state, |w| is_stale(w) && w.is_idle()).count();
    let wanted = wanted(state, spec.scaler, now)
        .max(spec.workers_min.saturating_sub(serving))
        .max(replaced);
    let most = spec.workers_max.saturating_sub(state.throttled());
    let room = most.saturating_sub(ours(state, |w| !is_asleep(w)).count());
    let due = wanted.min(room);
    let asleep = ours(state, |w| is_asleep(w) && !is_stale(w));
    let wake: Vec<String> = asleep.take(due).map(|(id, _)| id.clone()).collect();
    (due - wake.len(), wake)
}

/// Looks until the endpoint is removed.
pub(crate) async fn run(endpoint: Arc<Endpoint>) {
    let mut period = tokio::time::interval(PERIOD);
    period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = period.tick() => {}
            () = endpoint.removed.cancelled() => return,
        }
        endpoint.change(State::tick);
        let spec = endpoint.spec();
        let plan = endpoint.look(|state, now| {
            let plan = plan(state, &spec, now);
            // Under the same lock: no job can be handed out between.
            plan.stop
                .iter()
                .for_each(|worker| state.worker_stopping(worker));
            plan.freeze
                .iter()
                .for_each(|worker| state.worker_frozen(worker));
            plan.wake
                .iter()
                .for_each(|worker| state.worker_woken(worker, now));
            plan
        });
        carry_out(&endpoint, &spec, &plan);
    }
}

fn carry_out(endpoint: &Arc<Endpoint>, spec: &EndpointSpec, plan: &Plan) {
    for worker in &plan.stop {
        tracing::info!(endpoint = endpoint.id, worker, "stopped: idle or outdated");
        if let Some(handle) = endpoint.processes().get(worker) {
            handle.stop.cancel();
        }
    }
    let signal = |worker: &String, signal: Signal| {
        let pid = endpoint.look(|state, _| state.worker(worker).and_then(|w| w.pid));
        if let Some(pid) = pid {
            drop(workers::send_signal(pid, signal));
        }
    };
    for worker in &plan.freeze {
        tracing::info!(endpoint = endpoint.id, worker, "idle, frozen");
        signal(worker, Signal::Stop);
    }
    for worker in &plan.wake {
        tracing::info!(endpoint = endpoint.id, worker, "woken");
        signal(worker, Signal::Cont);
    }
    if !plan.wake.is_empty() {
        endpoint.wake.notify_waiters();
    }
    let starts = endpoint.starts.lock();
    let pause_over = starts
        .unwrap_or_else(PoisonError::into_inner)
        .is_over(endpoint.site.clock.now());
    if pause_over && !spec.command.is_empty() {
        for _ in 0..plan.start {
            workers::start(endpoint);
        }
    }
}

#[cfg(test)]
mod tests;
