//! Faults that wait for a moment in the life of a job or a worker.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a worker's process is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Signal {
    /// To the process and its children.
    #[default]
    Kill,
    /// To the process.
    Term,
    /// To the process and its children: freeze.
    Stop,
    /// To the process and its children: thaw.
    Cont,
}

/// When a trap springs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// A job was handed to the worker.
    Take,
    /// The worker's progress announced outputs: `output.outputs` is not empty.
    Output,
    /// The worker posts a result: the post is lost with it.
    Result,
    /// The worker posted a result, which was taken.
    ResultKept,
}

/// A signal for the worker that gets to a moment.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trap {
    /// When.
    pub at: Moment,
    /// Only this worker.
    #[serde(default)]
    pub worker: Option<String>,
    /// From the moment to the signal, real milliseconds.
    #[serde(default)]
    pub after_ms: u64,
    /// Which signal.
    #[serde(default)]
    pub signal: Signal,
    /// How often it springs.
    #[serde(default = "once")]
    pub count: u32,
}

fn once() -> u32 {
    1
}

impl Trap {
    /// From the moment to the signal.
    pub fn after(&self) -> Duration {
        Duration::from_millis(self.after_ms)
    }
}

/// Faults of the queue and of starts that are still to come.
#[derive(Debug, Default, Serialize)]
pub struct Mishaps {
    /// Signals at moments.
    pub traps: Vec<Trap>,
    /// So many of the next jobs are given to two workers.
    pub doubles: u32,
    /// So many of the next jobs are accepted and lost.
    pub losses: u32,
    /// So many of the next workers end at their start.
    pub crashes: u32,
    /// So many of the next workers start late, and by how many milliseconds.
    pub slow_starts: (u32, u64),
}

impl Mishaps {
    /// Springs the first trap that fits.
    pub(super) fn spring(&mut self, at: Moment, worker: &str) -> Option<Trap> {
        let fits =
            |trap: &Trap| trap.at == at && trap.worker.as_ref().is_none_or(|only| only == worker);
        let found = self.traps.iter().position(fits)?;
        let sprung = self.traps[found].clone();
        self.traps[found].count = sprung.count.saturating_sub(1);
        if self.traps[found].count == 0 {
            self.traps.remove(found);
        }
        Some(sprung)
    }

    /// Takes one from a counter, if there is one.
    pub(super) fn due(counter: &mut u32) -> bool {
        let is_due = *counter > 0;
        *counter = counter.saturating_sub(1);
        is_due
    }
}
