//! A token bucket and a cap on calls at once, one pair per operation.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// How often one operation may be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperationLimit {
    /// Calls in 10 s, evenly; at most a tenth of it in one burst. 0 counts as 1.
    pub per_10s: u32,
    /// Calls under way at once. 0 counts as 1.
    pub concurrent: usize,
}

impl OperationLimit {
    /// So many calls in 10 s, a fifth of it under way at once.
    pub fn per_10s(calls: u32) -> Self {
        Self {
            per_10s: calls,
            concurrent: calls as usize / 5,
        }
    }
}

#[derive(Debug)]
pub(super) struct Limiter {
    bucket: Mutex<Bucket>,
    at_once: Arc<Semaphore>,
}

impl Limiter {
    pub(super) fn new(limit: OperationLimit) -> Self {
        Self {
            bucket: Mutex::new(Bucket::new(limit.per_10s, Instant::now())),
            at_once: Arc::new(Semaphore::new(
                limit.concurrent.clamp(1, Semaphore::MAX_PERMITS),
            )),
        }
    }

    /// Waits for a turn; the call is over when the permit is dropped. First come, first served.
    pub(super) async fn admit(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed, so the permit is always there.
        let permit = Arc::clone(&self.at_once).acquire_owned().await.ok();
        let wait = self
            .bucket
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        permit
    }
}

/// Tokens may go below zero: a debt is the turn of someone who already waits.
#[derive(Debug)]
struct Bucket {
    tokens: f64,
    tokens_max: f64,
    per_second: f64,
    at: Instant,
}

impl Bucket {
    fn new(per_10s: u32, now: Instant) -> Self {
        let per_second = f64::from(per_10s.max(1)) / 10.0;
        let tokens_max = per_second.max(1.0);
        Self {
            tokens: tokens_max,
            tokens_max,
            per_second,
            at: now,
        }
    }

    fn take(&mut self, now: Instant) -> Duration {
        let earned = now.saturating_duration_since(self.at).as_secs_f64() * self.per_second;
        self.at = self.at.max(now);
        self.tokens = (self.tokens + earned).min(self.tokens_max) - 1.0;
        if self.tokens >= 0.0 {
            Duration::ZERO
        } else {
            Duration::from_secs_f64(-self.tokens / self.per_second)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_more_than_the_limit_and_a_burst_in_ten_seconds() {
        let start = Instant::now();
        let mut bucket = Bucket::new(500, start);
        let due: Vec<Duration> = (0..2000).map(|_| bucket.take(start)).collect();
        let within = |from: u64| {
            let (from, to) = (Duration::from_secs(from), Duration::from_secs(from + 10));
            due.iter().filter(|at| **at >= from && **at < to).count()
        };
        assert_eq!(due.iter().filter(|at| at.is_zero()).count(), 50);
        assert!(within(0) <= 550, "{}", within(0));
        assert!(within(5) <= 501, "{}", within(5));
    }

    #[test]
    fn tokens_come_back_up_to_one_burst() {
        let start = Instant::now();
        let mut bucket = Bucket::new(50, start);
        for _ in 0..5 {
            assert_eq!(bucket.take(start), Duration::ZERO);
        }
        assert_eq!(bucket.take(start), Duration::from_millis(200));
        let later = start + Duration::from_hours(1);
        let free = (0..50).filter(|_| bucket.take(later).is_zero()).count();
        assert_eq!(free, 5);
    }

    #[tokio::test]
    async fn calls_at_once_are_capped() {
        let limiter = Limiter::new(OperationLimit {
            per_10s: 100_000,
            concurrent: 1,
        });
        let first = limiter.admit().await;
        let waiting = tokio::time::timeout(Duration::from_millis(50), limiter.admit()).await;
        assert!(waiting.is_err());
        drop(first);
        assert!(limiter.admit().await.is_some());
    }
}
