//! The paths of the old system: the same admission, the old bodies, the same answers as `/v1/jobs`.

use super::jobs::{self, JobRequestBody};
use super::{Routes, query};
use crate::auth::AsTenant;
use crate::core::Ingest;
use crate::error::Refusal;
use crate::problems::{JsonBody, Path};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use photofinish_contract::job::Job;
use photofinish_contract::problem::Problem;
use photofinish_model::{Code, JobId};
use std::sync::Arc;
use utoipa_axum::routes;

type App = State<Arc<Ingest>>;

pub(super) fn routes() -> Routes {
    Routes::default()
        .routes(routes!(submit))
        .routes(routes!(show))
        .routes(routes!(cancel))
}

/// Submit a job as the old system took it.
///
/// The path says what is to be done: `operation` may be left out of the body.
#[utoipa::path(post, path = "/video/{operation}", tag = "old",
    params(
        ("operation" = String, Path, description = "caption, img2vid or addaudio"),
        ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255,
            description = "A second submission under one key is the same job")),
    request_body = JobRequestBody,
    responses(
        (status = 202, body = Job, description = "The job, accepted",
            headers(("Location" = String, description = "The job"))),
        (status = 200, body = Job, description = "The job that was accepted before under the same key")))]
async fn submit(
    State(ingest): App,
    AsTenant(tenant): AsTenant,
    Path(operation): Path<String>,
    query: query::RawQuery,
    headers: HeaderMap,
    JsonBody(mut body): JsonBody,
) -> Result<Response, Refusal> {
    query::Params::of(query)?.done()?;
    if !["caption", "img2vid", "addaudio"].contains(&operation.as_str()) {
        return Err(Refusal::new(404, Code::NotFound, "there is no such path"));
    }
    if let Some(fields) = body.as_object_mut() {
        // The path says what is to be done, whatever the body claims.
        fields.insert("operation".to_owned(), operation.into());
    }
    let key = jobs::idempotency_key(&headers)?;
    let admitted = ingest.admit(&tenant, key.as_deref(), &body).await;
    jobs::count("old", &admitted);
    jobs::answer(&ingest, admitted?).await
}

/// A job.
#[utoipa::path(get, path = "/job/{id}", tag = "old",
    params(("id" = JobId, Path, description = "The job")),
    responses((status = 200, body = Job, description = "The job as it is now")))]
async fn show(app: App, tenant: AsTenant, id: Path<String>) -> Result<Json<Job>, Refusal> {
    jobs::show(app, tenant, id).await
}

/// Cancel a job.
#[utoipa::path(post, path = "/job/{id}/cancel", tag = "old",
    params(("id" = JobId, Path, description = "The job")),
    responses(
        (status = 202, body = Job, description = "It will be cancelled"),
        (status = 409, body = Problem, description = "It has ended already (`job_finished`)")))]
async fn cancel(
    app: App,
    tenant: AsTenant,
    id: Path<String>,
) -> Result<(StatusCode, Json<Job>), Refusal> {
    jobs::cancel(app, tenant, id).await
}
