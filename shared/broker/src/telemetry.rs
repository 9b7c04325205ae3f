//! Metrics, all named here. Labels are few: families and targets, never lanes, jobs or tenants.

use metrics::counter;

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
