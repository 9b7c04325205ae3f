//! `/v1/jobs`: submit, show, list, cancel, retry.

use super::Routes;
use super::query::{Page, PageParams, Params, RawQuery};
use crate::admission::Admitted;
use crate::auth::AsTenant;
use crate::core::Ingest;
use crate::error::Refusal;
use crate::problems::{JsonBody, Path};
use axum::Json;
use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use photofinish_contract::job::{Cost, Job};
use photofinish_contract::problem::Problem;
use photofinish_contract::request::JobRequest;
use photofinish_jobstore::{JobStoreError, ListFilter};
use photofinish_model::plan::{outlook, plan};
use photofinish_model::{Code, ItemIndex, JobId, JobStatus, Operation};
use serde::Serialize;
use std::sync::Arc;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};
use utoipa_axum::routes;

type App = State<Arc<Ingest>>;

pub(super) fn routes() -> Routes {
    Routes::default()
        .routes(routes!(submit, list))
        .routes(routes!(show, cancel))
        .routes(routes!(retry))
}

/// The body of a submission, in the document; what it is stands beside its parser (`contract::request::schema`).
#[derive(Debug)]
pub(super) struct JobRequestBody;

impl PartialSchema for JobRequestBody {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().into()
    }
}

impl ToSchema for JobRequestBody {
    fn name() -> std::borrow::Cow<'static, str> {
        "JobRequest".into()
    }
}

/// What would be run.
#[derive(Debug, Serialize, ToSchema)]
struct DryRun {
    operation: Operation,
    /// Items of the job.
    items: usize,
    /// What each GPU attempt would do.
    parts: Vec<PlannedPart>,
    /// Frames to be rendered; 0 for videos, which nobody knows before they are fetched.
    frames: u64,
    /// Seconds of GPU in all.
    estimated_s: f64,
    /// Seconds from the first worker's start to the last output, with the parts side by side.
    wall_s: f64,
    /// What it would cost, if the deployment knows a price.
    #[schema(required = true)]
    cost_estimate: Option<Cost>,
}

/// What a submission is answered with when nothing new begins.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes two answers that have one status")]
enum JobOrPlan {
    Job(Box<Job>),
    Plan(DryRun),
}

/// One part of the plan.
#[derive(Debug, Serialize, ToSchema)]
struct PlannedPart {
    part: u16,
    /// Places in the request.
    items: Vec<ItemIndex>,
    frames: u64,
    /// Seconds of GPU.
    estimated_s: f64,
}

/// Submit a job, or ask for its plan with `dry_run`.
#[utoipa::path(post, path = "/v1/jobs", tag = "jobs",
    params(
        ("dry_run" = Option<bool>, Query, description = "Answer the plan, run nothing"),
        ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255,
            description = "A second submission under one key is the same job")),
    request_body = JobRequestBody,
    responses(
        (status = 202, body = Job, description = "The job, accepted",
            headers(("Location" = String, description = "The job"))),
        (status = 200, body = JobOrPlan,
            description = "The job that was accepted before under the same key, or the plan")))]
async fn submit(
    State(ingest): App,
    AsTenant(tenant): AsTenant,
    query: RawQuery,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Result<Response, Refusal> {
    let mut params = Params::of(query)?;
    let dry_run = params.flag("dry_run");
    params.done()?;
    if dry_run {
        let request = ingest.check(&body)?;
        return Ok(Json(dry_run_of(&ingest, &request).await).into_response());
    }
    let key = idempotency_key(&headers)?;
    let admitted = ingest.admit(&tenant, key.as_deref(), &body).await;
    count("http", &admitted);
    answer(&ingest, admitted?).await
}

/// 202 for a new job, 200 for the one that was there.
pub(super) async fn answer(ingest: &Ingest, admitted: Admitted) -> Result<Response, Refusal> {
    let (status, snapshot) = match admitted {
        Admitted::New(snapshot) => (StatusCode::ACCEPTED, snapshot),
        Admitted::Before(snapshot) => (StatusCode::OK, snapshot),
    };
    let job = ingest.view(&snapshot).await?;
    let location = [(LOCATION, job.links.this.clone())];
    Ok((status, location, Json(job)).into_response())
}

pub(super) fn count(door: &'static str, admitted: &Result<Admitted, Refusal>) {
    let outcome = match admitted {
        Ok(Admitted::New(_)) => "new",
        Ok(Admitted::Before(_)) => "before",
        Err(Refusal::Problem(_) | Refusal::Over(_)) => "refused",
        Err(Refusal::Fault(_)) => "fault",
    };
    let labels = [("door", door), ("outcome", outcome)];
    metrics::counter!("photofinish_ingest_submissions_total", &labels).increment(1);
}

pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(value.as_bytes()).map_err(|_| {
        Refusal::new(
            422,
            Code::InvalidIdempotencyKey,
            "an idempotency key is UTF-8 text",
        )
    })?;
    Ok(Some(text.to_owned()))
}

/// The plan, by what was learned of such work.
async fn dry_run_of(ingest: &Ingest, request: &JobRequest) -> DryRun {
    let policy = &ingest.config.plan;
    let works = request.works();
    let rate = ingest.rate(request.operation()).await;
    let planned = plan(&works, policy, rate);
    let outlook = outlook(&works, &planned, policy, rate);
    let frames_of = |items: &[u16]| -> u64 {
        let work = |index: &u16| works.get(usize::from(*index)).map_or(0, |work| work.frames);
        items.iter().map(|index| u64::from(work(index))).sum()
    };
    let parts = planned
        .iter()
        .zip(&outlook.parts)
        .map(|(part, estimated)| PlannedPart {
            part: part.part,
            frames: frames_of(&part.items),
            items: part.items.clone(),
            estimated_s: estimated.as_secs_f64(),
        })
        .collect();
    let frames: u64 = works.iter().map(|work| u64::from(work.frames)).sum();
    let estimated_s = outlook.work.as_secs_f64();
    let cost = ingest.config.usd_per_gpu_second.map(|price| Cost {
        amount: price * estimated_s,
        currency: "USD".to_owned(),
    });
    DryRun {
        operation: request.operation(),
        items: works.len(),
        parts,
        frames,
        estimated_s,
        wall_s: outlook.wall.as_secs_f64(),
        cost_estimate: cost,
    }
}

/// A job, with a row for each of its outputs.
#[utoipa::path(get, path = "/v1/jobs/{id}", tag = "jobs",
    params(("id" = JobId, Path, description = "The job")),
    responses((status = 200, body = Job, description = "The job as it is now")))]
pub(super) async fn show(
    State(ingest): App,
    AsTenant(tenant): AsTenant,
    Path(id): Path<String>,
) -> Result<Json<Job>, Refusal> {
    let snapshot = ingest.find(&tenant, &id).await?;
    Ok(Json(ingest.view(&snapshot).await?))
}

/// The tenant's jobs, newest first, without `outputs`.
///
/// `metadata.{key}=value` may stand any number of times: only jobs whose metadata has that text.
#[utoipa::path(get, path = "/v1/jobs", tag = "jobs",
    params(
        ("status" = Option<JobStatus>, Query, description = "Only jobs of this status"),
        ("operation" = Option<Operation>, Query, description = "Only jobs of this operation"),
        ("created_after" = Option<Timestamp>, Query, description = "Only jobs created then or later"),
        ("created_before" = Option<Timestamp>, Query, description = "Only jobs created earlier"),
        PageParams),
    responses((status = 200, body = Page<Job>, description = "A page of jobs")))]
async fn list(
    State(ingest): App,
    AsTenant(tenant): AsTenant,
    query: RawQuery,
) -> Result<Json<Page<Job>>, Refusal> {
    let mut params = Params::of(query)?;
    let time = "a time such as 2026-11-22T10:00:00Z";
    let instant = |text: &str| text.parse::<Timestamp>().ok();
    let filter = ListFilter {
        status: params.word(
            "status",
            "accepted, running, completed, failed or cancelled",
        ),
        operation: params.word("operation", "img2vid, caption or addaudio"),
        created_after: params.read("created_after", time, instant),
        created_before: params.read("created_before", time, instant),
        metadata: params.all_under("metadata."),
    };
    let (limit, cursor) = (params.limit(), params.cursor());
    params.done()?;
    let page = ingest
        .jobstore
        .list(&tenant, &filter, limit, cursor.as_deref())
        .await;
    let page = page.map_err(bad_cursor)?;
    let rows = page.rows.iter();
    Ok(Json(Page {
        data: rows.map(|header| ingest.view_of_header(header)).collect(),
        next_cursor: page.next_cursor.as_deref().map(Page::<Job>::cursor),
    }))
}

pub(super) fn bad_cursor(error: JobStoreError) -> Refusal {
    match error {
        JobStoreError::Cursor => Refusal::new(
            422,
            Code::InvalidRequest,
            "send `cursor` as `next_cursor` gave it",
        ),
        JobStoreError::Connect { .. }
        | JobStoreError::Command { .. }
        | JobStoreError::Value { .. }
        | JobStoreError::Answer { .. }
        | JobStoreError::NoSuchItem { .. }
        | JobStoreError::Settings(_) => error.into(),
    }
}

/// Cancel a job; it is stopped on RunPod, too.
#[utoipa::path(delete, path = "/v1/jobs/{id}", tag = "jobs",
    params(("id" = JobId, Path, description = "The job")),
    responses(
        (status = 202, body = Job, description = "It will be cancelled"),
        (status = 409, body = Problem, description = "It has ended already (`job_finished`)")))]
pub(super) async fn cancel(
    State(ingest): App,
    AsTenant(tenant): AsTenant,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Job>), Refusal> {
    let snapshot = ingest.cancel(&tenant, &id).await?;
    Ok((StatusCode::ACCEPTED, Json(ingest.view(&snapshot).await?)))
}

/// A new run of the same job for what did not succeed.
#[utoipa::path(post, path = "/v1/jobs/{id}/retry", tag = "jobs",
    params(("id" = JobId, Path, description = "The job")),
    responses(
        (status = 202, body = Job, description = "The job, in its new run"),
        (status = 409, body = Problem, description = "It has not ended, or there is nothing to do")))]
async fn retry(
    State(ingest): App,
    AsTenant(tenant): AsTenant,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Job>), Refusal> {
    let snapshot = ingest.retry(&tenant, &id).await?;
    Ok((StatusCode::ACCEPTED, Json(ingest.view(&snapshot).await?)))
}
