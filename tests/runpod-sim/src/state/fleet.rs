//! What the scaler and the processes tell the queue of workers, and what they ask.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Effect, Gone, Job, Mishaps, Stage, State, Worker, WorkerSnapshot};

/// How many ended workers are remembered.
const GONE_MAX: usize = 100;

/// What a start is to suffer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StartMishap {
    /// It ends at once.
    pub crashes: bool,
    /// It begins so much later, in virtual time.
    pub late: Duration,
}

impl State {
    /// Enters a worker that is about to be started.
    pub fn worker_starting(&mut self, id: String, now: Instant) {
        let worker = Worker::starting(true, self.version, now);
        self.workers.insert(id, worker);
    }

    /// What the next start is to suffer.
    pub fn start_mishap(&mut self) -> StartMishap {
        let crashes = Mishaps::due(&mut self.mishaps.crashes);
        let (count, late_ms) = &mut self.mishaps.slow_starts;
        let is_late = Mishaps::due(count);
        StartMishap {
            crashes,
            late: Duration::from_millis(if is_late { *late_ms } else { 0 }),
        }
    }

    /// Its process runs.
    pub fn worker_started(&mut self, id: &str, pid: u32, ports: (u16, Option<u16>), now: Instant) {
        if let Some(worker) = self.workers.get_mut(id) {
            worker.pid = Some(pid);
            worker.port = Some(ports.0);
            worker.tcp_port = ports.1;
            worker.heard_at = now;
        }
    }

    /// It gets no job from here on.
    pub fn worker_stopping(&mut self, id: &str) {
        if let Some(worker) = self.workers.get_mut(id) {
            worker.stage = Stage::Stopping;
        }
    }

    /// Has a worker stopped; no poll of it that is open gets a job before the signal does.
    pub(super) fn stop_worker(&mut self, id: &str) {
        if self.workers.get(id).is_some_and(|worker| worker.ours) {
            self.worker_stopping(id);
        }
        let worker = id.to_owned();
        self.effects.push(Effect::StopWorker { worker });
    }

    /// Whether this was a worker of ours whose process has ended: a late call of it is nobody's.
    pub(super) fn has_ended(&self, id: &str) -> bool {
        self.gone
            .iter()
            .any(|gone| gone.pid.is_some() && gone.id == id)
    }

    /// It sleeps from here on.
    pub fn worker_frozen(&mut self, id: &str) {
        if let Some(worker) = self.workers.get_mut(id) {
            worker.stage = Stage::Frozen;
        }
    }

    /// It works again; its first poll is told so by a 400.
    pub fn worker_woken(&mut self, id: &str, now: Instant) {
        if let Some(worker) = self.workers.get_mut(id)
            && worker.stage == Stage::Frozen
        {
            worker.stage = Stage::Running;
            worker.woken = true;
            worker.heard_at = now;
            worker.idle_since = now;
        }
    }

    /// Its process has ended; its jobs run again. Says whether it had ever called as one that is
    /// fit for work.
    pub fn worker_gone(&mut self, id: &str, how: &str, now: Instant) -> bool {
        self.requeue_all(id, now);
        let Some(worker) = self.workers.remove(id) else {
            return false;
        };
        if self.gone.len() == GONE_MAX {
            self.gone.pop_front();
        }
        let gone = Gone {
            id: id.to_owned(),
            pid: worker.pid,
            how: how.to_owned(),
        };
        self.gone.push_back(gone);
        worker.called && worker.stage != Stage::Unhealthy
    }

    /// A worker has ended without ever having called, and nobody had asked it to.
    pub fn note_crash(&mut self) {
        self.crashed += 1;
    }

    /// The workers there are.
    pub fn workers(&self) -> impl Iterator<Item = (&String, &Worker)> {
        self.workers.iter()
    }

    /// One worker.
    pub fn worker(&self, id: &str) -> Option<&Worker> {
        self.workers.get(id)
    }

    /// What others may know of the workers.
    pub fn snapshots(&self) -> Vec<WorkerSnapshot> {
        let one = |(id, worker): (&String, &Worker)| WorkerSnapshot {
            id: id.clone(),
            stage: worker.stage,
            version: worker.version,
            stale: worker.is_stale(self.version),
            started_at: worker.started_at,
            jobs: worker.jobs.keys().cloned().collect(),
        };
        self.workers.iter().map(one).collect()
    }

    /// Version of the endpoint.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Queued jobs that have waited at least `delay` and call for a worker.
    pub fn waiting(&self, delay: Duration, now: Instant) -> usize {
        let waits = |job: &Job| {
            let waited = now.saturating_duration_since(job.queued_at);
            waited >= delay && !job.low_priority && !job.rests(now)
        };
        self.queued().filter(|job| waits(job)).count() + self.ghosts.len()
    }

    /// Jobs queued or in progress that call for workers.
    pub fn open(&self) -> usize {
        let running = self.workers.values().map(|worker| worker.jobs.len());
        self.queued().filter(|job| !job.low_priority).count()
            + self.ghosts.len()
            + running.sum::<usize>()
    }

    fn queued(&self) -> impl Iterator<Item = &Job> {
        self.queue.iter().filter_map(|id| self.jobs.get(id))
    }

    /// Workers that have a job.
    pub fn busy(&self) -> usize {
        self.workers.values().filter(|w| !w.jobs.is_empty()).count()
    }

    /// The worker counters of /health and /metrics.
    pub(super) fn worker_counts(&self) -> Value {
        let count = |of: &dyn Fn(&Worker) -> bool| self.workers.values().filter(|w| of(w)).count();
        let ready = count(&|w| w.is_idle());
        let asleep = count(&|w| w.stage == Stage::Frozen);
        json!({
            "idle": ready + asleep,
            "initializing": count(&|w| w.stage == Stage::Initializing),
            "ready": ready,
            "running": count(&|w| w.stage == Stage::Running && !w.jobs.is_empty()),
            "throttled": self.throttled,
            "unhealthy": count(&|w| w.stage == Stage::Unhealthy) + self.crashed,
        })
    }
}
