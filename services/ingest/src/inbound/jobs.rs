//! `/v1/jobs`: submit, show, list, cancel, retry, outputs.

use super::query::{Params, RawQuery};
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
use photofinish_contract::request::JobRequest;
use photofinish_jobstore::{JobStoreError, ListFilter};
use photofinish_model::plan::{outlook, plan};
use photofinish_model::{Code, ItemState};
use serde_json::{Value, json};
use std::sync::Arc;

type App = State<Arc<Ingest>>;

/// `POST /v1/jobs`
pub(super) async fn submit(
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
        Err(Refusal::Problem(_)) => "refused",
        Err(Refusal::Fault(_)) => "fault",
    };
    let labels = [("door", door), ("outcome", outcome)];
    metrics::counter!("photofinish_ingest_submissions_total", &labels).increment(1);
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
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

/// What would be run: parts, frames, cost, and seconds, by what was learned of such work:
/// `estimated_s` of GPU, `wall_s` from the first worker's start to the last output with the parts
/// side by side.
async fn dry_run_of(ingest: &Ingest, request: &JobRequest) -> Value {
    let policy = &ingest.config.plan;
    let works = request.works();
    let rate = ingest.rate(request.operation()).await;
    let planned = plan(&works, policy, rate);
    let outlook = outlook(&works, &planned, policy, rate);
    let frames_of = |items: &[u16]| -> u64 {
        let work = |index: &u16| works.get(usize::from(*index)).map_or(0, |work| work.frames);
        items.iter().map(|index| u64::from(work(index))).sum()
    };
    let parts: Vec<Value> = planned
        .iter()
        .zip(&outlook.parts)
        .map(|(part, estimated)| {
            json!({"part": part.part, "items": part.items, "frames": frames_of(&part.items),
                "estimated_s": estimated.as_secs_f64()})
        })
        .collect();
    let frames: u64 = works.iter().map(|work| u64::from(work.frames)).sum();
    let estimated_s = outlook.work.as_secs_f64();
    let cost = ingest.config.usd_per_gpu_second.map(|price| Cost {
        amount: price * estimated_s,
        currency: "USD".to_owned(),
    });
    json!({"operation": request.operation(), "items": works.len(), "parts": parts,
        "frames": frames, "estimated_s": estimated_s, "wall_s": outlook.wall.as_secs_f64(),
        "cost_estimate": cost})
}

/// `GET /v1/jobs/{id}`
pub(super) async fn show(
    State(ingest): App,
    AsTenant(tenant): AsTenant,
    Path(id): Path<String>,
) -> Result<Json<Job>, Refusal> {
    let snapshot = ingest.find(&tenant, &id).await?;
    Ok(Json(ingest.view(&snapshot).await?))
}

/// `GET /v1/jobs`
pub(super) async fn list(
    State(ingest): App,
    AsTenant(tenant): AsTenant,
    query: RawQuery,
) -> Result<Json<Value>, Refusal> {
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
    let (limit, cursor) = (params.limit(), params.text("cursor"));
    params.done()?;
    let page = ingest
        .jobstore
        .list(&tenant, &filter, limit, cursor.as_deref())
        .await;
    let page = page.map_err(bad_cursor)?;
    let rows: Vec<Job> = page
        .rows
        .iter()
        .map(|header| ingest.view_of_header(header))
        .collect();
    Ok(Json(json!({"data": rows, "next_cursor": page.next_cursor})))
}

pub(super) fn bad_cursor(error: JobStoreError) -> Refusal {
    match error {
        JobStoreError::Cursor => Refusal::new(
            422,
            Code::InvalidRequest,
            "send `cursor` as `next_cursor` gave it",
        ),
        JobStoreError::Pool { .. }
        | JobStoreError::Command { .. }
        | JobStoreError::Value { .. }
        | JobStoreError::Answer { .. }
        | JobStoreError::NoSuchItem { .. }
        | JobStoreError::Settings(_) => error.into(),
    }
}

/// `DELETE /v1/jobs/{id}`
pub(super) async fn cancel(
    State(ingest): App,
    AsTenant(tenant): AsTenant,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Job>), Refusal> {
    let snapshot = ingest.cancel(&tenant, &id).await?;
    Ok((StatusCode::ACCEPTED, Json(ingest.view(&snapshot).await?)))
}

/// `POST /v1/jobs/{id}/retry`
pub(super) async fn retry(
    State(ingest): App,
    AsTenant(tenant): AsTenant,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Job>), Refusal> {
    let snapshot = ingest.retry(&tenant, &id).await?;
    Ok((StatusCode::ACCEPTED, Json(ingest.view(&snapshot).await?)))
}

/// `GET /v1/jobs/{id}/outputs`
pub(super) async fn outputs(
    State(ingest): App,
    AsTenant(tenant): AsTenant,
    Path(id): Path<String>,
    query: RawQuery,
) -> Result<Json<Value>, Refusal> {
    let mut params = Params::of(query)?;
    let limit = params.limit();
    let from: usize = params
        .read("cursor", "as `next_cursor` gave it", |text| {
            text.parse().ok()
        })
        .unwrap_or(0);
    params.done()?;
    let snapshot = ingest.find(&tenant, &id).await?;
    let from = from.min(snapshot.items.len());
    let to = from.saturating_add(limit).min(snapshot.items.len());
    let rows = ingest.rows(&snapshot.items[from..to]).await?;
    let next = (to < snapshot.items.len()).then(|| to.to_string());
    Ok(Json(json!({"data": rows, "next_cursor": next})))
}

/// `GET /v1/jobs/{id}/outputs/{item}`: 302 to the file.
pub(super) async fn output(
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
    let ttl = ingest.config.output_ttl;
    let (url, _until) = ingest
        .objects
        .presign_get(&output.key, ttl, ingest.now())
        .await?;
    Ok((StatusCode::FOUND, [(LOCATION, url)]).into_response())
}
