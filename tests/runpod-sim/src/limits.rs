//! RunPod's rate limits: so many calls of an operation and endpoint in 10 s, so many at once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The span that calls are counted over.
const WINDOW: Duration = Duration::from_secs(10);

/// Calls in a window and at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limit {
    calls: u32,
    at_once: Option<u32>,
}

/// What is published; everything else is unlimited.
fn published(operation: &str) -> Option<Limit> {
    let (calls, at_once) = match operation {
        "run" => (1000, Some(200)),
        "runsync" | "status" | "status-sync" | "stream" | "openai" => (2000, Some(400)),
        "cancel" => (100, Some(20)),
        "purge-queue" => (2, None),
        "requests" => (10, Some(2)),
        _ => return None,
    };
    Some(Limit { calls, at_once })
}

#[derive(Debug, Default)]
struct Count {
    recent: VecDeque<Instant>,
    open: u32,
}

type Counts = Arc<Mutex<BTreeMap<&'static str, Count>>>;

fn lock(counts: &Counts) -> MutexGuard<'_, BTreeMap<&'static str, Count>> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The calls of one endpoint.
#[derive(Debug)]
pub(crate) struct RateLimits {
    factor: Option<f64>,
    per_worker: u32,
    counts: Counts,
}

/// A call that was let in; counted as open until it is dropped.
#[derive(Debug)]
pub(crate) struct Admitted {
    operation: &'static str,
    counts: Counts,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if let Some(count) = lock(&self.counts).get_mut(self.operation) {
            count.open = count.open.saturating_sub(1);
        }
    }
}

impl RateLimits {
    /// `factor` multiplies what is published, `None` lifts it; `per_worker`: so many calls for each
    /// busy worker at least.
    pub(crate) fn new(factor: Option<f64>, per_worker: u32) -> Self {
        let counts = Counts::default();
        Self {
            factor,
            per_worker,
            counts,
        }
    }

    /// Lets a call in, or not.
    pub(crate) fn admit(
        &self,
        operation: &'static str,
        busy_workers: usize,
        now: Instant,
    ) -> Option<Admitted> {
        let mut counts = lock(&self.counts);
        let count = counts.entry(operation).or_default();
        if let (Some(factor), Some(limit)) = (self.factor, published(operation)) {
            let scaled = |base: u32| (f64::from(base) * factor).ceil() as u32;
            let busy = u32::try_from(busy_workers).unwrap_or(u32::MAX);
            let calls = scaled(limit.calls).max(busy.saturating_mul(self.per_worker));
            let old = |at: &Instant| now.saturating_duration_since(*at) >= WINDOW;
            while count.recent.front().is_some_and(old) {
                count.recent.pop_front();
            }
            let is_full = count.recent.len() >= usize::try_from(calls).unwrap_or(usize::MAX);
            if is_full || limit.at_once.is_some_and(|most| count.open >= scaled(most)) {
                return None;
            }
            count.recent.push_back(now);
        }
        count.open += 1;
        Some(Admitted {
            operation,
            counts: Arc::clone(&self.counts),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_over_ten_seconds_and_by_operation() {
        let limits = RateLimits::new(Some(1.0), 0);
        let now = Instant::now();
        for _ in 0..100 {
            assert!(limits.admit("cancel", 0, now).is_some());
        }
        assert!(limits.admit("cancel", 0, now).is_none());
        assert!(limits.admit("run", 0, now).is_some());
        assert!(limits.admit("health", 0, now).is_some());
        assert!(limits.admit("cancel", 0, now + WINDOW).is_some());
    }

    #[test]
    fn calls_at_once_are_limited_until_they_end() {
        let limits = RateLimits::new(Some(1.0), 0);
        let now = Instant::now();
        let mut open: Vec<_> = (0..20).map(|_| limits.admit("cancel", 0, now)).collect();
        assert!(open.iter().all(Option::is_some));
        assert!(limits.admit("cancel", 0, now).is_none());
        open.pop();
        assert!(limits.admit("cancel", 0, now).is_some());
    }

    #[test]
    fn busy_workers_raise_a_limit_a_factor_scales_it_and_off_lifts_it() {
        let now = Instant::now();
        let admitted = |limits: &RateLimits, busy: usize| {
            (0..50)
                .filter(|_| limits.admit("purge-queue", busy, now).is_some())
                .count()
        };
        assert_eq!(admitted(&RateLimits::new(Some(1.0), 0), 5), 2);
        assert_eq!(admitted(&RateLimits::new(Some(1.0), 4), 3), 12);
        assert_eq!(admitted(&RateLimits::new(Some(5.0), 0), 0), 10);
        assert_eq!(admitted(&RateLimits::new(None, 0), 0), 50);
    }
}
