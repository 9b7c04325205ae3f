//! One worker as the queue sees it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Rules;
use crate::clock::millis;

/// How far a worker's life has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Started or about to be; has not called yet.
    Initializing,
    /// Calls.
    Running,
    /// FlashBoot: idle for so long that it sleeps, to be woken rather than started.
    Frozen,
    /// Says of itself that it is not fit for work.
    Unhealthy,
    /// Has had SIGTERM or is about to have it: gets no job.
    Stopping,
}

/// What others may know of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerSnapshot {
    /// Its id, also its pod's.
    pub id: String,
    /// How far it is.
    pub stage: Stage,
    /// Version of the endpoint it was started with.
    pub version: u32,
    /// Whether that is no longer the newest.
    pub stale: bool,
    /// When it was decided to start it.
    pub started_at: Instant,
    /// Its jobs.
    pub jobs: Vec<String>,
}

/// A worker.
#[derive(Debug)]
pub struct Worker {
    /// How far it is.
    pub stage: Stage,
    /// Whether we started it; others come from outside.
    pub ours: bool,
    /// Version of the endpoint it was started with.
    pub version: u32,
    /// When it was decided to start it.
    pub started_at: Instant,
    /// Its process.
    pub pid: Option<u32>,
    /// Its HTTP port, once its process runs.
    pub port: Option<u16>,
    /// Where TCP reaches that port from outside.
    pub tcp_port: Option<u16>,
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
    /// Since when it claims to have no job although it has one.
    pub(super) denies_since: Option<Instant>,
    /// Woken and not yet told so by a 400.
    pub(super) woken: bool,
}

impl Worker {
    pub(super) fn starting(ours: bool, version: u32, now: Instant) -> Self {
        Self {
            stage: Stage::Initializing,
            ours,
            version,
            started_at: now,
            pid: None,
            port: None,
            tcp_port: None,
            jobs: BTreeMap::new(),
            idle_since: now,
            stops: Vec::new(),
            stopped: BTreeMap::new(),
            heard_at: now,
            called: false,
            denies_since: None,
            woken: false,
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

    /// Whether it was started with something else than what holds now.
    pub fn is_stale(&self, version: u32) -> bool {
        self.ours && self.version < version
    }

    pub(super) fn is_lost(&self, rules: &Rules, now: Instant) -> bool {
        let silent = now.saturating_duration_since(self.heard_at);
        let limit = match self.stage {
            Stage::Initializing => rules.init_timeout,
            Stage::Running | Stage::Unhealthy => rules.ping_loss(),
            // A frozen one cannot call; SIGKILL follows a stopping one anyway.
            Stage::Frozen | Stage::Stopping => return false,
        };
        let stuck = self
            .stopped
            .values()
            .any(|since| now.saturating_duration_since(*since) > rules.stop_react);
        silent > limit || stuck
    }

    /// The clock jumped: it would have called meanwhile.
    pub(super) fn jump(&mut self, by: Duration) {
        if self.stage != Stage::Initializing {
            self.heard_at += by;
        }
        self.jobs.values_mut().for_each(|since| *since += by);
    }

    /// Whatever it has not said until now is not held against it.
    pub(super) fn forgive(&mut self, now: Instant) {
        if self.stage != Stage::Initializing {
            self.heard_at = now;
        }
        self.jobs.values_mut().for_each(|since| *since = now);
    }

    /// Its state in one word.
    pub(super) fn word(&self) -> &'static str {
        match self.stage {
            Stage::Initializing => "initializing",
            Stage::Running if self.jobs.is_empty() => "idle",
            Stage::Running => "running",
            Stage::Frozen => "frozen",
            Stage::Unhealthy => "unhealthy",
            Stage::Stopping => "stopping",
        }
    }

    pub(super) fn dump(&self, id: &str, version: u32, now: Instant) -> Value {
        json!({
            "id": id,
            "state": self.word(),
            "ours": self.ours,
            "version": self.version,
            "stale": self.is_stale(version),
            "pid": self.pid,
            "port": self.port,
            "tcpPort": self.tcp_port,
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
