//! How many runs are in flight, against the limit of the whole deployment.
//!
//! Counted for each admission where the limit is near. Far below it a count holds for a moment: what all processes
//! together admit in it stays below [`FAR`].

use crate::core::Ingest;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A count is good for so long.
const AGE_MAX: Duration = Duration::from_millis(250);
/// Runs below the limit from which on nobody has to count.
const FAR: u64 = 5000;

/// When the last count was found far below the limit.
#[derive(Debug, Default)]
pub(crate) struct InFlight(Mutex<Option<Instant>>);

impl InFlight {
    fn is_far_below(&self, now: Instant) -> bool {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.is_some_and(|at| now.saturating_duration_since(at) < AGE_MAX)
    }

    fn keep(&self, count: u64, max: u64, now: Instant) {
        let far = count.saturating_add(FAR) <= max;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = far.then_some(now);
    }
}

impl Ingest {
    /// Whether as many runs are in flight as there may be. An unknown number is no reason to refuse.
    pub(crate) async fn is_full(&self) -> bool {
        let (now, max) = (Instant::now(), self.config.jobs_in_flight_max);
        if self.in_flight.is_far_below(now) {
            return false;
        }
        let count = self.jobstore.jobs_in_flight().await.unwrap_or(0);
        self.in_flight.keep(count, max, now);
        count >= max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_fresh_count_far_below_the_limit_is_believed() {
        let (counted, now) = (InFlight::default(), Instant::now());
        assert!(!counted.is_far_below(now), "nobody has counted");
        counted.keep(5000, 10_000, now);
        assert!(counted.is_far_below(now));
        assert!(!counted.is_far_below(now + AGE_MAX), "it is old");
        counted.keep(5001, 10_000, now);
        assert!(!counted.is_far_below(now), "the limit is near");
    }
}
