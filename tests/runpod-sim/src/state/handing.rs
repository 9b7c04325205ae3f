//! Between queue and workers: jobs handed out, what workers tell of them, and results.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Effect, Final, Mishaps, Moment, Stage, State, Worker};

/// How long a worker may go without listing a job that it was just given.
const LISTING_GRACE: Duration = Duration::from_secs(2);

/// Longest piece of one stream chunk that is text, bytes.
const CHUNK_BYTES_MAX: usize = 1_000_000;

/// Why a result was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// The job is unknown, has ended, or is with another worker.
    NotYours,
    /// A fault: the worker is killed with its post.
    Lost,
}

/// What a job-take finds.
#[derive(Debug, Clone, PartialEq)]
pub enum Take {
    /// Jobs.
    Jobs(Vec<Value>),
    /// Nothing for this worker now.
    Nothing,
    /// FlashBoot: it was woken, and its poll is from before.
    Woken,
}

impl State {
    /// A poll for jobs begins. A worker that we did not start is entered. `holds_none`: it says
    /// that it has no job.
    pub fn poll_begins(&mut self, worker: &str, holds_none: Option<bool>, now: Instant) {
        self.heard_of(worker, now);
        if let Some(record) = self.workers.get_mut(worker) {
            match holds_none {
                Some(true) if !record.jobs.is_empty() => {
                    record.denies_since.get_or_insert(now);
                }
                Some(_) | None => record.denies_since = None,
            }
        }
    }

    /// Hands out up to `most` jobs to a worker; none to one that is stopping, frozen or stale.
    pub fn take(&mut self, worker: &str, most: usize, now: Instant) -> Take {
        let version = self.version;
        let Some(record) = self.workers.get_mut(worker) else {
            return Take::Nothing;
        };
        if std::mem::take(&mut record.woken) {
            return Take::Woken;
        }
        if record.stage != Stage::Running || record.is_stale(version) {
            return Take::Nothing;
        }
        let mut handed = Vec::new();
        while handed.len() < most {
            let Some(job) = self
                .take_ghost(worker)
                .or_else(|| self.take_one(worker, now))
            else {
                break;
            };
            handed.push(job);
        }
        if handed.is_empty() {
            return Take::Nothing;
        }
        for job in &handed {
            let id = job["id"].as_str().unwrap_or_default().to_owned();
            if let Some(record) = self.workers.get_mut(worker) {
                // It may have been told to stop an earlier run of it.
                record.stops.retain(|stop| *stop != id);
                record.stopped.remove(&id);
                record.jobs.insert(id, now);
                record.denies_since = None;
            }
        }
        self.spring(Moment::Take, worker);
        Take::Jobs(handed)
    }

    /// A job that another worker has already.
    fn take_ghost(&mut self, worker: &str) -> Option<Value> {
        let jobs = &self.jobs;
        self.ghosts
            .retain(|(id, _)| jobs.get(id).is_some_and(|job| job.owner().is_some()));
        let at = self.ghosts.iter().position(|(_, first)| first != worker)?;
        let (id, _) = self.ghosts.remove(at)?;
        let job = self.jobs.get_mut(&id)?;
        job.doubles.push(worker.to_owned());
        Some(job.handed(&id))
    }

    fn take_one(&mut self, worker: &str, now: Instant) -> Option<Value> {
        let jobs = &self.jobs;
        let rests = |id: &String| jobs.get(id).is_some_and(|job| job.rests(now));
        let at = self.queue.iter().position(|id| !rests(id))?;
        let id = self.queue.remove(at)?;
        let job = self.jobs.get_mut(&id)?;
        job.hand_to(worker, now);
        let handed = job.handed(&id);
        if Mishaps::due(&mut self.mishaps.doubles) {
            self.ghosts.push_back((id, worker.to_owned()));
        }
        Some(handed)
    }

    /// Ids of jobs that a worker has to stop and was not told of.
    pub fn take_stops(&mut self, worker: &str) -> Vec<String> {
        self.workers
            .get_mut(worker)
            .map(|w| std::mem::take(&mut w.stops))
            .unwrap_or_default()
    }

    /// A heartbeat with the jobs the worker has in progress.
    pub fn ping(&mut self, worker: &str, listed: &[String], now: Instant) {
        self.heard_of(worker, now);
        let grace = LISTING_GRACE.mul_f64(self.rules.pace.max(1.0));
        let Some(record) = self.workers.get_mut(worker) else {
            return;
        };
        record.stopped.retain(|id, _| listed.contains(id));
        let dropped: Vec<String> = record
            .jobs
            .iter()
            .filter(|(id, since)| {
                !listed.contains(id) && now.saturating_duration_since(**since) > grace
            })
            .map(|(id, _)| id.clone())
            .collect();
        for id in dropped {
            self.lose_hold(worker, &id, now);
        }
    }

    /// A worker says that it is not fit: no job for it, and whatever it has runs elsewhere.
    pub fn unfit(&mut self, worker: &str, now: Instant) {
        self.heard_of(worker, now);
        if let Some(record) = self.workers.get_mut(worker)
            && record.stage == Stage::Running
        {
            record.stage = Stage::Unhealthy;
        }
        self.requeue_all(worker, now);
    }

    /// A progress update; dropped unless the job is with this worker.
    pub fn progress(&mut self, worker: &str, id: &str, output: Value) {
        let announces = output["outputs"]
            .as_array()
            .is_some_and(|all| !all.is_empty());
        if let Some(job) = self.jobs.get_mut(id)
            && job.is_with(worker)
        {
            job.output = Some(output);
            if announces {
                self.spring(Moment::Output, worker);
            }
        }
    }

    /// A stream chunk; dropped unless the job is with this worker. Long text is split.
    pub fn stream(&mut self, worker: &str, id: &str, chunk: &Value) {
        let Some(job) = self.jobs.get_mut(id).filter(|job| job.is_with(worker)) else {
            return;
        };
        let Value::String(mut text) = chunk.clone() else {
            return job.stream.push(json!({"output": chunk}));
        };
        while text.len() > CHUNK_BYTES_MAX {
            let at = (1..=CHUNK_BYTES_MAX)
                .rev()
                .find(|at| text.is_char_boundary(*at));
            let rest = text.split_off(at.unwrap_or(text.len()));
            job.stream.push(json!({"output": text}));
            text = rest;
        }
        job.stream.push(json!({"output": text}));
    }

    /// A result. Refused for a job that has ended or is with another worker.
    pub fn finish(
        &mut self,
        worker: &str,
        id: &str,
        body: &Value,
        now: Instant,
    ) -> Result<(), Closed> {
        if self.spring(Moment::Result, worker) {
            return Err(Closed::Lost);
        }
        if let Some(record) = self.workers.get_mut(worker) {
            record.heard_at = now;
            record.stopped.remove(id);
        }
        let job = self.jobs.get_mut(id).filter(|job| job.is_with(worker));
        let Some(job) = job else {
            self.forget_owner(worker, id, now);
            return Err(Closed::NotYours);
        };
        job.output = body.get("output").cloned();
        let end = match body.get("error").filter(|error| !error.is_null()) {
            Some(Value::String(text)) => Final::Failed(text.clone()),
            Some(other) => Final::Failed(other.to_string()),
            None => Final::Completed,
        };
        self.forget_owner(worker, id, now);
        self.end(id, end, now);
        if body.get("stopPod").and_then(Value::as_bool) == Some(true) {
            self.stop_worker(worker);
        }
        self.spring(Moment::ResultKept, worker);
        Ok(())
    }

    /// Springs a trap, if one is set for this; says whether.
    fn spring(&mut self, at: Moment, worker: &str) -> bool {
        let Some(pid) = self.workers.get(worker).and_then(|record| record.pid) else {
            return false;
        };
        let Some(trap) = self.mishaps.spring(at, worker) else {
            return false;
        };
        self.effects.push(Effect::SignalWorker {
            worker: worker.to_owned(),
            pid,
            signal: trap.signal,
            after: trap.after(),
        });
        true
    }

    /// Notes a call of a worker.
    pub fn heard_of(&mut self, id: &str, now: Instant) {
        if self.has_ended(id) {
            return;
        }
        let version = self.version;
        let worker = self
            .workers
            .entry(id.to_owned())
            .or_insert_with(|| Worker::starting(false, version, now));
        worker.heard(now);
        self.crashed = 0;
    }
}
