//! `/hooks/runpod/{token}`: what workers and RunPod tell us, passed on as a signal.
//!
//! The token names one attempt and is never logged. A signal may be lost: the fetcher's poll finds what it said. The
//! answer names the items that still count; what is unknown counts.

use super::Routes;
use crate::core::Ingest;
use crate::error::{Error, Refusal};
use crate::problems::{BodyOf, JsonBody, Path};
use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use photofinish_broker::{Outgoing, Target};
use photofinish_contract::announcement::{Announcement, Wanted};
use photofinish_contract::messages::{Heard, Signal};
use photofinish_contract::problem::Problem;
use photofinish_contract::request::ITEMS_MAX;
use photofinish_contract::token::Purpose;
use photofinish_jobstore::Wanted as Known;
use photofinish_model::part::Part;
use photofinish_model::{AttemptRef, Code, ItemIndex};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use utoipa_axum::routes;

/// A worker waits for the answer: a signal that takes longer is lost.
const SIGNAL_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) fn routes() -> Routes {
    Routes::default().routes(routes!(runpod))
}

/// A caller with an attempt's token: nothing is read of anybody else.
struct AsAttempt(AttemptRef);

impl FromRequestParts<Arc<Ingest>> for AsAttempt {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, ingest: &Arc<Ingest>) -> Result<Self, Refusal> {
        let Path(token) = Path::<String>::from_request_parts(parts, ingest).await?;
        let attempt = ingest.config.tokens.verify(Purpose::Hook, &token);
        let attempt = attempt.map_err(|_| {
            let detail = "the address is not one that we gave out";
            Refusal::new(401, Code::Unauthorized, detail)
        })?;
        parts.extensions.insert(BodyOf(attempt.tenant.clone()));
        Ok(Self(attempt))
    }
}

/// What a worker or RunPod says of an attempt; the token names it and is the only credential.
#[utoipa::path(post, path = "/hooks/runpod/{token}", tag = "hooks",
    params(("token" = String, Path, description = "As it was given to the worker")),
    request_body(content = Object, description = "The worker's announcement, or RunPod's status object"),
    responses(
        (status = 200, body = Wanted, description = "The items that still count"),
        (status = 401, body = Problem, description = "The address is not one that we gave out"),
        (status = 403, body = Problem, description = "The announcement is of another attempt")))]
async fn runpod(
    State(ingest): State<Arc<Ingest>>,
    AsAttempt(attempt): AsAttempt,
    JsonBody(body): JsonBody,
) -> Result<Json<Wanted>, Refusal> {
    photofinish_runtime::trace::about(&attempt.tenant, &attempt.job);
    if let Some(heard) = heard(&attempt, body)? {
        signal(
            &ingest,
            Signal {
                attempt: attempt.clone(),
                heard,
            },
        )
        .await;
    }
    Ok(Json(Wanted {
        wanted: wanted(&ingest, &attempt).await,
    }))
}

/// The worker's announcement, or RunPod's status object; nothing of interest in any other.
fn heard(attempt: &AttemptRef, body: Value) -> Result<Option<Heard>, Refusal> {
    if body.get("kind").is_some() {
        let announcement: Announcement = serde_json::from_value(body).map_err(|error| {
            Refusal::new(
                422,
                Code::InvalidRequest,
                format!("no announcement: {error}"),
            )
        })?;
        if announcement.nonce != attempt.nonce {
            let detail = "the announcement is of another attempt";
            return Err(Refusal::new(403, Code::Forbidden, detail));
        }
        return Ok(Some(Heard::Announcement(Box::new(announcement))));
    }
    let over = ["COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"];
    let status = body.get("status").and_then(Value::as_str);
    Ok(status
        .is_some_and(|status| over.contains(&status))
        .then_some(Heard::Completed))
}

async fn signal(ingest: &Ingest, signal: Signal) {
    let publish = async {
        let outgoing = Outgoing::json(Target::Signals, &signal)?;
        ingest
            .publisher
            .publish(outgoing)
            .await
            .map_err(Error::from)
    };
    match tokio::time::timeout(SIGNAL_TIMEOUT, publish).await {
        Ok(Ok(())) => metrics::counter!("photofinish_ingest_signals_total").increment(1),
        Ok(Err(error)) => {
            tracing::warn!(attempt = %signal.attempt, error = photofinish_runtime::error_chain(&error), "signal lost");
        }
        Err(_elapsed) => tracing::warn!(attempt = %signal.attempt, "signal lost: no confirm"),
    }
}

async fn wanted(ingest: &Ingest, attempt: &AttemptRef) -> Vec<ItemIndex> {
    if superseded(ingest, attempt).await {
        return Vec::new();
    }
    let all = match ingest.jobstore.header(&attempt.job).await {
        Ok(Some(header)) => (0..header.counts.total as ItemIndex).collect(),
        Ok(None) | Err(_) => every_item(),
    };
    match ingest
        .jobstore
        .pending_items(&attempt.job, attempt.run, &all)
        .await
    {
        Ok(Known::Items(items)) => items,
        Ok(Known::RunOver) => Vec::new(),
        Ok(Known::Missing) | Err(_) => every_item(),
    }
}

/// Unknown never means unwanted.
fn every_item() -> Vec<ItemIndex> {
    (0..ITEMS_MAX as ItemIndex).collect()
}

/// True when another attempt of the part has taken over: a later one, or one that was submitted
/// anew because nothing was ever heard of this one.
async fn superseded(ingest: &Ingest, attempt: &AttemptRef) -> bool {
    let part = ingest
        .jobstore
        .part(&attempt.job, attempt.run, attempt.part)
        .await;
    let part = part
        .ok()
        .flatten()
        .and_then(|text| serde_json::from_str::<Part>(&text).ok());
    part.is_some_and(|part| {
        let another = part.nonce().is_some_and(|nonce| *nonce != attempt.nonce);
        part.attempt > attempt.attempt || part.attempt == attempt.attempt && another
    })
}
