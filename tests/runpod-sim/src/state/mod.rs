//! Jobs, workers and the queue between them: what the emulator knows, without I/O or a clock.
//!
//! Every operation takes the instant it happens at; what must be done outside is left in
//! [`Effect`]s. Guarantee: nothing leaves a final state, and a job is with one worker at most.

mod job;
mod worker;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub use self::job::{Final, Job, NewJob, Phase};
pub use self::worker::{Gone, Stage, Worker};

/// How many ended workers are remembered.
const GONE_MAX: usize = 100;

/// How often expired jobs are looked for; there may be many.
const EXPIRY_PERIOD: Duration = Duration::from_secs(1);

/// How long a worker may go without listing a job that it was just given.
const LISTING_GRACE: Duration = Duration::from_secs(2);

/// Limits and timeouts of the queue.
#[derive(Debug, Clone)]
pub struct Rules {
    /// For jobs that bring none.
    pub execution_timeout: Duration,
    /// For jobs that bring none.
    pub ttl: Duration,
    /// How long an ended job is kept.
    pub retention: Duration,
    /// A worker unheard of for this long is lost.
    pub ping_loss: Duration,
    /// How long a worker may go on with a stopped job.
    pub stop_react: Duration,
    /// How long a worker may take until its first call.
    pub init_timeout: Duration,
    /// Runs after a lost worker before the job is TIMED_OUT.
    pub retries_max: u32,
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
}

/// Why a result was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed;

/// Jobs ended or run again since the start.
#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    completed: u64,
    failed: u64,
    retried: u64,
}

/// All the emulator knows.
#[derive(Debug)]
pub struct State {
    rules: Rules,
    jobs: HashMap<String, Job>,
    queue: VecDeque<String>,
    workers: BTreeMap<String, Worker>,
    gone: VecDeque<Gone>,
    totals: Totals,
    calls: BTreeMap<&'static str, u64>,
    effects: Vec<Effect>,
    expired_at: Option<Instant>,
}

impl State {
    /// An empty endpoint.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            jobs: HashMap::new(),
            queue: VecDeque::new(),
            workers: BTreeMap::new(),
            gone: VecDeque::new(),
            totals: Totals::default(),
            calls: BTreeMap::new(),
            effects: Vec::new(),
            expired_at: None,
        }
    }

    /// What must be done outside since the last time.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Counts a call of an operation.
    pub fn count_call(&mut self, operation: &'static str) {
        *self.calls.entry(operation).or_default() += 1;
    }

    /// Queues a job.
    pub fn submit(&mut self, id: String, new: NewJob, now: Instant) {
        let job = Job::new(new, &self.rules, now);
        self.jobs.insert(id.clone(), job);
        self.queue.push_back(id);
    }

    /// The answer of /status; `None`: never known, expired, or past retention.
    pub fn view(&self, id: &str) -> Option<Value> {
        self.jobs.get(id).map(|job| job.view(id))
    }

    /// Drains the stream chunks of a job; the flag says whether it has ended.
    pub fn drain_stream(&mut self, id: &str) -> Option<(Vec<Value>, &'static str, bool)> {
        let job = self.jobs.get_mut(id)?;
        let ended = matches!(job.phase, Phase::Ended { .. });
        Some((std::mem::take(&mut job.stream), job.status(), ended))
    }

    /// Cancels a job; an ended one stays as it is.
    pub fn cancel(&mut self, id: &str, now: Instant) -> Option<Value> {
        if !matches!(self.jobs.get(id)?.phase, Phase::Ended { .. }) {
            self.release(id, now);
            self.end(id, Final::Cancelled, now);
        }
        self.view(id)
    }

    /// Drops what is queued; says how many.
    pub fn purge(&mut self) -> usize {
        let dropped = std::mem::take(&mut self.queue);
        for id in &dropped {
            self.jobs.remove(id);
        }
        dropped.len()
    }

    /// Hands out up to `most` jobs to a worker; none to one that is stopping. A worker that we
    /// did not start is entered.
    pub fn take(&mut self, worker: &str, most: usize, now: Instant) -> Vec<Value> {
        if !self.heard_of(worker, now) {
            return Vec::new();
        }
        let mut handed = Vec::new();
        while handed.len() < most {
            let Some(id) = self.queue.pop_front() else {
                break;
            };
            let Some(job) = self.jobs.get_mut(&id) else {
                continue;
            };
            handed.push(job.hand_to(&id, worker, now));
            if let Some(record) = self.workers.get_mut(worker) {
                record.jobs.insert(id, now);
            }
        }
        handed
    }

    /// Ids of jobs that a worker has to stop and was not told of.
    pub fn take_stops(&mut self, worker: &str, now: Instant) -> Vec<String> {
        self.heard_of(worker, now);
        self.workers
            .get_mut(worker)
            .map(|w| std::mem::take(&mut w.stops))
            .unwrap_or_default()
    }

    /// A heartbeat with the jobs the worker has in progress.
    pub fn ping(&mut self, worker: &str, listed: &[String], now: Instant) {
        self.heard_of(worker, now);
        let Some(record) = self.workers.get_mut(worker) else {
            return;
        };
        record.stopped.retain(|id, _| listed.contains(id));
        let dropped: Vec<String> = record
            .jobs
            .iter()
            .filter(|(id, since)| {
                !listed.contains(id) && now.saturating_duration_since(**since) > LISTING_GRACE
            })
            .map(|(id, _)| id.clone())
            .collect();
        for id in dropped {
            self.forget_owner(worker, &id, now);
            self.requeue(&id, now);
        }
    }

    /// A progress update; dropped unless the job is with this worker.
    pub fn progress(&mut self, worker: &str, id: &str, output: Value) {
        if let Some(job) = self.jobs.get_mut(id)
            && job.is_with(worker)
        {
            job.output = Some(output);
        }
    }

    /// A stream chunk; dropped unless the job is with this worker.
    pub fn stream(&mut self, worker: &str, id: &str, chunk: &Value) {
        if let Some(job) = self.jobs.get_mut(id)
            && job.is_with(worker)
        {
            job.stream.push(json!({"output": chunk}));
        }
    }

    /// A result. Refused for a job that has ended or is with another worker.
    pub fn finish(
        &mut self,
        worker: &str,
        id: &str,
        body: &Value,
        now: Instant,
    ) -> Result<(), Closed> {
        if let Some(record) = self.workers.get_mut(worker) {
            record.heard_at = now;
            record.stopped.remove(id);
        }
        let job = self
            .jobs
            .get_mut(id)
            .filter(|job| job.is_with(worker))
            .ok_or(Closed)?;
        job.output = body.get("output").cloned();
        let end = match body.get("error").filter(|error| !error.is_null()) {
            Some(Value::String(text)) => Final::Failed(text.clone()),
            Some(other) => Final::Failed(other.to_string()),
            None => Final::Completed,
        };
        self.forget_owner(worker, id, now);
        self.end(id, end, now);
        if body.get("stopPod").and_then(Value::as_bool) == Some(true) {
            self.effects.push(Effect::StopWorker {
                worker: worker.to_owned(),
            });
        }
        Ok(())
    }

    /// What has become due: timeouts, lost workers, expired results.
    pub fn tick(&mut self, now: Instant) {
        self.expire(now);
        let held = self.workers.values().flat_map(|worker| worker.jobs.keys());
        let overdue: Vec<(String, String)> = held
            .filter_map(|id| Some((id.clone(), self.jobs.get(id)?.overdue(now)?)))
            .collect();
        for (id, worker) in overdue {
            self.release(&id, now);
            self.end(
                &id,
                Final::Failed("executionTimeout exceeded".to_owned()),
                now,
            );
            self.effects.push(Effect::StopWorker { worker });
        }
        let lost: Vec<(String, bool)> = self
            .workers
            .iter()
            .filter(|(_, worker)| worker.is_lost(&self.rules, now))
            .map(|(id, worker)| (id.clone(), worker.ours))
            .collect();
        for (id, ours) in lost {
            if ours {
                self.requeue_all(&id, now);
                self.effects.push(Effect::KillWorker { worker: id });
            } else {
                self.worker_gone(&id, "unheard of", now);
            }
        }
    }

    /// Removes jobs past their ttl in whatever state, and ended ones past retention.
    fn expire(&mut self, now: Instant) {
        let since = self.expired_at.map(|at| now.saturating_duration_since(at));
        if since.is_some_and(|since| since < EXPIRY_PERIOD) {
            return;
        }
        self.expired_at = Some(now);
        let retention = self.rules.retention;
        let expired: Vec<String> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.is_expired(retention, now))
            .map(|(id, _)| id.clone())
            .collect();
        for id in expired {
            self.release(&id, now);
            self.jobs.remove(&id);
        }
    }

    /// Takes a job from wherever it waits or runs; its worker is told to stop it.
    fn release(&mut self, id: &str, now: Instant) {
        self.queue.retain(|queued| queued != id);
        let Some(Phase::Running { worker, .. }) = self.jobs.get(id).map(|job| &job.phase) else {
            return;
        };
        let worker = worker.clone();
        self.forget_owner(&worker, id, now);
        if let Some(record) = self.workers.get_mut(&worker) {
            record.stops.push(id.to_owned());
            record.stopped.insert(id.to_owned(), now);
        }
    }

    fn forget_owner(&mut self, worker: &str, id: &str, now: Instant) {
        if let Some(record) = self.workers.get_mut(worker) {
            record.jobs.remove(id);
            record.idle_since = now;
        }
    }

    fn end(&mut self, id: &str, end: Final, now: Instant) {
        let Some(job) = self.jobs.get_mut(id) else {
            return;
        };
        match &end {
            Final::Completed => self.totals.completed += 1,
            Final::Failed(_) | Final::TimedOut => self.totals.failed += 1,
            Final::Cancelled => {}
        }
        job.end(end, now);
        if let Some(url) = job.webhook.clone() {
            let body = job.view(id);
            self.effects.push(Effect::CallWebhook { url, body });
        }
    }

    fn requeue(&mut self, id: &str, now: Instant) {
        let retries_max = self.rules.retries_max;
        let Some(job) = self.jobs.get_mut(id) else {
            return;
        };
        if job.retries >= retries_max {
            return self.end(id, Final::TimedOut, now);
        }
        job.queue_again(now);
        self.totals.retried += 1;
        self.queue.push_front(id.to_owned());
    }

    fn requeue_all(&mut self, worker: &str, now: Instant) {
        let held = self
            .workers
            .get_mut(worker)
            .map(|w| std::mem::take(&mut w.jobs));
        for id in held.unwrap_or_default().into_keys() {
            self.requeue(&id, now);
        }
    }

    /// The counters of /health.
    pub fn health(&self) -> Value {
        let count = |of: &dyn Fn(&Worker) -> bool| self.workers.values().filter(|w| of(w)).count();
        let idle = count(&|w| w.is_idle());
        json!({
            "jobs": {
                "completed": self.totals.completed,
                "failed": self.totals.failed,
                "inProgress": self.workers.values().map(|worker| worker.jobs.len()).sum::<usize>(),
                "inQueue": self.queue.len(),
                "retried": self.totals.retried,
            },
            "workers": {
                "idle": idle,
                "initializing": count(&|w| w.stage == Stage::Initializing),
                "ready": idle,
                "running": count(&|w| w.stage == Stage::Running && !w.jobs.is_empty()),
                "throttled": 0,
                "unhealthy": 0,
            },
        })
    }

    /// Everything, for people and tests.
    pub fn dump(&self, now: Instant) -> Value {
        let workers: Vec<Value> = self.workers.iter().map(|(id, w)| w.dump(id, now)).collect();
        let jobs: Vec<Value> = self
            .jobs
            .iter()
            .map(|(id, job)| job.dump(id, now))
            .collect();
        json!({
            "health": self.health(),
            "workers": workers,
            "gone": self.gone.iter().map(Gone::dump).collect::<Vec<_>>(),
            "queue": self.queue,
            "jobs": jobs,
            "calls": self.calls,
        })
    }
}

/// What the scaler and the processes change.
impl State {
    /// Enters a worker that is about to be started.
    pub fn worker_starting(&mut self, id: String, now: Instant) {
        self.workers.insert(id, Worker::starting(true, now));
    }

    /// Its process runs.
    pub fn worker_started(&mut self, id: &str, pid: u32, port: u16, now: Instant) {
        if let Some(worker) = self.workers.get_mut(id) {
            worker.pid = Some(pid);
            worker.port = Some(port);
            worker.heard_at = now;
        }
    }

    /// It gets no job from here on.
    pub fn worker_stopping(&mut self, id: &str) {
        if let Some(worker) = self.workers.get_mut(id) {
            worker.stage = Stage::Stopping;
        }
    }

    /// Its process has ended; its jobs run again. Says whether it had ever called.
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
        worker.called
    }

    /// The workers there are.
    pub fn workers(&self) -> impl Iterator<Item = (&String, &Worker)> {
        self.workers.iter()
    }

    /// One worker.
    pub fn worker(&self, id: &str) -> Option<&Worker> {
        self.workers.get(id)
    }

    /// Queued jobs that have waited at least `delay`.
    pub fn waiting(&self, delay: Duration, now: Instant) -> usize {
        let waits = |job: &Job| now.saturating_duration_since(job.queued_at) >= delay;
        self.queue
            .iter()
            .filter_map(|id| self.jobs.get(id))
            .filter(|job| waits(job))
            .count()
    }

    /// Notes a call of a worker; false if it may get no job.
    fn heard_of(&mut self, id: &str, now: Instant) -> bool {
        let worker = self
            .workers
            .entry(id.to_owned())
            .or_insert_with(|| Worker::starting(false, now));
        worker.heard(now);
        worker.stage == Stage::Running
    }
}

#[cfg(test)]
mod tests;
