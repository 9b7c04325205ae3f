//! Jobs, workers and the queue between them: what one endpoint knows, without I/O or a clock.
//!
//! Every operation takes the instant it happens at; what must be done outside is left in
//! [`Effect`]s. Guarantee: nothing leaves a final state but by /retry, and a job is with one worker
//! at most, unless a fault doubled it.

mod due;
mod fleet;
mod handing;
mod job;
mod traps;
mod worker;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub use self::fleet::StartMishap;
pub use self::handing::{Closed, Take};
pub use self::job::{Final, Job, NewJob, Phase};
pub use self::traps::{Mishaps, Moment, Signal, Trap};
pub use self::worker::{Gone, Stage, Worker, WorkerSnapshot};

/// Limits and timeouts of the queue.
#[derive(Debug, Clone)]
pub struct Rules {
    /// For jobs that bring none.
    pub execution_timeout: Duration,
    /// How late an execution timeout is noticed.
    pub execution_lag: Duration,
    /// For jobs that bring none.
    pub ttl: Duration,
    /// How long an ended job is kept.
    pub retention: Duration,
    /// How long an ended job of /runsync is kept.
    pub retention_sync: Duration,
    /// A worker unheard of for this long is lost.
    pub ping_loss: Duration,
    /// What workers are told to ping at, in real time.
    pub ping_interval: Duration,
    /// How long a worker may go on with a stopped job.
    pub stop_react: Duration,
    /// How long a worker may take until its first call.
    pub init_timeout: Duration,
    /// How long a worker may poll as one without a job while it has one.
    pub denial: Duration,
    /// From the loss of a worker until its job is handed out again.
    pub requeue_delay: Duration,
    /// Runs after a lost worker before the job is TIMED_OUT.
    pub retries_max: u32,
    /// How much faster than real the instants pass: what workers do in real time is allowed for.
    pub pace: f64,
}

impl Rules {
    /// Never less than four real ping intervals.
    pub(crate) fn ping_loss(&self) -> Duration {
        let floor = self.ping_interval.mul_f64(4.0 * self.pace);
        if self.pace > 1.0 {
            self.ping_loss.max(floor)
        } else {
            self.ping_loss
        }
    }
}

/// What must be done outside.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Call a completion webhook with the job's final view.
    CallWebhook {
        /// Where to.
        url: String,
        /// The body.
        body: Value,
    },
    /// SIGTERM, then SIGKILL.
    StopWorker {
        /// Which.
        worker: String,
    },
    /// SIGKILL at once.
    KillWorker {
        /// Which.
        worker: String,
    },
    /// A signal to its process, which the queue has to find out about.
    SignalWorker {
        /// Whose.
        worker: String,
        /// Its process: by then the number may be another's.
        pid: u32,
        /// Which.
        signal: Signal,
        /// When, in real time.
        after: Duration,
    },
}

/// What /retry found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// It is in the queue again.
    Queued,
    /// Not FAILED or TIMED_OUT.
    NotFailed,
    /// Never known, or expired.
    Unknown,
}

/// Jobs ended or run again since the start.
#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    completed: u64,
    failed: u64,
    retried: u64,
}

/// All one endpoint knows.
#[derive(Debug)]
pub struct State {
    rules: Rules,
    /// Of the endpoint: workers of an older one are stale.
    version: u32,
    jobs: HashMap<String, Job>,
    queue: VecDeque<String>,
    /// Jobs to be given to a second worker, and which had them first.
    ghosts: VecDeque<(String, String)>,
    workers: BTreeMap<String, Worker>,
    gone: VecDeque<Gone>,
    /// Workers in a row that ended without ever having called.
    crashed: usize,
    /// Workers that there is no machine for.
    throttled: usize,
    totals: Totals,
    calls: BTreeMap<&'static str, u64>,
    mishaps: Mishaps,
    effects: Vec<Effect>,
    expired_at: Option<Instant>,
}

impl State {
    /// An empty endpoint.
    pub fn new(rules: Rules, version: u32) -> Self {
        Self {
            rules,
            version,
            jobs: HashMap::new(),
            queue: VecDeque::new(),
            ghosts: VecDeque::new(),
            workers: BTreeMap::new(),
            gone: VecDeque::new(),
            crashed: 0,
            throttled: 0,
            totals: Totals::default(),
            calls: BTreeMap::new(),
            mishaps: Mishaps::default(),
            effects: Vec::new(),
            expired_at: None,
        }
    }

    /// What must be done outside since the last time.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Limits and timeouts, to be changed at once.
    pub fn rules_mut(&mut self) -> &mut Rules {
        &mut self.rules
    }

    /// The clock goes at another pace: what was no long silence before is none now.
    pub fn set_pace(&mut self, pace: f64, now: Instant) {
        if pace < self.rules.pace {
            self.workers
                .values_mut()
                .for_each(|worker| worker.forgive(now));
        }
        self.rules.pace = pace;
    }

    /// Version of the endpoint from here on.
    pub fn set_version(&mut self, version: u32) {
        self.version = version;
    }

    /// Faults that are still to come.
    pub fn mishaps_mut(&mut self) -> &mut Mishaps {
        &mut self.mishaps
    }

    /// So many workers cannot be had from here on.
    pub fn set_throttled(&mut self, workers: usize) {
        self.throttled = workers;
    }

    /// Workers that cannot be had.
    pub fn throttled(&self) -> usize {
        self.throttled
    }

    /// Counts a call of an operation.
    pub fn count_call(&mut self, operation: &'static str) {
        *self.calls.entry(operation).or_default() += 1;
    }

    /// The clock jumped: what workers do in real time is not held against them.
    pub fn jump(&mut self, by: Duration) {
        self.workers.values_mut().for_each(|worker| worker.jump(by));
    }

    /// Queues a job.
    pub fn submit(&mut self, id: String, new: NewJob, now: Instant) {
        if Mishaps::due(&mut self.mishaps.losses) {
            return;
        }
        let job = Job::new(new, &self.rules, now);
        self.jobs.insert(id.clone(), job);
        self.queue.push_back(id);
    }

    /// The answer of /status; `None`: never known, expired, or past retention.
    pub fn view(&self, id: &str) -> Option<Value> {
        self.jobs.get(id).map(|job| job.view(id))
    }

    /// The answer of /status and whether it is final.
    pub fn view_and_end(&self, id: &str) -> Option<(Value, bool)> {
        let job = self.jobs.get(id)?;
        Some((job.view(id), job.has_ended()))
    }

    /// Drains the stream chunks of a job; the flag says whether it has ended.
    pub fn drain_stream(&mut self, id: &str) -> Option<(Vec<Value>, &'static str, bool)> {
        let job = self.jobs.get_mut(id)?;
        let ended = job.has_ended();
        Some((std::mem::take(&mut job.stream), job.status(), ended))
    }

    /// Cancels a job; an ended one stays as it is.
    pub fn cancel(&mut self, id: &str, now: Instant) -> Option<Value> {
        if !self.jobs.get(id)?.has_ended() {
            self.release(id, now);
            self.end(id, Final::Cancelled, now);
        }
        self.view(id)
    }

    /// Cancels every job that has not ended.
    pub fn cancel_all(&mut self, now: Instant) {
        self.purge(now);
        let open = self.jobs.iter().filter(|(_, job)| !job.has_ended());
        for id in open.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.cancel(&id, now);
        }
    }

    /// Begins a failed job anew: same id, same input.
    pub fn retry(&mut self, id: &str, now: Instant) -> Retry {
        let Some(job) = self.jobs.get_mut(id) else {
            return Retry::Unknown;
        };
        if !job.can_retry() {
            return Retry::NotFailed;
        }
        job.begin_again(now);
        self.totals.retried += 1;
        self.queue.push_back(id.to_owned());
        Retry::Queued
    }

    /// Cancels what is queued; says how many.
    pub fn purge(&mut self, now: Instant) -> usize {
        let dropped = std::mem::take(&mut self.queue);
        for id in &dropped {
            self.end(id, Final::Cancelled, now);
        }
        dropped.len()
    }

    /// The body of /requests: jobs without their outputs.
    pub fn requests(&self, now: Instant) -> Value {
        let jobs = self.jobs.iter().map(|(id, job)| job.dump(id, now));
        json!({"requests": jobs.collect::<Vec<_>>()})
    }

    /// The counters of /health.
    pub fn health(&self) -> Value {
        let running = self.workers.values().map(|worker| worker.jobs.len());
        json!({
            "jobs": {
                "completed": self.totals.completed,
                "failed": self.totals.failed,
                "inProgress": running.sum::<usize>(),
                "inQueue": self.queue.len(),
                "retried": self.totals.retried,
            },
            "workers": self.worker_counts(),
        })
    }

    /// The body of /metrics.
    pub fn metrics(&self) -> Value {
        let ready = self.workers.iter().filter(|(_, worker)| worker.is_idle());
        let ready: Vec<&String> = ready.map(|(id, _)| id).collect();
        json!({"readyWorkers": ready, "workers": self.worker_counts()})
    }

    /// Everything, for people and tests.
    pub fn dump(&self, now: Instant) -> Value {
        let workers = self.workers.iter();
        let workers: Vec<Value> = workers
            .map(|(id, w)| w.dump(id, self.version, now))
            .collect();
        let jobs = self.jobs.iter();
        let jobs: Vec<Value> = jobs.map(|(id, job)| job.dump(id, now)).collect();
        json!({
            "health": self.health(),
            "version": self.version,
            "workers": workers,
            "gone": self.gone.iter().map(Gone::dump).collect::<Vec<_>>(),
            "queue": self.queue,
            "jobs": jobs,
            "calls": self.calls,
            "mishaps": self.mishaps,
        })
    }
}

#[cfg(test)]
mod tests;
