//! `/v1/jobs/{id}/outputs`: what a job has made, in pages, one by one, and gone.

use super::Routes;
use super::query::{Page, PageParams, Params, RawQuery};
use crate::auth::AsTenant;
use crate::core::Ingest;
use crate::error::Refusal;
use crate::problems::Path;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use photofinish_contract::job::OutputRow;
use photofinish_contract::problem::Problem;
use photofinish_model::{Code, ItemState, JobId, JobSnapshot};
use std::sync::Arc;
use utoipa_axum::routes;

type App = State<Arc<Ingest>>;

pub(super) fn routes() -> Routes {
    Routes::default()
        .routes(routes!(list, remove))
        .routes(routes!(show))
}

/// A job's outputs, in the order of its request.
#[utoipa::path(get, path = "/v1/jobs/{id}/outputs", tag = "outputs",
    params(("id" = JobId, Path, description = "The job"), PageParams),
    responses((status = 200, body = Page<OutputRow>, description = "A row for each item")))]
async fn list(
    State(ingest): App,
    AsTenant(tenant): AsTenant,
    Path(id): Path<String>,
    query: RawQuery,
) -> Result<Json<Page<OutputRow>>, Refusal> {
    let mut params = Params::of(query)?;
    let (limit, from) = (params.limit(), params.place());
    params.done()?;
    let snapshot = ingest.find(&tenant, &id).await?;
    let from = from.min(snapshot.items.len());
    let to = from.saturating_add(limit).min(snapshot.items.len());
    let data = ingest.rows(&snapshot, &snapshot.items[from..to]).await?;
    let next_cursor =
        (to < snapshot.items.len()).then(|| Page::<OutputRow>::cursor(&to.to_string()));
    Ok(Json(Page { data, next_cursor }))
}

/// One output: 302 to its file.
#[utoipa::path(get, path = "/v1/jobs/{id}/outputs/{*item}", tag = "outputs",
    params(("id" = JobId, Path, description = "The job"),
        ("item" = String, Path, description = "The item, percent-encoded")),
    responses(
        (status = 302, description = "Where the file is, for a while",
            headers(("Location" = String, description = "A presigned URL"))),
        (status = 410, body = Problem, description = "The outputs of the job were deleted")))]
async fn show(
    State(ingest): App,
    AsTenant(tenant): AsTenant,
    Path((id, item)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let snapshot = ingest.find(&tenant, &id).await?;
    let row = snapshot.items.iter().find(|row| row.item == item);
    let row = row.ok_or_else(|| Refusal::not_found("item"))?;
    let ItemState::Stored(output) = &row.state else {
        let detail = "this output is not stored yet, or has failed; the job's status tells";
        return Err(Refusal::new(404, Code::NotFound, detail));
    };
    refuse_deleted(&snapshot)?;
    let ttl = ingest.config.output_ttl;
    let (url, _until) = ingest
        .objects
        .presign_get(&output.key, ttl, ingest.now())
        .await?;
    Ok((StatusCode::FOUND, [(LOCATION, url)]).into_response())
}

/// Delete a finished job's outputs; again is harmless. The job itself stays.
#[utoipa::path(delete, path = "/v1/jobs/{id}/outputs", tag = "outputs",
    params(("id" = JobId, Path, description = "The job")),
    responses(
        (status = 204, description = "They are gone"),
        (status = 409, body = Problem, description = "The job has not ended (`job_not_finished`)")))]
async fn remove(
    State(ingest): App,
    AsTenant(tenant): AsTenant,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    let snapshot = ingest.find(&tenant, &id).await?;
    ingest.refuse_running(&snapshot).await?;
    ingest.remove_outputs(&snapshot).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn refuse_deleted(snapshot: &JobSnapshot) -> Result<(), Refusal> {
    match snapshot.outputs_deleted_at {
        None => Ok(()),
        Some(at) => {
            let detail = format!("the outputs of this job were deleted at {at}; submit a new job");
            Err(Refusal::new(410, Code::OutputDeleted, detail))
        }
    }
}
