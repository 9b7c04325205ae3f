//! The emulator's time: as fast as a factor says, and moved forward at will.
//!
//! Guarantee: every instant of the queue and every long wait comes from one [`Clock`], so they agree
//! at any factor, and a change of the factor reaches waits that have begun. Not for what workers
//! notice directly: the hold of their polls, the interval of their pings, the grace after SIGTERM.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;

/// Smallest and largest factor.
pub const FACTOR_MIN: f64 = 0.01;
/// See [`FACTOR_MIN`].
pub const FACTOR_MAX: f64 = 100_000.0;

/// Longest real sleep before the clock is read again.
const NAP_MAX: Duration = Duration::from_hours(1);

#[derive(Debug, Clone, Copy)]
struct Reading {
    real: Instant,
    shown: Instant,
    factor: f64,
}

impl Reading {
    fn at(self, real: Instant) -> Instant {
        let passed = real.saturating_duration_since(self.real);
        self.shown + passed.mul_f64(self.factor)
    }
}

/// Virtual time.
#[derive(Debug)]
pub struct Clock {
    reading: Mutex<Reading>,
    born: Instant,
    born_ms: u64,
    changed: Notify,
}

impl Clock {
    /// Starts at the real time; one real second is `factor` seconds.
    pub fn new(factor: f64) -> Self {
        let now = Instant::now();
        #[expect(
            clippy::disallowed_methods,
            reason = "the one place where the emulator asks what day it is, to show it"
        )]
        let wall = SystemTime::now().duration_since(UNIX_EPOCH);
        let reading = Reading {
            real: now,
            shown: now,
            factor: factor.clamp(FACTOR_MIN, FACTOR_MAX),
        };
        Self {
            reading: Mutex::new(reading),
            born: now,
            born_ms: millis(wall.unwrap_or_default()),
            changed: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Reading> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Now, in virtual time.
    pub fn now(&self) -> Instant {
        self.lock().at(Instant::now())
    }

    /// How much faster than real it goes.
    pub fn factor(&self) -> f64 {
        self.lock().factor
    }

    /// From here on so much faster than real.
    pub fn set_factor(&self, factor: f64) {
        let mut reading = self.lock();
        let now = Instant::now();
        *reading = Reading {
            real: now,
            shown: reading.at(now),
            factor: factor.clamp(FACTOR_MIN, FACTOR_MAX),
        };
        drop(reading);
        self.changed.notify_waiters();
    }

    /// Jumps forward.
    pub fn advance(&self, by: Duration) {
        self.lock().shown += by;
        self.changed.notify_waiters();
    }

    /// What a calendar in virtual time shows at an instant, Unix milliseconds.
    pub fn wall_ms(&self, at: Instant) -> u64 {
        self.born_ms + millis(at.saturating_duration_since(self.born))
    }

    /// Waits until it is this late, in virtual time.
    pub async fn sleep_until(&self, until: Instant) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let reading = *self.lock();
            let left = until.saturating_duration_since(reading.at(Instant::now()));
            if left.is_zero() {
                return;
            }
            let nap = left.div_f64(reading.factor).min(NAP_MAX);
            tokio::select! {
                () = tokio::time::sleep(nap) => {}
                () = changed => {}
            }
        }
    }

    /// Waits so long, in virtual time.
    pub async fn sleep(&self, time: Duration) {
        self.sleep_until(self.now() + time).await;
    }
}

/// Whole milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_hour_passes_at_once_and_a_wait_that_has_begun_notices() {
        let clock = Clock::new(3600.0);
        let (began, wall) = (Instant::now(), clock.wall_ms(clock.now()));
        clock.sleep(Duration::from_hours(1)).await;
        assert!(began.elapsed() < Duration::from_secs(20));
        assert!(clock.wall_ms(clock.now()) >= wall + 3_600_000);
        clock.set_factor(1.0);
        let until = clock.now() + Duration::from_hours(24);
        let waiting = clock.sleep_until(until);
        tokio::pin!(waiting);
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        clock.advance(Duration::from_hours(23));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        clock.advance(Duration::from_hours(1));
        tokio::time::timeout(Duration::from_secs(10), waiting)
            .await
            .unwrap();
    }

    #[test]
    fn factors_have_bounds_and_time_does_not_go_back() {
        let clock = Clock::new(0.0);
        assert!(clock.factor() >= FACTOR_MIN);
        clock.set_factor(1e12);
        assert!(clock.factor() <= FACTOR_MAX);
        let before = clock.now();
        clock.set_factor(1.0);
        assert!(clock.now() >= before);
    }
}
