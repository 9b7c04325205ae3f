//! Numbers and spans of deliveries. What each number means stands in docs/metrics.md.

use jiff::Timestamp;
use tracing::Span;
use tracing::field::Empty;

/// What is zero until it happens is told as zero.
pub(crate) fn begin() {
    for outcome in ["delivered", "retried", "refused", "given_up"] {
        deliveries(outcome).increment(0);
    }
    retries().increment(0);
}

fn deliveries(outcome: &'static str) -> metrics::Counter {
    metrics::counter!("photofinish_notifier_deliveries_total", "outcome" => outcome)
}

fn retries() -> metrics::Counter {
    metrics::counter!("photofinish_retries_total", "owner" => "notifier", "what" => "delivery")
}

/// A try is over.
pub(crate) fn tried(outcome: &'static str) {
    deliveries(outcome).increment(1);
    if outcome == "retried" {
        retries().increment(1);
    }
}

/// A receiver has an event now.
pub(crate) fn delivered(happened: Timestamp, now: Timestamp) {
    metrics::histogram!("photofinish_notifier_delivery_lag_seconds").record(since(happened, now));
}

/// The first call of a receiver for an event.
pub(crate) fn first_try(happened: Timestamp, now: Timestamp) {
    metrics::histogram!("photofinish_notifier_first_try_lag_seconds").record(since(happened, now));
}

fn since(happened: Timestamp, now: Timestamp) -> f64 {
    now.duration_since(happened).as_secs_f64().max(0.0)
}

/// The span of one call; `origin` is all that is told of a receiver's address, the rest may be a secret.
pub(crate) fn post_span(origin: &str, event: &str) -> Span {
    tracing::info_span!(
        "post",
        otel.name = "POST",
        otel.kind = "client",
        otel.status_code = Empty,
        "error.type" = Empty,
        "http.request.method" = "POST",
        "http.response.status_code" = Empty,
        "server.address" = origin,
        "photofinish.event" = event,
    )
}

/// How a call was answered, if it was.
pub(crate) fn answered(span: &Span, status: Option<u16>) {
    match status {
        Some(status) => {
            span.record("http.response.status_code", status);
            if status >= 400 {
                photofinish_runtime::trace::failed(span, &status.to_string());
            }
        }
        None => photofinish_runtime::trace::failed(span, "no_answer"),
    }
}
