//! One job: where it is and what /status says of it.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::Rules;
use crate::clock::millis;

/// What a client submitted.
#[derive(Debug, Clone, Default)]
pub struct NewJob {
    /// The input.
    pub input: Value,
    /// Completion webhook.
    pub webhook: Option<String>,
    /// `policy` and `s3Config` as they came; workers are handed them.
    pub extras: Map<String, Value>,
    /// From the policy.
    pub execution_timeout: Option<Duration>,
    /// From the policy.
    pub ttl: Option<Duration>,
    /// From the policy: does not call for a worker.
    pub low_priority: bool,
    /// By /runsync: its result is kept for a shorter time.
    pub sync: bool,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Final {
    /// A result without an error.
    Completed,
    /// A result with an error, or the execution timeout.
    Failed(String),
    /// By a client.
    Cancelled,
    /// Its workers were lost too often, or nobody took it in time.
    TimedOut,
}

impl Final {
    fn word(&self) -> &'static str {
        match self {
            Self::Completed => "COMPLETED",
            Self::Failed(_) => "FAILED",
            Self::Cancelled => "CANCELLED",
            Self::TimedOut => "TIMED_OUT",
        }
    }
}

/// Where a job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// In the queue.
    Queued,
    /// With a worker.
    Running {
        /// Which.
        worker: String,
        /// Since when.
        since: Instant,
    },
    /// For good.
    Ended {
        /// How.
        end: Final,
        /// When.
        at: Instant,
        /// Its last worker and how long it had it.
        ran: Option<(String, Duration)>,
    },
}

/// A job.
#[derive(Debug)]
pub struct Job {
    input: Value,
    extras: Map<String, Value>,
    pub(super) webhook: Option<String>,
    execution_timeout: Duration,
    ttl: Duration,
    pub(super) low_priority: bool,
    sync: bool,
    submitted_at: Instant,
    pub(super) queued_at: Instant,
    /// Not handed out before.
    pub(super) rests_until: Option<Instant>,
    /// From submission to the first taking.
    delay: Option<Duration>,
    pub(super) phase: Phase,
    /// Workers that were given it as well, by a fault.
    pub(super) doubles: Vec<String>,
    pub(super) output: Option<Value>,
    pub(super) stream: Vec<Value>,
    pub(super) retries: u32,
}

impl Job {
    pub(super) fn new(new: NewJob, rules: &Rules, now: Instant) -> Self {
        Self {
            input: new.input,
            extras: new.extras,
            webhook: new.webhook,
            execution_timeout: new.execution_timeout.unwrap_or(rules.execution_timeout),
            ttl: new.ttl.unwrap_or(rules.ttl),
            low_priority: new.low_priority,
            sync: new.sync,
            submitted_at: now,
            queued_at: now,
            rests_until: None,
            delay: None,
            phase: Phase::Queued,
            doubles: Vec::new(),
            output: None,
            stream: Vec::new(),
            retries: 0,
        }
    }

    /// Gives it to a worker.
    pub(super) fn hand_to(&mut self, worker: &str, now: Instant) {
        let waited = now.saturating_duration_since(self.submitted_at);
        self.delay.get_or_insert(waited);
        self.phase = Phase::Running {
            worker: worker.to_owned(),
            since: now,
        };
    }

    /// What job-take answers.
    pub(super) fn handed(&self, id: &str) -> Value {
        let mut body = self.extras.clone();
        body.insert("id".to_owned(), json!(id));
        body.insert("input".to_owned(), self.input.clone());
        if let Some(webhook) = &self.webhook {
            body.insert("webhook".to_owned(), json!(webhook));
        }
        Value::Object(body)
    }

    /// Its owner, while it runs.
    pub(super) fn owner(&self) -> Option<&str> {
        match &self.phase {
            Phase::Running { worker, .. } => Some(worker),
            Phase::Queued | Phase::Ended { .. } => None,
        }
    }

    /// Whether this worker may speak for it.
    pub(super) fn is_with(&self, id: &str) -> bool {
        match &self.phase {
            Phase::Running { worker, .. } => {
                worker == id || self.doubles.iter().any(|double| double == id)
            }
            Phase::Queued | Phase::Ended { .. } => false,
        }
    }

    pub(super) fn rests(&self, now: Instant) -> bool {
        self.rests_until.is_some_and(|until| now < until)
    }

    /// The worker that has had it for too long; noticed a little late, as at RunPod.
    pub(super) fn overdue(&self, lag: Duration, now: Instant) -> Option<String> {
        match &self.phase {
            Phase::Running { worker, since }
                if now.saturating_duration_since(*since) > self.execution_timeout + lag =>
            {
                Some(worker.clone())
            }
            Phase::Running { .. } | Phase::Queued | Phase::Ended { .. } => None,
        }
    }

    /// Past its ttl, in whatever phase.
    pub(super) fn is_expired(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.submitted_at) > self.ttl
    }

    /// Ended so long ago that its result is gone.
    pub(super) fn is_forgotten(&self, rules: &Rules, now: Instant) -> bool {
        let kept = if self.sync {
            rules.retention_sync
        } else {
            rules.retention
        };
        match &self.phase {
            Phase::Ended { at, .. } => now.saturating_duration_since(*at) > kept,
            Phase::Queued | Phase::Running { .. } => false,
        }
    }

    pub(super) fn end(&mut self, end: Final, now: Instant) {
        let ran = match &self.phase {
            Phase::Running { worker, since } => {
                Some((worker.clone(), now.saturating_duration_since(*since)))
            }
            Phase::Queued | Phase::Ended { .. } => None,
        };
        if !matches!(end, Final::Failed(_) | Final::TimedOut) {
            // Many of them are kept for half an hour; only these two can be retried.
            self.input = Value::Null;
            self.extras = Map::new();
        }
        self.phase = Phase::Ended { end, at: now, ran };
    }

    /// Whether /retry may begin it anew.
    pub(super) fn can_retry(&self) -> bool {
        match &self.phase {
            Phase::Ended { end, .. } => matches!(end, Final::Failed(_) | Final::TimedOut),
            Phase::Queued | Phase::Running { .. } => false,
        }
    }

    /// Anew, with the same input: nothing of the old run is left.
    pub(super) fn begin_again(&mut self, now: Instant) {
        self.queue_again(None, now);
        self.submitted_at = now;
        self.delay = None;
        self.retries = 0;
        self.stream.clear();
    }

    /// Back into the queue after its worker was lost; what the worker told is void.
    pub(super) fn queue_again(&mut self, rests_until: Option<Instant>, now: Instant) {
        self.retries += 1;
        self.queued_at = now;
        self.rests_until = rests_until;
        self.output = None;
        self.doubles.clear();
        self.phase = Phase::Queued;
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended { .. })
    }

    pub(super) fn status(&self) -> &'static str {
        match &self.phase {
            Phase::Queued => "IN_QUEUE",
            Phase::Running { .. } => "IN_PROGRESS",
            Phase::Ended { end, .. } => end.word(),
        }
    }

    /// The body of /status.
    pub(super) fn view(&self, id: &str) -> Value {
        let mut view = Map::new();
        view.insert("id".to_owned(), json!(id));
        view.insert("status".to_owned(), json!(self.status()));
        if let Some(delay) = self.delay {
            view.insert("delayTime".to_owned(), json!(millis(delay)));
        }
        match &self.phase {
            Phase::Queued => {}
            Phase::Running { worker, .. } => {
                view.insert("workerId".to_owned(), json!(worker));
            }
            Phase::Ended { end, ran, .. } => {
                if let Some((worker, time)) = ran {
                    view.insert("workerId".to_owned(), json!(worker));
                    view.insert("executionTime".to_owned(), json!(millis(*time)));
                }
                if let Final::Failed(error) = end {
                    view.insert("error".to_owned(), json!(error));
                }
            }
        }
        if let Some(output) = &self.output {
            view.insert("output".to_owned(), output.clone());
        }
        if self.retries > 0 {
            view.insert("retries".to_owned(), json!(self.retries));
        }
        Value::Object(view)
    }

    /// The view without its output, for lists.
    pub(super) fn dump(&self, id: &str, now: Instant) -> Value {
        let mut view = self.view(id);
        if let Some(view) = view.as_object_mut() {
            view.remove("output");
            let age = now.saturating_duration_since(self.submitted_at);
            view.insert("ageMs".to_owned(), json!(millis(age)));
        }
        view
    }
}
