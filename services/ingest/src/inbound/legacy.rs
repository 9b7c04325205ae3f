//! The old system's routes: `POST /video/{operation}` with its bodies, `GET /job/{id}` and
//! `POST /job/{id}/cancel`, answered as `/v1/jobs` answers.

use crate::admit::Admitted;
use crate::core::Core;
use crate::error::Fault;
use crate::inbound::jobs::json_body;
use crate::refusal::Refusal;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use photofinish_contract::job::Job;
use photofinish_model::{Code, JobId};
use serde_json::Value;
use std::sync::Arc;

/// The routes.
pub fn routes() -> Router<Arc<Core>> {
    Router::new()
        .route("/video/{operation}", post(submit))
        .route("/job/{id}", get(show))
        .route("/job/{id}/cancel", post(cancel))
}

async fn submit(
    State(core): State<Arc<Core>>,
    headers: HeaderMap,
    Path(operation): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Fault> {
    let tenant = core.tenant(&headers).await?;
    if !["caption", "img2vid", "addaudio"].contains(&operation.as_str()) {
        return Err(Refusal::not_found("operation").into());
    }
    let mut body = json_body(body)?;
    let Some(fields) = body.as_object_mut() else {
        let detail = "the body is a JSON object";
        return Err(Refusal::new(400, Code::Malformed, detail).into());
    };
    // The route alone says what is done, whatever the body claims.
    fields.insert("operation".to_owned(), Value::from(operation));
    let (Admitted::New(snapshot) | Admitted::Known(snapshot)) =
        core.admit(&tenant, None, &body).await?;
    Ok((StatusCode::ACCEPTED, Json(core.view(&snapshot).await?)).into_response())
}

async fn show(
    State(core): State<Arc<Core>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Json<Job>, Fault> {
    let tenant = core.tenant(&headers).await?;
    let job: JobId = id.parse().map_err(|_| Refusal::not_found("job"))?;
    let found = core.job(&tenant, &job).await?.ok_or_else(|| Refusal::not_found("job"))?;
    Ok(Json(core.view(&found).await?))
}

async fn cancel(
    State(core): State<Arc<Core>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Fault> {
    let tenant = core.tenant(&headers).await?;
    let job: JobId = id.parse().map_err(|_| Refusal::not_found("job"))?;
    let snapshot = core.cancel(&tenant, &job).await?;
    Ok((StatusCode::ACCEPTED, Json(core.view(&snapshot).await?)).into_response())
}
