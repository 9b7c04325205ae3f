//! Faults on command: what a call, a webhook or a TCP connection is to suffer.

mod play;

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub(crate) use self::play::{cut_before, intercept, problem};

/// Operations that are counted and can be made to fail.
pub(crate) const OPERATIONS: [&str; 22] = [
    "run",
    "runsync",
    "status",
    "status-sync",
    "stream",
    "cancel",
    "retry",
    "purge-queue",
    "health",
    "requests",
    "metrics",
    "openai",
    "job-take",
    "job-take-batch",
    "job-stop",
    "ping",
    "job-done",
    "job-stream",
    "proxy",
    "tcp",
    "management",
    "webhook",
];

/// Where a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Cut {
    /// Before the first byte of the answer.
    Before,
    /// In the middle of the answer's body.
    Body,
}

/// The next `count` calls of an operation are answered so.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fault {
    pub(crate) operation: String,
    /// Only of this endpoint.
    #[serde(default)]
    pub(crate) endpoint: Option<String>,
    /// How many calls; default 1, with a rate all of them.
    #[serde(default)]
    pub(crate) count: Option<u32>,
    /// Which share of the calls, 0 to 1, drawn from `seed`.
    #[serde(default)]
    pub(crate) rate: Option<f64>,
    #[serde(default)]
    pub(crate) seed: u64,
    /// Real time; before the call takes effect or, with `perform`, after it.
    #[serde(default)]
    pub(crate) delay_ms: u64,
    /// Code of the answer; without it the call goes on after the delay.
    #[serde(default)]
    pub(crate) status: Option<u16>,
    /// Text of the answer instead of a problem in RunPod's shape.
    #[serde(default)]
    pub(crate) body: Option<String>,
    #[serde(default)]
    pub(crate) content_type: Option<String>,
    /// `Retry-After` of the answer, seconds.
    #[serde(default)]
    pub(crate) retry_after: Option<u64>,
    /// Whether the call takes effect although it is answered so.
    #[serde(default)]
    pub(crate) perform: bool,
    /// The call is answered 200 and takes no effect.
    #[serde(default)]
    pub(crate) ignore: bool,
    /// No answer ever.
    #[serde(default)]
    pub(crate) hang: bool,
    #[serde(default)]
    pub(crate) cut: Option<Cut>,
    /// The connection is cut after so many bytes of the answer's body.
    #[serde(default)]
    pub(crate) cut_after_bytes: Option<u64>,
    /// Keys of the JSON answer to set, …
    #[serde(default)]
    pub(crate) set: Map<String, Value>,
    /// … and to leave out.
    #[serde(default)]
    pub(crate) remove: Vec<String>,
}

/// What the next webhooks are to suffer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebhookFault {
    /// Only of this endpoint.
    #[serde(default)]
    pub(crate) endpoint: Option<String>,
    #[serde(default = "one")]
    pub(crate) count: u32,
    /// Never sent.
    #[serde(default)]
    pub(crate) lose: bool,
    /// How many times it is sent.
    #[serde(default = "one")]
    pub(crate) copies: u32,
    /// Virtual time.
    #[serde(default)]
    pub(crate) delay_ms: u64,
    /// Every value in the query, or else the last part of the path, is replaced by `forged`.
    #[serde(default)]
    pub(crate) forge: bool,
}

fn one() -> u32 {
    1
}

#[derive(Debug)]
struct Waiting {
    fault: Fault,
    left: Option<u32>,
    random: u64,
}

impl Waiting {
    /// Whether this call is one of the share; splitmix64, so that a seed gives one sequence.
    fn hits(&mut self) -> bool {
        let Some(rate) = self.fault.rate else {
            return true;
        };
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 11) as f64 / (1_u64 << 53) as f64 <= rate && rate > 0.0
    }
}

/// Faults that are still to come.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    calls: Mutex<Vec<Waiting>>,
    webhooks: Mutex<Vec<WebhookFault>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn concerns(only: Option<&str>, endpoint: &str) -> bool {
    only.is_none_or(|only| only == endpoint)
}

impl Faults {
    /// Adds a fault of calls; says what is wrong with it.
    pub(crate) fn add(&self, fault: Fault) -> Result<(), String> {
        if !OPERATIONS.contains(&fault.operation.as_str()) || fault.operation == "webhook" {
            let known = OPERATIONS[..OPERATIONS.len() - 1].join(", ");
            return Err(format!("operation is one of {known}"));
        }
        if fault.count == Some(0) {
            return Err("count is at least 1".to_owned());
        }
        if fault.rate.is_some_and(|rate| !(0.0..=1.0).contains(&rate)) {
            return Err("rate is from 0 to 1".to_owned());
        }
        let default = fault.rate.is_none().then_some(1);
        lock(&self.calls).push(Waiting {
            left: fault.count.or(default),
            random: fault.seed,
            fault,
        });
        Ok(())
    }

    pub(crate) fn add_webhook(&self, fault: WebhookFault) {
        lock(&self.webhooks).push(fault);
    }

    /// The fault that this call is to suffer.
    pub(crate) fn next(&self, operation: &str, endpoint: &str) -> Option<Fault> {
        let mut calls = lock(&self.calls);
        let mut hit = |waiting: &mut Waiting| {
            waiting.fault.operation == operation
                && concerns(waiting.fault.endpoint.as_deref(), endpoint)
                && waiting.hits()
        };
        let at = calls.iter_mut().position(&mut hit)?;
        let fault = calls[at].fault.clone();
        if let Some(left) = &mut calls[at].left {
            *left -= 1;
            if *left == 0 {
                calls.remove(at);
            }
        }
        Some(fault)
    }

    /// The fault that this webhook is to suffer.
    pub(crate) fn next_webhook(&self, endpoint: &str) -> Option<WebhookFault> {
        let mut webhooks = lock(&self.webhooks);
        let fits = |fault: &WebhookFault| concerns(fault.endpoint.as_deref(), endpoint);
        let at = webhooks.iter().position(fits)?;
        let fault = webhooks[at].clone();
        webhooks[at].count = fault.count.saturating_sub(1);
        if webhooks[at].count == 0 {
            webhooks.remove(at);
        }
        Some(fault)
    }

    pub(crate) fn clear(&self) {
        lock(&self.calls).clear();
        lock(&self.webhooks).clear();
    }

    pub(crate) fn dump(&self) -> Value {
        let calls = lock(&self.calls);
        let left = |waiting: &Waiting| Fault {
            count: waiting.left,
            ..waiting.fault.clone()
        };
        let calls: Vec<Fault> = calls.iter().map(left).collect();
        json!({"calls": calls, "webhooks": *lock(&self.webhooks)})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(json: Value) -> Fault {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_rate_hits_its_share_and_the_same_calls_again_for_the_same_seed() {
        let drawn = |seed: u64| {
            let faults = Faults::default();
            let rate = json!({"operation": "run", "rate": 0.3, "seed": seed, "status": 500});
            faults.add(fault(rate)).unwrap();
            (0..1000)
                .map(|_| faults.next("run", "ep").is_some())
                .collect::<Vec<_>>()
        };
        let hits = drawn(7).iter().filter(|hit| **hit).count();
        assert!((250..350).contains(&hits), "{hits}");
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
    }

    #[test]
    fn a_fault_concerns_its_operation_and_endpoint_and_so_many_calls() {
        let faults = Faults::default();
        let two = json!({"operation": "run", "endpoint": "a", "count": 2, "status": 500});
        faults.add(fault(two)).unwrap();
        assert!(faults.next("run", "b").is_none() && faults.next("status", "a").is_none());
        assert!(faults.next("run", "a").is_some());
        assert_eq!(faults.dump()["calls"][0]["count"], 1, "those to come");
        assert!(faults.next("run", "a").is_some());
        assert!(faults.next("run", "a").is_none());
        assert!(faults.add(fault(json!({"operation": "walk"}))).is_err());
        assert!(
            faults
                .add(fault(json!({"operation": "run", "rate": 2.0})))
                .is_err()
        );
    }
}
