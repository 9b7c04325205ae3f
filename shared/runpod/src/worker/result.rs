//! The result of a job: its body, and the posting of it until it has arrived.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::calls::Posted;
use super::job::{JobFailure, JobOutcome};
use super::refresh::Turn;
use super::registry::Held;
use super::{PROTOCOL_VERSION, RESULT_TOO_LARGE, Shared};

/// First pause between two posts of a result.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// A wait that RunPod asks for is believed up to this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

/// Posts a result until it is accepted, refused, cancelled, or the deadline is over. `held` is
/// the job's place: it leaves when the result has arrived.
pub(super) async fn post_result(shared: &Shared, held: Held, outcome: &JobOutcome) {
    // While a refresh is due results go out one by one, and the last one asks for it: RunPod may
    // stop the worker at once.
    let turn = shared.refresh.turn().await;
    let stop_pod = matches!(turn, Turn::Alone(_)) && shared.registry.len() == 1;
    let body = guarded_body(shared, &held.job_id, outcome, stop_pod);
    post_until_done(shared, &held, body).await;
    drop(held);
    drop(turn);
}

async fn post_until_done(shared: &Shared, held: &Held, body: Bytes) {
    let settings = &shared.settings;
    let job_id = held.job_id.as_str();
    let bytes = body.len();
    let url = shared.env.output_url(job_id);
    let until = Instant::now() + settings.result_deadline;
    let mut pause = PAUSE_MIN;
    let mut maybe_there = false;
    loop {
        let posted = shared
            .calls
            .post(url.clone(), job_id, body.clone(), settings.result_timeout)
            .await;
        let (fault, wait) = match posted {
            Posted::Accepted => return,
            Posted::Refused(status) if maybe_there => {
                // What refuses a second result is having the first one.
                tracing::warn!(
                    requestId = job_id,
                    status,
                    bytes,
                    "result refused, an earlier post of it had probably arrived"
                );
                return;
            }
            Posted::Refused(status) => {
                tracing::error!(
                    requestId = job_id,
                    status,
                    bytes,
                    "result refused, given up"
                );
                return lost("refused");
            }
            Posted::Fault {
                fault,
                retry_after,
                may_have_arrived,
            } => {
                maybe_there |= may_have_arrived;
                let asked = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
                (fault, super::jittered(pause).max(asked))
            }
        };
        if Instant::now() + wait >= until {
            tracing::error!(
                requestId = job_id,
                fault,
                bytes,
                "result not posted, given up"
            );
            return lost("deadline");
        }
        tracing::warn!(
            requestId = job_id,
            fault,
            "result not posted, will be posted again"
        );
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = held.cancelled.cancelled() => return,
        }
        pause = (pause * 2).min(settings.backoff_max);
    }
}

fn lost(reason: &'static str) {
    metrics::counter!("photofinish_runpod_results_lost_total", "reason" => reason).increment(1);
}

/// The body, or in its stead an error when it is larger than RunPod takes. A job that failed
/// keeps its own error and loses its output.
fn guarded_body(shared: &Shared, job_id: &str, outcome: &JobOutcome, stop_pod: bool) -> Bytes {
    let (output, failure) = match outcome {
        JobOutcome::Done { output } => (Some(output), None),
        JobOutcome::Failed { failure, output } => (output.as_ref(), Some(failure)),
    };
    let body = result_body(shared, output, failure, stop_pod);
    let (bytes, max) = (body.len(), shared.settings.result_bytes_max);
    if bytes <= max {
        return body;
    }
    tracing::error!(requestId = job_id, bytes, max, "result too large");
    metrics::counter!("photofinish_runpod_results_too_large_total").increment(1);
    let too_large = JobFailure {
        error_type: RESULT_TOO_LARGE.to_owned(),
        message: format!("result of {bytes} bytes is above the limit of {max} bytes"),
    };
    if let Some(failure) = failure {
        let body = result_body(shared, None, Some(failure), stop_pod);
        if body.len() <= max {
            return body;
        }
    }
    result_body(shared, None, Some(&too_large), stop_pod)
}

fn result_body(
    shared: &Shared,
    output: Option<&Value>,
    failure: Option<&JobFailure>,
    stop_pod: bool,
) -> Bytes {
    let mut body = Map::new();
    if let Some(output) = output {
        body.insert("output".to_owned(), output.clone());
    }
    if let Some(failure) = failure {
        let error = json!({
            "error_type": failure.error_type,
            "error_message": failure.message,
            "error_traceback": "",
            "hostname": shared.env.hostname,
            "worker_id": shared.env.worker_id,
            "runpod_version": PROTOCOL_VERSION,
        });
        // A string with JSON in it: that is what RunPod's own SDK posts.
        body.insert("error".to_owned(), Value::String(error.to_string()));
    }
    if stop_pod {
        body.insert("stopPod".to_owned(), Value::Bool(true));
    }
    Bytes::from(Value::Object(body).to_string())
}
