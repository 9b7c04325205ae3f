//! What work takes, as the dispatcher has learned it: for dry runs, for the plan, for `eta_s`.
//!
//! Looked up in Redis at most every few seconds, not for each job; while Redis is away what was
//! known last counts, and at first the settings. The figures go with the job's message, so that the
//! dispatcher plans what the client was told.

use crate::core::Ingest;
use photofinish_jobstore::Estimates;
use photofinish_model::Operation;
use photofinish_model::estimate::Rate;
use photofinish_runtime::error_chain;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What was learned is looked up at most so often.
const AGE_MAX: Duration = Duration::from_secs(5);

/// What was learned, as of the last look.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<(Option<Instant>, Estimates)>);

impl Known {
    /// A rate, and whether it is time for a look; who is told so takes it, for all.
    fn rate(&self, operation: Operation, prior: Rate, now: Instant) -> (Rate, bool) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (looked, estimates) = &mut *known;
        let due = looked.is_none_or(|at| now.saturating_duration_since(at) >= AGE_MAX);
        if due {
            *looked = Some(now);
        }
        let learned = estimates.learned(operation);
        (learned.map_or(prior, |learned| learned.rate), due)
    }

    fn keep(&self, estimates: Estimates) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1 = estimates;
    }
}

impl Ingest {
    /// What an operation's work takes.
    pub(crate) async fn rate(&self, operation: Operation) -> Rate {
        let prior = self.config.prior.rate(operation);
        let (rate, due) = self.known.rate(operation, prior, Instant::now());
        if !due {
            return rate;
        }
        match self.jobstore.estimates().await {
            Ok(estimates) => {
                let learned = estimates.learned(operation);
                self.known.keep(estimates);
                learned.map_or(prior, |learned| learned.rate)
            }
            Err(error) => {
                tracing::debug!(error = error_chain(&error), "look up what work takes");
                rate
            }
        }
    }
}
