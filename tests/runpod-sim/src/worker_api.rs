//! What workers call: `/v2/{endpoint}/job-take`, `job-take-batch`, `job-stop`, `ping`, `job-done`,
//! `job-stream`. Bodies are JSON whatever their content type says.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::client_api::{is_ours, key_of, problem};
use crate::server::Shared;
use crate::state::State as Queue;

/// Most jobs of one batch.
const BATCH_MAX: usize = 100;

/// Workers' keys only; then the endpoint.
pub(crate) async fn authorize(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    if key_of(request.headers()) != Some(shared.config.worker_key.as_str()) {
        return problem(StatusCode::UNAUTHORIZED, "unauthorized");
    }
    if !is_ours(&shared, &request) {
        return problem(StatusCode::NOT_FOUND, "endpoint not found");
    }
    next.run(request).await
}

/// Asks the queue until it has something or the poll's time is over.
async fn hold<T>(
    shared: &Arc<Shared>,
    mut ask: impl FnMut(&mut Queue, std::time::Instant) -> Option<T>,
) -> Option<T> {
    let until = Instant::now() + shared.config.poll_hold;
    loop {
        let woken = shared.wake.notified();
        tokio::pin!(woken);
        woken.as_mut().enable();
        if let Some(found) = shared.look(&mut ask) {
            return Some(found);
        }
        tokio::select! {
            () = woken => {}
            () = tokio::time::sleep_until(until) => return None,
            () = shared.closing.cancelled() => return None,
        }
    }
}

async fn take_up_to(shared: &Arc<Shared>, worker: &str, most: usize) -> Option<Vec<Value>> {
    let taken = hold(shared, |state, now| {
        Some(state.take(worker, most, now)).filter(|jobs| !jobs.is_empty())
    });
    let jobs = taken.await?;
    tracing::info!(worker, jobs = jobs.len(), "handed out");
    Some(jobs)
}

pub(crate) async fn take(
    State(shared): State<Arc<Shared>>,
    Path((_, worker)): Path<(String, String)>,
) -> Response {
    let job = take_up_to(&shared, &worker, 1)
        .await
        .and_then(|mut jobs| jobs.pop());
    job.map_or_else(
        || StatusCode::NO_CONTENT.into_response(),
        |job| Json(job).into_response(),
    )
}

pub(crate) async fn take_batch(
    State(shared): State<Arc<Shared>>,
    Path((_, worker)): Path<(String, String)>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let most = query
        .get("batch_size")
        .and_then(|n| n.parse().ok())
        .unwrap_or(1);
    let jobs = take_up_to(&shared, &worker, most.clamp(1, BATCH_MAX)).await;
    jobs.map_or_else(
        || StatusCode::NO_CONTENT.into_response(),
        |jobs| Json(jobs).into_response(),
    )
}

pub(crate) async fn stop(
    State(shared): State<Arc<Shared>>,
    Path((_, worker)): Path<(String, String)>,
) -> Response {
    let ids = hold(&shared, |state, now| {
        Some(state.take_stops(&worker, now)).filter(|ids| !ids.is_empty())
    });
    match ids.await {
        Some(ids) => Json(json!({"jobsToStop": ids})).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    }
}

pub(crate) async fn ping(
    State(shared): State<Arc<Shared>>,
    Path((_, worker)): Path<(String, String)>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let ids = query.get("job_id").map(String::as_str).unwrap_or_default();
    let listed: Vec<String> = ids
        .split(',')
        .filter(|id| !id.is_empty())
        .map(str::to_owned)
        .collect();
    shared.change(|state, now| state.ping(&worker, &listed, now));
    Json(json!({"status": "pong"})).into_response()
}

async fn json_body(shared: &Shared, body: Body) -> Result<Value, &'static str> {
    let bytes = axum::body::to_bytes(body, shared.config.result_bytes_max)
        .await
        .map_err(|_| "body too large or cut")?;
    serde_json::from_slice(&bytes).map_err(|_| "body is not JSON")
}

/// A result, or progress when it says `IN_PROGRESS`.
pub(crate) async fn done(
    State(shared): State<Arc<Shared>>,
    Path((_, worker, job)): Path<(String, String, String)>,
    body: Body,
) -> Response {
    let mut body = match json_body(&shared, body).await {
        Ok(body) => body,
        Err(detail) => return problem(StatusCode::BAD_REQUEST, detail),
    };
    if body["status"].as_str() == Some("IN_PROGRESS") {
        let output = body["output"].take();
        shared.look(|state, _| state.progress(&worker, &job, output));
        return StatusCode::OK.into_response();
    }
    match shared.change(|state, now| state.finish(&worker, &job, &body, now)) {
        Ok(()) => StatusCode::OK.into_response(),
        Err(crate::state::Closed) => problem(
            StatusCode::BAD_REQUEST,
            "job is unknown, closed or with another worker",
        ),
    }
}

pub(crate) async fn stream(
    State(shared): State<Arc<Shared>>,
    Path((_, worker, job)): Path<(String, String, String)>,
    body: Body,
) -> Response {
    match json_body(&shared, body).await {
        Ok(body) => {
            shared.change(|state, _| state.stream(&worker, &job, &body["output"]));
            StatusCode::OK.into_response()
        }
        Err(detail) => problem(StatusCode::BAD_REQUEST, detail),
    }
}
