//! What clients call: `/v2/{endpoint}/run`, `status`, `stream`, `cancel`, `purge-queue`, `health`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::server::Shared;
use crate::state::NewJob;

/// How long an empty /stream is held.
const STREAM_HOLD_MS: u64 = 10_000;

/// An answer in the shape RunPod's errors have.
pub(crate) fn problem(status: StatusCode, detail: &str) -> Response {
    let title = status.canonical_reason().unwrap_or("Error");
    let body = json!({"status": status.as_u16(), "title": title, "detail": detail});
    (status, Json(body)).into_response()
}

/// The key of a request, raw or as a bearer token.
pub(crate) fn key_of(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?.trim();
    Some(value.strip_prefix("Bearer ").unwrap_or(value).trim())
}

/// The second part of `/v2/{endpoint}/…`.
pub(crate) fn is_ours(shared: &Shared, request: &Request) -> bool {
    request.uri().path().split('/').nth(2) == Some(shared.config.endpoint.as_str())
}

/// Clients' keys only; then the endpoint.
pub(crate) async fn authorize(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    if key_of(request.headers()) != Some(shared.config.api_key.as_str()) {
        return problem(StatusCode::UNAUTHORIZED, "unauthorized");
    }
    if !is_ours(&shared, &request) {
        return problem(StatusCode::NOT_FOUND, "endpoint not found");
    }
    next.run(request).await
}

fn unknown_job() -> Response {
    problem(StatusCode::NOT_FOUND, "request does not exist")
}

pub(crate) async fn run(State(shared): State<Arc<Shared>>, body: Body) -> Response {
    let max = shared.config.run_bytes_max;
    let Ok(bytes) = axum::body::to_bytes(body, max).await else {
        let detail = format!(
            "bad request: body: exceeded max body size of {}MiB",
            max / 1024 / 1024
        );
        return problem(StatusCode::BAD_REQUEST, &detail);
    };
    let Ok(Value::Object(body)) = serde_json::from_slice(&bytes) else {
        return problem(
            StatusCode::BAD_REQUEST,
            "bad request: body: not a JSON object",
        );
    };
    match new_job(body) {
        Ok(new) => {
            let id = format!("{}-u1", uuid::Uuid::new_v4());
            shared.change(|state, now| state.submit(id.clone(), new, now));
            Json(json!({"id": id, "status": "IN_QUEUE"})).into_response()
        }
        Err(detail) => problem(StatusCode::BAD_REQUEST, detail),
    }
}

/// Unknown keys of a request are discarded, as RunPod does.
fn new_job(mut body: Map<String, Value>) -> Result<NewJob, &'static str> {
    let input = match body.remove("input") {
        None | Some(Value::Null) => return Err("bad request: input is required"),
        Some(input) => input,
    };
    let webhook = match body.remove("webhook") {
        None | Some(Value::Null) => None,
        Some(Value::String(url)) => Some(url).filter(|url| !url.is_empty()),
        Some(_) => return Err("bad request: webhook is not a string"),
    };
    let millis = |key: &str| {
        let policy = body.get("policy")?;
        policy
            .get(key)?
            .as_u64()
            .filter(|ms| *ms > 0)
            .map(Duration::from_millis)
    };
    let (execution_timeout, ttl) = (millis("executionTimeout"), millis("ttl"));
    body.retain(|key, value| matches!(key.as_str(), "policy" | "s3Config") && value.is_object());
    Ok(NewJob {
        input,
        webhook,
        extras: body,
        execution_timeout,
        ttl,
    })
}

pub(crate) async fn status(
    State(shared): State<Arc<Shared>>,
    Path((_, job)): Path<(String, String)>,
) -> Response {
    shared
        .look(|state, _| state.view(&job))
        .map_or_else(unknown_job, |view| Json(view).into_response())
}

pub(crate) async fn cancel(
    State(shared): State<Arc<Shared>>,
    Path((_, job)): Path<(String, String)>,
) -> Response {
    shared
        .change(|state, now| state.cancel(&job, now))
        .map_or_else(unknown_job, |view| Json(view).into_response())
}

/// Each chunk is delivered once; an empty poll is held.
pub(crate) async fn stream(
    State(shared): State<Arc<Shared>>,
    Path((_, job)): Path<(String, String)>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let wait = query
        .get("wait")
        .and_then(|ms| ms.parse().ok())
        .unwrap_or(STREAM_HOLD_MS);
    let until = Instant::now() + Duration::from_millis(wait.clamp(1000, 300_000));
    loop {
        let woken = shared.wake.notified();
        tokio::pin!(woken);
        woken.as_mut().enable();
        let Some((chunks, status, ended)) = shared.look(|state, _| state.drain_stream(&job)) else {
            return unknown_job();
        };
        let over = Instant::now() >= until || shared.closing.is_cancelled();
        if !chunks.is_empty() || ended || over {
            return Json(json!({"status": status, "stream": chunks})).into_response();
        }
        tokio::select! {
            () = woken => {}
            () = tokio::time::sleep_until(until) => {}
            () = shared.closing.cancelled() => {}
        }
    }
}

pub(crate) async fn purge_queue(State(shared): State<Arc<Shared>>) -> Response {
    let removed = shared.change(|state, _| state.purge());
    Json(json!({"removed": removed, "status": "completed"})).into_response()
}

pub(crate) async fn health(State(shared): State<Arc<Shared>>) -> Response {
    Json(shared.look(|state, _| state.health())).into_response()
}
