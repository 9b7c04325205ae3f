//! Jobs from RunPod: recognised, done, answered.
//!
//! Guarantee: a job that is none of ours is refused with `unsupported_input`; a cancelled one is
//! answered with nothing.

use std::sync::Arc;

use photofinish_contract::attempt_input::{ATTEMPT_INPUT_VERSION, AttemptInput};
use photofinish_model::Code;
use photofinish_runpod::worker::{Job, JobContext, JobOutcome};
use photofinish_runtime::trace;
use serde_json::Value;
use tokio::sync::watch;
use tracing::Instrument as _;
use tracing::field::Empty;

use crate::attempt::{Attempts, Taken};

/// What does the jobs: `None` until the worker has put itself together, which goes on while the
/// first poll is open.
pub type Assembled = watch::Receiver<Option<Arc<Attempts>>>;

/// Does one job.
pub async fn handle(mut assembled: Assembled, job: Job, context: JobContext) -> JobOutcome {
    let input = match read(job.input) {
        Ok(input) => input,
        Err(why) => {
            tracing::warn!(run_id = job.id, why, "job refused");
            return JobOutcome::failed(Code::UnsupportedInput.as_str(), why);
        }
    };
    let span = process_span(&input, &job.id);
    do_attempt(&mut assembled, &input, job.id, context)
        .instrument(span)
        .await
}

/// The span of an attempt: a child of its submit, and linked to it, since RunPod had queued it. Of the highest level: its
/// fields stand on every line that is logged inside of it.
fn process_span(input: &AttemptInput, run_id: &str) -> tracing::Span {
    let attempt = &input.attempt;
    let span = tracing::error_span!(
        parent: None,
        "attempt",
        otel.name = "process runpod",
        otel.kind = "consumer",
        otel.status_code = Empty,
        "error.type" = Empty,
        "messaging.system" = "runpod",
        "messaging.operation.type" = "process",
        "messaging.operation.name" = "process",
        "messaging.message.id" = attempt.nonce.as_str(),
        run_id,
        tenant = %attempt.tenant,
        job = %attempt.job,
        trace_id = Empty,
    );
    if let Some(parent) = &input.traceparent {
        trace::continue_with(&span, parent, input.tracestate.as_deref());
        trace::link(&span, parent);
    }
    trace::note_id(&span);
    span
}

async fn do_attempt(
    assembled: &mut Assembled,
    input: &AttemptInput,
    run_id: String,
    context: JobContext,
) -> JobOutcome {
    let attempts = assembled.wait_for(Option::is_some).await;
    let Some(attempts) = attempts.ok().and_then(|attempts| attempts.clone()) else {
        let code = Code::WorkerStopping.as_str();
        return JobOutcome::failed(code, "the worker could not start");
    };
    tracing::info!(attempt = %input.attempt, "attempt taken");
    let taken = Taken {
        run_id,
        worker_id: context.worker_id,
        since: context.taken_at,
        cancelled: context.cancelled,
        stopping: context.stopping,
    };
    let progress = context.progress;
    let done = attempts.run(input, &taken, |announcement| {
        progress.send(&serde_json::to_value(announcement).unwrap_or_default());
    });
    match done.await {
        Ok(Some(last)) => JobOutcome::done(serde_json::to_value(last).unwrap_or_default()),
        Ok(None) => JobOutcome::failed(Code::Cancelled.as_str(), "the job was cancelled"),
        Err(error) => {
            tracing::error!(attempt = %input.attempt, %error, "make directories");
            JobOutcome::failed(Code::InternalError.as_str(), "the worker's disk failed")
        }
    }
}

fn read(input: Value) -> Result<AttemptInput, String> {
    let version = input.get("photofinish").and_then(Value::as_u64);
    if version != Some(u64::from(ATTEMPT_INPUT_VERSION)) {
        return Err(format!(
            "this worker does jobs of Photofinish, version {ATTEMPT_INPUT_VERSION}; submit through its API"
        ));
    }
    serde_json::from_value(input).map_err(|error| format!("the input cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_of_others_are_refused() {
        for input in [Value::Null, serde_json::json!({"prompt": "a cat"})] {
            assert!(read(input).unwrap_err().contains("version 1"));
        }
        let ours = serde_json::json!({"photofinish": 1, "work": {}});
        assert!(read(ours).unwrap_err().contains("cannot be read"));
    }
}
