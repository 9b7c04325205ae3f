//! Numbers and spans of watches and pulls. What each number means stands in docs/metrics.md.

use crate::pull::Pull;
use photofinish_model::OutputSource;
use tracing::Span;
use tracing::field::Empty;

/// What is zero until it happens is told as zero.
pub fn begin() {
    for outcome in ["pull", "rescue", "lost"] {
        races(outcome).increment(0);
    }
    retries().increment(0);
    broken().increment(0);
}

fn races(outcome: &'static str) -> metrics::Counter {
    metrics::counter!("photofinish_races_total", "outcome" => outcome)
}

fn retries() -> metrics::Counter {
    metrics::counter!("photofinish_retries_total", "owner" => "fetcher", "what" => "pull")
}

fn broken() -> metrics::Counter {
    metrics::counter!("photofinish_pulls_broken_total")
}

/// An output is stored, and no other attempt was faster.
pub fn race_won(source: OutputSource) {
    races(match source {
        OutputSource::PulledInProgress | OutputSource::PulledLate => "pull",
        OutputSource::Rescued => "rescue",
    })
    .increment(1);
}

/// So many outputs were ready on a worker and went with it.
pub fn races_lost(outputs: usize) {
    races("lost").increment(outputs as u64);
}

/// A pull broke; whether it is begun again its watch decides.
pub fn pull_broke() {
    broken().increment(1);
    retries().increment(1);
}

/// The span of one pull, a child of its watch's.
pub fn pull_span(pull: &Pull) -> Span {
    let attempt = &pull.attempt;
    // Of the highest level: its fields stand on every line that is logged inside of it.
    tracing::error_span!(
        "pull",
        otel.name = "pull output",
        otel.status_code = Empty,
        "error.type" = Empty,
        "photofinish.bytes" = pull.output.bytes,
        tenant = %attempt.tenant,
        job = %attempt.job,
        index = pull.output.index,
    )
}

/// The span of asking a worker for a file, or for the rest of it.
pub fn get_span(pull: &Pull, route: &'static str) -> Span {
    tracing::info_span!(
        "get",
        otel.name = "GET /attempts/{nonce}/outputs/{name}",
        otel.kind = "client",
        otel.status_code = Empty,
        "error.type" = Empty,
        "http.request.method" = "GET",
        "url.template" = "/attempts/{nonce}/outputs/{name}",
        "photofinish.route" = route,
        "photofinish.worker" = pull.place.as_ref().map(|place| place.worker.as_str()),
    )
}
