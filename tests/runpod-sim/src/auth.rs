//! Who may call what: keys of clients and workers, endpoints, rate limits.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::endpoints::Endpoint;
use crate::faults::{OPERATIONS, problem};
use crate::server::Shared;

/// The key of a request, raw or as a bearer token.
pub(crate) fn key_of(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?.trim();
    Some(value.strip_prefix("Bearer ").unwrap_or(value).trim())
}

/// The endpoint in `/v2/{endpoint}/…`.
fn endpoint_of(shared: &Shared, request: &Request) -> Option<Arc<Endpoint>> {
    let id = request.uri().path().split('/').nth(2)?;
    shared.endpoints.endpoint(id)
}

/// The operation in `/v2/{endpoint}/{operation}/…`.
fn operation_of(request: &Request) -> &'static str {
    let word = request.uri().path().split('/').nth(3).unwrap_or_default();
    let known = OPERATIONS.into_iter().find(|name| *name == word);
    known.unwrap_or("other")
}

/// As it was seen.
pub(crate) fn unknown_endpoint() -> Response {
    let body = json!({"detail": "endpoint not found"});
    (StatusCode::NOT_FOUND, Json(body)).into_response()
}

/// Clients' keys only; then the endpoint; then its rate limits.
pub(crate) async fn clients(
    State(shared): State<Arc<Shared>>,
    mut request: Request,
    next: Next,
) -> Response {
    let config = &shared.site.config;
    let key = key_of(request.headers());
    let only_looks = request.method() == Method::GET || request.method() == Method::HEAD;
    let is_allowed = key == Some(config.api_key.as_str())
        || (only_looks && key.is_some() && key == config.read_only_key.as_deref());
    if !is_allowed {
        return problem(StatusCode::UNAUTHORIZED, "unauthorized");
    }
    let Some(endpoint) = endpoint_of(&shared, &request) else {
        return unknown_endpoint();
    };
    let busy = endpoint.look(|state, _| state.busy());
    let now = shared.site.clock.now();
    let Some(_admitted) = endpoint.limits.admit(operation_of(&request), busy, now) else {
        return problem(StatusCode::TOO_MANY_REQUESTS, "too many requests");
    };
    request.extensions_mut().insert(endpoint);
    next.run(request).await
}

/// Workers' keys only; then the endpoint. Without the key a job-take sees an empty queue.
pub(crate) async fn workers(
    State(shared): State<Arc<Shared>>,
    mut request: Request,
    next: Next,
) -> Response {
    let is_worker = key_of(request.headers()) == Some(shared.site.config.worker_key.as_str());
    if !is_worker {
        if !matches!(operation_of(&request), "job-take" | "job-take-batch") {
            return problem(StatusCode::UNAUTHORIZED, "unauthorized");
        }
        tokio::select! {
            () = tokio::time::sleep(shared.site.poll_hold()) => {}
            () = shared.site.closing.cancelled() => {}
        }
        return StatusCode::NO_CONTENT.into_response();
    }
    let Some(endpoint) = endpoint_of(&shared, &request) else {
        return unknown_endpoint();
    };
    request.extensions_mut().insert(endpoint);
    next.run(request).await
}
