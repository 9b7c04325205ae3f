//! The wall clock and the dice: the only places that read them.
//!
//! Guarantee: everything else gets `now` and `jitter` as values, so it can be tested without waiting.
//! Not for measuring durations: use [`std::time::Instant`], which no one can set back.

use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

/// The first time that anybody asked.
static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A source of the time of day. Clones share one state.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    set: Option<Arc<Mutex<Timestamp>>>,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock that stands still until [`Clock::advance`] moves it; its jitter is always 0.5. For tests.
    pub fn standing_at(now: Timestamp) -> Self {
        Self {
            set: Some(Arc::new(Mutex::new(now))),
        }
    }

    /// The time of day, UTC.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one home of the wall clock"
    )]
    pub fn now(&self) -> Timestamp {
        match &self.set {
            None => Timestamp::now(),
            Some(set) => *set
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        }
    }

    /// Time since a begin of its own, which nobody can set back: for paces and pauses that are kept in memory.
    pub fn ticks(&self) -> Duration {
        match &self.set {
            None => BEGIN.elapsed(),
            Some(_) => Duration::try_from(self.now().duration_since(Timestamp::UNIX_EPOCH))
                .unwrap_or_default(),
        }
    }

    /// A draw from 0 (included) to 1 (excluded).
    pub fn jitter(&self) -> f64 {
        match self.set {
            None => jitter(),
            Some(_) => 0.5,
        }
    }

    /// Moves a standing clock; nothing happens to the system's.
    pub fn advance(&self, by: SignedDuration) {
        if let Some(set) = &self.set {
            let mut now = set
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            *now = now.saturating_add(by).unwrap_or(Timestamp::MAX);
        }
    }
}

/// A draw from 0 (included) to 1 (excluded).
pub fn jitter() -> f64 {
    rand::random()
}
