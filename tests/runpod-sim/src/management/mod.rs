//! RunPod's management APIs, as far as serverless endpoints need them: REST v2, and the GraphQL
//! calls of the official Python SDK.
//!
//! Nouns: a *document* is an endpoint as REST v2 writes it; [`rules`] says what is wrong with one;
//! a [`Desk`] is what these APIs have of their own: templates, and the quota of calls.
//!
//! Guarantee: an endpoint made here works like one of the flags, with the worker command of the
//! flags; a change of its container, GPUs or places makes a new version, everything else holds at
//! once; a body that breaks a rule changes nothing and is answered with every fault.
//!
//! Not for: pods, billing, logs, builds.

mod catalog;
mod desk;
mod document;
mod graphql;
mod query;
mod rules;
mod serverless;
mod templates;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde_json::{Value, json};

use self::desk::Desk;
use self::rules::Fault;
use crate::server::Shared;

/// All of it. `serverless`, `templates` and `catalog` are thereby no ids of endpoints.
pub(crate) fn routes(shared: &Arc<Shared>) -> Router<Arc<Shared>> {
    let desk = Arc::new(Desk::new(shared.site.config.rate_limits));
    Router::new()
        .route(
            "/v2/serverless",
            get(serverless::list).post(serverless::create),
        )
        .route(
            "/v2/serverless/{id}",
            get(serverless::read)
                .patch(serverless::change)
                .delete(serverless::delete),
        )
        .route("/v2/serverless/{id}/workers", get(serverless::workers))
        .route("/v2/serverless/{id}/releases", get(serverless::releases))
        .route(
            "/v2/templates",
            get(templates::list).post(templates::create),
        )
        .route(
            "/v2/templates/{id}",
            get(templates::read)
                .patch(templates::change)
                .delete(templates::delete),
        )
        .route("/v2/catalog/gpus", get(catalog::gpus))
        .route("/graphql", post(graphql::answer))
        .layer(axum::middleware::from_fn_with_state(
            Arc::clone(shared),
            admit,
        ))
        .layer(Extension(desk))
}

/// The account's key as a bearer token, then the quota; each answer tells what is left of it.
async fn admit(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let config = &shared.site.config;
    let value = request.headers().get(header::AUTHORIZATION);
    let key = value.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let reads = request.method() == Method::GET;
    match key {
        None => return problem(StatusCode::UNAUTHORIZED, "missing bearer token"),
        Some(key) if key == config.api_key => {}
        Some(key) if Some(key) == config.read_only_key.as_deref() => {
            if !reads {
                return problem(StatusCode::FORBIDDEN, "access denied");
            }
        }
        Some(_) => return problem(StatusCode::UNAUTHORIZED, "invalid bearer token"),
    }
    let Some(desk) = request.extensions().get::<Arc<Desk>>().cloned() else {
        return problem(StatusCode::INTERNAL_SERVER_ERROR, "no desk");
    };
    let clock = &shared.site.clock;
    let quota = desk.count(clock.now(), clock.factor());
    let mut answer = if quota.is_over {
        let detail = "rate limit exceeded for the minute window";
        let mut answer = problem(StatusCode::TOO_MANY_REQUESTS, detail);
        let wait = HeaderValue::from(quota.reset_s);
        answer.headers_mut().insert(header::RETRY_AFTER, wait);
        answer
    } else {
        next.run(request).await
    };
    for (name, value) in quota.headers() {
        answer.headers_mut().insert(name, value);
    }
    answer
}

/// An error in REST v2's shape.
fn problem(status: StatusCode, detail: &str) -> Response {
    Refusal::new(status, detail).into_response()
}

/// Why a call does nothing.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    detail: String,
    faults: Vec<Fault>,
}

impl Refusal {
    fn new(status: StatusCode, detail: &str) -> Self {
        Self {
            status,
            detail: detail.to_owned(),
            faults: Vec::new(),
        }
    }

    /// What is wrong with a body: 400 if rules exclude each other, else 422.
    fn faults(faults: Vec<Fault>) -> Self {
        let status = if faults.iter().all(|fault| fault.is_conflict) {
            StatusCode::BAD_REQUEST
        } else {
            StatusCode::UNPROCESSABLE_ENTITY
        };
        let told: Vec<String> = faults.iter().map(Fault::to_string).collect();
        Self {
            status,
            detail: told.join("; "),
            faults,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or("Error");
        let mut body =
            json!({"title": title, "status": self.status.as_u16(), "detail": self.detail});
        if !self.faults.is_empty() {
            let rows = self.faults.iter();
            body["errors"] = rows
                .map(|fault| json!({"field": fault.field, "message": fault.message}))
                .collect();
        }
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        (self.status, kind, body.to_string()).into_response()
    }
}

fn not_found() -> Response {
    problem(StatusCode::NOT_FOUND, "resource not found")
}

/// A body that is a JSON object, whatever its content type.
fn object(bytes: &[u8]) -> Result<Value, Refusal> {
    let parsed = serde_json::from_slice(bytes).ok().filter(Value::is_object);
    let detail = "the body is not a JSON object";
    parsed.ok_or_else(|| Refusal::new(StatusCode::BAD_REQUEST, detail))
}

/// A list with the pages that RunPod promises; one page holds all.
fn page(name: &str, rows: Vec<Value>) -> Response {
    let mut body = json!({"pagination": {"nextCursor": null, "hasNextPage": false}});
    body[name] = Value::Array(rows);
    Json(body).into_response()
}

/// Fourteen characters, as RunPod's ids have.
fn new_id() -> String {
    let id = uuid::Uuid::new_v4().simple().to_string();
    id[..14].to_owned()
}
