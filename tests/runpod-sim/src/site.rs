//! What all endpoints of one emulator share.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Config;
use crate::clock::Clock;
use crate::faults::Faults;

/// Settings, clock, faults, and the tasks' tracker.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    /// `http://127.0.0.1:8100`, as workers on this machine reach us.
    pub(crate) base: String,
    /// Program and arguments of a worker; empty: none is started.
    pub(crate) command: Vec<String>,
    /// Whether `setpriv` can tie workers to our life even if we are killed.
    pub(crate) has_setpriv: bool,
    pub(crate) worker_root: PathBuf,
    pub(crate) http: reqwest::Client,
    pub(crate) faults: Faults,
    /// Workers are to end, and what is held open is answered.
    pub(crate) closing: CancellationToken,
    /// Nobody is served from here on.
    pub(crate) closed: CancellationToken,
    /// The lives of workers.
    pub(crate) lives: TaskTracker,
    /// Everything else.
    pub(crate) tracker: TaskTracker,
}

impl Site {
    /// How long polls of workers are held, in real time: they would notice.
    pub(crate) fn poll_hold(&self) -> Duration {
        self.config.poll_hold
    }

    /// What the control API says of the clock.
    pub(crate) fn clock_dump(&self) -> Value {
        let now = self.clock.now();
        json!({"factor": self.clock.factor(), "now_ms": self.clock.wall_ms(now)})
    }
}
