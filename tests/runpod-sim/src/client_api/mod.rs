//! What clients call under `/v2/{endpoint}/`. Every success is exactly 200.

mod openai;
mod request;
mod waiting;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Extension, Json, Router};
use serde_json::json;

use self::request::read_job;
use crate::endpoints::Endpoint;
use crate::faults::problem;
use crate::server::Shared;
use crate::state::{Retry, State};

type At = Extension<Arc<Endpoint>>;
type JobPath = Path<(String, String)>;

/// All of them; each needs the endpoint that `auth::clients` finds.
pub(crate) fn routes() -> Router<Arc<Shared>> {
    let status = get(status).post(status);
    let status_sync = get(waiting::status_sync).post(waiting::status_sync);
    Router::new()
        .route("/v2/{endpoint}/run", post(run))
        .route("/v2/{endpoint}/runsync", post(waiting::runsync))
        .route("/v2/{endpoint}/status/{job}", status)
        .route("/v2/{endpoint}/status-sync/{job}", status_sync)
        .route(
            "/v2/{endpoint}/stream/{job}",
            get(waiting::stream).post(waiting::stream),
        )
        .route("/v2/{endpoint}/cancel/{job}", post(cancel))
        .route("/v2/{endpoint}/retry/{job}", post(retry))
        .route("/v2/{endpoint}/purge-queue", post(purge_queue))
        .route("/v2/{endpoint}/health", get(health))
        .route("/v2/{endpoint}/requests", get(requests))
        .route("/v2/{endpoint}/metrics", get(metrics))
        .route("/v2/{endpoint}/openai/{*path}", any(openai::pass_on))
}

fn unknown_job() -> Response {
    let body = json!({"detail": "request does not exist"});
    (StatusCode::NOT_FOUND, Json(body)).into_response()
}

async fn run(Extension(endpoint): At, body: Body) -> Response {
    let config = &endpoint.site.config;
    match read_job(config, body, config.run_bytes_max).await {
        Ok(new) => {
            let id = format!("{}-u1", uuid::Uuid::new_v4());
            endpoint.change(|state, now| state.submit(id.clone(), new, now));
            Json(json!({"id": id, "status": "IN_QUEUE"})).into_response()
        }
        Err(refusal) => refusal,
    }
}

async fn status(Extension(endpoint): At, Path((_, job)): JobPath) -> Response {
    endpoint
        .look(|state, _| state.view(&job))
        .map_or_else(unknown_job, |view| Json(view).into_response())
}

async fn cancel(Extension(endpoint): At, Path((_, job)): JobPath) -> Response {
    endpoint
        .change(|state, now| state.cancel(&job, now))
        .map_or_else(unknown_job, |view| Json(view).into_response())
}

async fn retry(Extension(endpoint): At, Path((_, job)): JobPath) -> Response {
    match endpoint.change(|state, now| state.retry(&job, now)) {
        Retry::Queued => Json(json!({"id": job, "status": "IN_QUEUE"})).into_response(),
        Retry::NotFailed => problem(
            StatusCode::BAD_REQUEST,
            "bad request: only a FAILED or TIMED_OUT job can be retried",
        ),
        Retry::Unknown => unknown_job(),
    }
}

async fn purge_queue(Extension(endpoint): At) -> Response {
    let removed = endpoint.change(State::purge);
    Json(json!({"removed": removed, "status": "completed"})).into_response()
}

async fn health(Extension(endpoint): At) -> Response {
    Json(endpoint.look(|state, _| state.health())).into_response()
}

async fn requests(Extension(endpoint): At) -> Response {
    Json(endpoint.look(|state, now| state.requests(now))).into_response()
}

async fn metrics(Extension(endpoint): At) -> Response {
    Json(endpoint.look(|state, _| state.metrics())).into_response()
}
