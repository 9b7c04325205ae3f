//! Metrics, all named here. Labels are few: families and targets, never lanes, jobs or tenants.

use std::time::Duration;

use metrics::{counter, gauge, histogram};

pub(crate) fn published(target: &'static str) {
    counter!("photofinish_broker_published_total", "target" => target).increment(1);
}

pub(crate) fn confirmed(target: &'static str) {
    counter!("photofinish_broker_confirmed_total", "target" => target).increment(1);
}

/// Returned as unroutable, nacked, or lost with its channel.
pub(crate) fn unconfirmed(target: &'static str, why: &'static str) {
    counter!("photofinish_broker_unconfirmed_total", "target" => target, "why" => why).increment(1);
}

pub(crate) fn consumed(queue: &'static str, disposition: &'static str) {
    counter!("photofinish_broker_consumed_total", "queue" => queue, "disposition" => disposition)
        .increment(1);
}

/// An acknowledgement that did not reach the broker: the message comes again.
pub(crate) fn ack_false(queue: &'static str) {
    counter!("photofinish_broker_ack_false_total", "queue" => queue).increment(1);
}

pub(crate) fn handler_panicked(queue: &'static str) {
    counter!("photofinish_broker_handler_panics_total", "queue" => queue).increment(1);
}

/// A connection, publish channel or consumer was built again.
pub(crate) fn rebuilt(what: &'static str) {
    counter!("photofinish_broker_rebuilds_total", "what" => what).increment(1);
}

/// How long a message lay in its queue until it was taken.
pub(crate) fn waited(queue: &'static str, wait: Duration) {
    histogram!("photofinish_queue_wait_seconds", "queue" => queue).record(wait.as_secs_f64());
}

/// How many messages wait in a queue, and for how long at most.
pub(crate) fn waiting(queue: &'static str, depth: u64, oldest: Duration) {
    gauge!("photofinish_queue_messages", "queue" => queue).set(depth as f64);
    gauge!("photofinish_queue_oldest_seconds", "queue" => queue).set(oldest.as_secs_f64());
}

/// How many messages lie for people.
pub(crate) fn parked(queue: String, depth: u32) {
    gauge!("photofinish_parked_messages", "queue" => queue).set(f64::from(depth));
}
