//! What workers call: `/v2/{endpoint}/job-take`, `job-take-batch`, `job-stop`, `ping`, `job-done`,
//! `job-stream`. Bodies are JSON whatever their content type says.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::endpoints::Endpoint;
use crate::faults::{cut_before, problem};
use crate::state::{Closed, State as Queue, Take};

/// Most jobs of one batch.
const BATCH_MAX: usize = 100;

type At = Extension<Arc<Endpoint>>;
type Queries = Query<HashMap<String, String>>;

/// Asks the queue until it has something or the poll's time is over.
async fn hold<T>(
    endpoint: &Arc<Endpoint>,
    mut ask: impl FnMut(&mut Queue, std::time::Instant) -> Option<T>,
) -> Option<T> {
    let until = Instant::now() + endpoint.site.poll_hold();
    loop {
        let woken = endpoint.wake.notified();
        tokio::pin!(woken);
        woken.as_mut().enable();
        if let Some(found) = endpoint.look(&mut ask) {
            return Some(found);
        }
        tokio::select! {
            () = woken => {}
            () = tokio::time::sleep_until(until) => return None,
            () = endpoint.removed.cancelled() => return None,
        }
    }
}

/// `None`: the poll is over, with this answer.
async fn take_up_to(
    endpoint: &Arc<Endpoint>,
    worker: &str,
    query: &HashMap<String, String>,
    most: usize,
) -> Result<Vec<Value>, Response> {
    let holds_none = query.get("job_in_progress").map(|flag| flag == "0");
    endpoint.look(|state, now| state.poll_begins(worker, holds_none, now));
    let taken = hold(endpoint, |state, now| {
        Some(state.take(worker, most, now)).filter(|take| *take != Take::Nothing)
    });
    match taken.await {
        Some(Take::Jobs(jobs)) => {
            tracing::info!(worker, jobs = jobs.len(), "handed out");
            Ok(jobs)
        }
        Some(Take::Woken) => Err(problem(StatusCode::BAD_REQUEST, "worker was woken")),
        Some(Take::Nothing) | None => Err(StatusCode::NO_CONTENT.into_response()),
    }
}

pub(crate) async fn take(
    Extension(endpoint): At,
    Path((_, worker)): Path<(String, String)>,
    Query(query): Queries,
) -> Response {
    match take_up_to(&endpoint, &worker, &query, 1).await {
        Ok(mut jobs) => Json(jobs.pop()).into_response(),
        Err(answer) => answer,
    }
}

pub(crate) async fn take_batch(
    Extension(endpoint): At,
    Path((_, worker)): Path<(String, String)>,
    Query(query): Queries,
) -> Response {
    let most = query.get("batch_size").and_then(|n| n.parse().ok());
    let most = most.unwrap_or(1).clamp(1, BATCH_MAX);
    match take_up_to(&endpoint, &worker, &query, most).await {
        Ok(jobs) => Json(jobs).into_response(),
        Err(answer) => answer,
    }
}

pub(crate) async fn stop(
    Extension(endpoint): At,
    Path((_, worker)): Path<(String, String)>,
) -> Response {
    endpoint.look(|state, now| state.heard_of(&worker, now));
    let ids = hold(&endpoint, |state, _| {
        Some(state.take_stops(&worker)).filter(|ids| !ids.is_empty())
    });
    match ids.await {
        Some(ids) => Json(json!({"jobsToStop": ids})).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    }
}

pub(crate) async fn ping(
    Extension(endpoint): At,
    Path((_, worker)): Path<(String, String)>,
    Query(query): Queries,
) -> Response {
    if query
        .get("status")
        .is_some_and(|status| status == "unhealthy")
    {
        let reason = query.get("reason").map(String::as_str).unwrap_or_default();
        tracing::warn!(worker, reason, "worker says it is unhealthy");
        endpoint.change(|state, now| state.unfit(&worker, now));
        return Json(json!({"status": "pong"})).into_response();
    }
    let ids = query.get("job_id").map(String::as_str).unwrap_or_default();
    let listed: Vec<String> = ids
        .split(',')
        .filter(|id| !id.is_empty())
        .map(str::to_owned)
        .collect();
    endpoint.change(|state, now| state.ping(&worker, &listed, now));
    Json(json!({"status": "pong"})).into_response()
}

async fn json_body(endpoint: &Endpoint, body: Body) -> Result<Value, &'static str> {
    let bytes = axum::body::to_bytes(body, endpoint.site.config.result_bytes_max)
        .await
        .map_err(|_| "body too large or cut")?;
    serde_json::from_slice(&bytes).map_err(|_| "body is not JSON")
}

/// A result, or progress when it says `IN_PROGRESS`.
pub(crate) async fn done(
    Extension(endpoint): At,
    Path((_, worker, job)): Path<(String, String, String)>,
    body: Body,
) -> Response {
    let mut body = match json_body(&endpoint, body).await {
        Ok(body) => body,
        Err(detail) => return problem(StatusCode::BAD_REQUEST, detail),
    };
    if body["status"].as_str() == Some("IN_PROGRESS") {
        let output = body["output"].take();
        endpoint.look(|state, _| state.progress(&worker, &job, output));
        return StatusCode::OK.into_response();
    }
    match endpoint.change(|state, now| state.finish(&worker, &job, &body, now)) {
        Ok(()) => StatusCode::OK.into_response(),
        Err(Closed::NotYours) => problem(
            StatusCode::BAD_REQUEST,
            "job is unknown, closed or with another worker",
        ),
        Err(Closed::Lost) => cut_before(),
    }
}

pub(crate) async fn stream(
    Extension(endpoint): At,
    Path((_, worker, job)): Path<(String, String, String)>,
    body: Body,
) -> Response {
    match json_body(&endpoint, body).await {
        Ok(body) => {
            endpoint.change(|state, _| state.stream(&worker, &job, &body["output"]));
            StatusCode::OK.into_response()
        }
        Err(detail) => problem(StatusCode::BAD_REQUEST, detail),
    }
}
