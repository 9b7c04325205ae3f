//! One worker as the queue sees it.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::{Value, json};

use super::Rules;
use super::job::millis;

/// How far a worker's life has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Started or about to be; has not called yet.
    Initializing,
    /// Calls.
    Running,
    /// Has had SIGTERM or is about to have it: gets no job.
    Stopping,
}

/// A worker.
#[derive(Debug)]
pub struct Worker {
    /// How far it is.
    pub stage: Stage,
    /// Whether we started it; others come from outside.
    pub ours: bool,
    /// Its process.
    pub pid: Option<u32>,
    /// Its HTTP port, once its process runs.
    pub port: Option<u16>,
    /// Its jobs and when it took them.
    pub jobs: BTreeMap<String, Instant>,
    /// Since when it has no job.
    pub idle_since: Instant,
    /// Jobs it has to stop and was not told of.
    pub(super) stops: Vec<String>,
    /// Jobs it has to stop and has not let go of.
    pub(super) stopped: BTreeMap<String, Instant>,
    pub(super) heard_at: Instant,
    pub(super) called: bool,
}

impl Worker {
    pub(super) fn starting(ours: bool, now: Instant) -> Self {
        Self {
            stage: Stage::Initializing,
            ours,
            pid: None,
            port: None,
            jobs: BTreeMap::new(),
            idle_since: now,
            stops: Vec::new(),
            stopped: BTreeMap::new(),
            heard_at: now,
            called: false,
        }
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.heard_at = now;
        if self.stage == Stage::Initializing {
            self.stage = Stage::Running;
            self.idle_since = now;
        }
        self.called = true;
    }

    /// Up, without any job.
    pub fn is_idle(&self) -> bool {
        self.stage == Stage::Running && self.jobs.is_empty() && self.stopped.is_empty()
    }

    pub(super) fn is_lost(&self, rules: &Rules, now: Instant) -> bool {
        let silent = now.saturating_duration_since(self.heard_at);
        let limit = match self.stage {
            Stage::Initializing => rules.init_timeout,
            Stage::Running => rules.ping_loss,
            // SIGKILL follows anyway.
            Stage::Stopping => return false,
        };
        let stuck = self
            .stopped
            .values()
            .any(|since| now.saturating_duration_since(*since) > rules.stop_react);
        silent > limit || stuck
    }

    pub(super) fn dump(&self, id: &str, now: Instant) -> Value {
        let stage = match self.stage {
            Stage::Initializing => "initializing",
            Stage::Running if self.jobs.is_empty() => "idle",
            Stage::Running => "running",
            Stage::Stopping => "stopping",
        };
        json!({
            "id": id,
            "state": stage,
            "ours": self.ours,
            "pid": self.pid,
            "port": self.port,
            "jobs": self.jobs.keys().collect::<Vec<_>>(),
            "stoppedJobs": self.stopped.keys().collect::<Vec<_>>(),
            "silentMs": millis(now.saturating_duration_since(self.heard_at)),
        })
    }
}

/// A worker that is no more.
#[derive(Debug, Clone)]
pub struct Gone {
    pub(super) id: String,
    pub(super) pid: Option<u32>,
    pub(super) how: String,
}

impl Gone {
    pub(super) fn dump(&self) -> Value {
        json!({"id": self.id, "pid": self.pid, "how": self.how})
    }
}
