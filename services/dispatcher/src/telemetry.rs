//! Numbers for operators, all of the dispatcher's own named here. What each means stands in docs/metrics.md.
//!
//! Guarantee: labels are bounded: endpoints as configured, words of our own, and so many tenants.

use crate::core::Core;
use crate::endpoints::Endpoint;
use photofinish_contract::messages::{AttemptEnd, PartFinished};
use photofinish_jobstore::Slot;
use photofinish_model::{Code, JobSnapshot, Tenant};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// Tenants that have a row of numbers each; those that come later share one.
const TENANTS_MAX: usize = 100;
const OTHERS: &str = "other";

/// Seconds of GPU since the process began, by tenant and endpoint.
#[derive(Debug, Default)]
pub struct Spent(Mutex<Ledger>);

#[derive(Debug, Default)]
struct Ledger {
    tenants: BTreeSet<String>,
    seconds: BTreeMap<(String, String), f64>,
}

impl Ledger {
    /// The row that a tenant has, and what it has spent in all with this.
    fn add(&mut self, tenant: &Tenant, endpoint: &str, seconds: f64) -> (String, f64) {
        let tenant = tenant.as_str();
        if self.tenants.len() < TENANTS_MAX {
            self.tenants.insert(tenant.to_owned());
        }
        let row = if self.tenants.contains(tenant) {
            tenant
        } else {
            OTHERS
        };
        let key = (row.to_owned(), endpoint.to_owned());
        let sum = self.seconds.entry(key).or_default();
        *sum += seconds.max(0.0);
        (row.to_owned(), *sum)
    }
}

impl Spent {
    fn add(&self, tenant: &Tenant, endpoint: &str, seconds: f64) {
        let mut ledger = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (tenant, sum) = ledger.add(tenant, endpoint, seconds);
        // Counters are whole numbers: what is less than a second is told with the next attempt.
        metrics::counter!("photofinish_gpu_seconds_total",
            "tenant" => tenant, "endpoint" => endpoint.to_owned())
        .absolute(sum as u64);
    }
}

/// Why items fail by no fault of their inputs: alerts are about these.
const OUR_FAULTS: [Code; 6] = [
    Code::AttemptsExhausted,
    Code::InternalError,
    Code::RenderFailed,
    Code::RenderTimeout,
    Code::FontMissing,
    Code::OutputTooLarge,
];

/// What is zero until it happens is told as zero: what appears with its first event has not grown.
pub fn begin(endpoints: &[Endpoint]) {
    for what in ["attempt", "submit"] {
        retries(what).increment(0);
    }
    for code in OUR_FAULTS {
        items_failed(code.as_str()).increment(0);
    }
    for endpoint in endpoints {
        for end in ENDS {
            attempts_ended(&endpoint.id, end).increment(0);
        }
    }
}

fn items_failed(code: &'static str) -> metrics::Counter {
    metrics::counter!("photofinish_items_failed_total", "code" => code)
}

fn attempts_ended(endpoint: &str, end: &'static str) -> metrics::Counter {
    metrics::counter!("photofinish_attempts_ended_total",
        "endpoint" => endpoint.to_owned(), "end" => end)
}

fn retries(what: &'static str) -> metrics::Counter {
    metrics::counter!("photofinish_retries_total", "owner" => "dispatcher", "what" => what)
}

/// A part is to have another attempt.
pub fn attempt_retried() {
    retries("attempt").increment(1);
}

/// A submit was refused and is made again later.
pub fn submit_retried() {
    retries("submit").increment(1);
}

/// An item failed for good.
pub fn item_failed(code: &'static str) {
    items_failed(code).increment(1);
}

/// A run is over and everything that follows is done.
pub fn run_ended(end: &JobSnapshot) {
    let labels = [
        ("status", end.status.as_str()),
        ("operation", end.operation.as_str()),
    ];
    metrics::counter!("photofinish_runs_ended_total", &labels).increment(1);
    if let Some(finished) = end.finished_at {
        let took = finished.duration_since(end.created_at).as_secs_f64();
        metrics::histogram!("photofinish_run_duration_seconds", &labels).record(took.max(0.0));
    }
}

/// What is taken of an endpoint's slots.
pub fn slots(endpoint: &str, capacity: u32, taken: &[Slot]) {
    let gauge = |name: &'static str| metrics::gauge!(name, "endpoint" => endpoint.to_owned());
    gauge("photofinish_slots_in_use").set(taken.len() as f64);
    gauge("photofinish_slots_max").set(f64::from(capacity));
}

impl Core {
    /// An attempt is over and what follows is done.
    pub fn count_attempt(&self, finished: &PartFinished) {
        let (endpoint, usage) = (&finished.endpoint, &finished.usage);
        self.spent
            .add(&finished.attempt.tenant, endpoint, usage.gpu_seconds);
        attempts_ended(endpoint, word(&finished.end)).increment(1);
        if finished.end == AttemptEnd::Completed {
            metrics::histogram!("photofinish_linger_seconds", "endpoint" => endpoint.clone())
                .record(usage.linger_s.max(0.0));
        }
    }
}

/// Every word for an end.
const ENDS: [&str; 6] = [
    "completed",
    "failed",
    "lost",
    "never_started",
    "unknown",
    "run_over",
];

fn word(end: &AttemptEnd) -> &'static str {
    match end {
        AttemptEnd::Completed => "completed",
        AttemptEnd::Failed { .. } => "failed",
        AttemptEnd::Lost { .. } => "lost",
        AttemptEnd::NeverStarted => "never_started",
        AttemptEnd::Unknown => "unknown",
        AttemptEnd::RunOver => "run_over",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_tenants_have_a_row_each() {
        let mut ledger = Ledger::default();
        let tenant = |number: usize| format!("t{number}").parse::<Tenant>().unwrap();
        for number in 0..TENANTS_MAX {
            let (row, _) = ledger.add(&tenant(number), "ep", 0.6);
            assert_eq!(row, format!("t{number}"));
        }
        assert_eq!(ledger.add(&tenant(TENANTS_MAX), "ep", 2.0).0, OTHERS);
        assert_eq!(
            ledger.add(&tenant(TENANTS_MAX + 1), "ep", 3.0),
            (OTHERS.to_owned(), 5.0)
        );
        assert_eq!(ledger.add(&tenant(0), "ep", 0.6), ("t0".to_owned(), 1.2));
        assert_eq!(ledger.add(&tenant(0), "ep-2", 1.0), ("t0".to_owned(), 1.0));
        assert_eq!(
            ledger.add(&tenant(1), "ep", -5.0),
            ("t1".to_owned(), 0.6),
            "never backwards"
        );
    }
}
