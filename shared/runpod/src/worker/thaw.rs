//! Noticing that this process stood still.
//!
//! RunPod's FlashBoot freezes a worker and thaws it much later: its connections are dead by then,
//! and nobody told it. A [`ThawWatch`] compares two clocks at every tick: a tick that comes far
//! too late, or a wall clock that ran away from the monotonic one (which some freezers stop), is a
//! thaw. Being wrong costs a reconnect and nothing else.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::time::Instant as TokioInstant;

/// How often the clocks are looked at.
const TICK: Duration = Duration::from_millis(500);

/// Two clocks, read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// A clock that never goes back; may stand still while the process is frozen.
    pub monotonic: Duration,
    /// Time of day, since 1970.
    pub wall: Duration,
}

/// Where readings come from; tests have clocks of their own.
#[derive(Clone)]
pub struct Clocks(Arc<dyn Fn() -> Reading + Send + Sync>);

impl Clocks {
    /// Clocks that are read by calling `read`.
    pub fn new(read: impl Fn() -> Reading + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    fn read(&self) -> Reading {
        (self.0)()
    }
}

impl Default for Clocks {
    /// The system's.
    fn default() -> Self {
        let began = Instant::now();
        Self::new(move || Reading {
            monotonic: began.elapsed(),
            wall: time_of_day(),
        })
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "compared with the monotonic clock to notice a thaw, and never told to anyone"
)]
fn time_of_day() -> Duration {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

impl std::fmt::Debug for Clocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clocks").finish_non_exhaustive()
    }
}

/// Looks at the clocks and tells of gaps.
#[derive(Debug)]
pub(super) struct ThawWatch {
    clocks: Clocks,
    gap_min: Duration,
    last: Reading,
    next_tick: TokioInstant,
}

impl ThawWatch {
    pub(super) fn new(clocks: Clocks, gap_min: Duration) -> Self {
        Self {
            last: clocks.read(),
            next_tick: TokioInstant::now() + TICK,
            clocks,
            gap_min,
        }
    }

    /// Waits for a thaw; returns how long the process stood still, about. May be dropped and
    /// called again without missing one.
    pub(super) async fn thawed(&mut self) -> Duration {
        loop {
            tokio::time::sleep_until(self.next_tick).await;
            self.next_tick = TokioInstant::now() + TICK;
            let now = self.clocks.read();
            let gap = gap(self.last, now, self.gap_min);
            self.last = now;
            if let Some(gap) = gap {
                return gap;
            }
        }
    }
}

/// How long nothing ran between two readings, if it was at least `gap_min`.
fn gap(last: Reading, now: Reading, gap_min: Duration) -> Option<Duration> {
    let ran = now.monotonic.saturating_sub(last.monotonic);
    let passed = now.wall.saturating_sub(last.wall);
    let ran_away = passed.saturating_sub(ran);
    let gap = ran.max(ran_away);
    (gap >= gap_min).then_some(gap)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(monotonic_ms: u64, wall_ms: u64) -> Reading {
        Reading {
            monotonic: Duration::from_millis(monotonic_ms),
            wall: Duration::from_millis(wall_ms),
        }
    }

    #[test]
    fn late_ticks_and_clocks_that_part_are_thaws() {
        let min = Duration::from_secs(10);
        let from = reading(1_000, 1_000_000);
        let thaw = |to| gap(from, to, min).map(|gap| gap.as_secs());
        assert_eq!(thaw(reading(1_500, 1_000_500)), None, "a tick");
        assert_eq!(thaw(reading(10_900, 1_009_900)), None, "a busy machine");
        assert_eq!(thaw(reading(61_000, 1_060_000)), Some(60), "stopped");
        assert_eq!(thaw(reading(1_500, 1_060_500)), Some(60), "suspended");
        assert_eq!(thaw(reading(1_500, 900_000)), None, "clock set back");
        assert_eq!(
            thaw(reading(61_000, 900_000)),
            Some(60),
            "stopped, set back"
        );
    }
}
