//! `/v1/jobs`: submit, look, list, cancel, retry, outputs.

use crate::admit::{Admitted, works};
use crate::core::Core;
use crate::error::Fault;
use crate::refusal::Refusal;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use photofinish_contract::job::{Job, OutputRow};
use photofinish_contract::request::BODY_BYTES_MAX;
use photofinish_jobstore::ListFilter;
use photofinish_model::plan::estimate;
use photofinish_model::{Code, ItemState, JobId, JobSnapshot};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;

/// Rows of a page unless asked otherwise, and at most.
const PAGE: usize = 50;
const PAGE_MAX: usize = 200;

type Shared = State<Arc<Core>>;
type Params = Query<HashMap<String, String>>;

/// The routes.
pub fn routes() -> Router<Arc<Core>> {
    Router::new()
        .route("/v1/jobs", post(submit).get(list))
        .route("/v1/jobs/{id}", get(show).delete(cancel))
        .route("/v1/jobs/{id}/retry", post(retry))
        .route("/v1/jobs/{id}/outputs", get(outputs))
        .route("/v1/jobs/{id}/outputs/{item}", get(output))
}

/// A body as JSON, or what is wrong with it.
pub fn json_body(body: Result<Bytes, BytesRejection>) -> Result<Value, Refusal> {
    let too_large = || {
        let detail = format!("a request body is at most {BODY_BYTES_MAX} bytes");
        Refusal::new(413, Code::BodyTooLarge, detail)
    };
    let body = body.map_err(|_| too_large())?;
    if body.len() > BODY_BYTES_MAX {
        return Err(too_large());
    }
    serde_json::from_slice(&body).map_err(|error| {
        Refusal::new(400, Code::Malformed, format!("the body is not JSON: {error}"))
    })
}

async fn submit(
    State(core): Shared,
    Query(params): Params,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Fault> {
    let tenant = core.tenant(&headers).await?;
    let body = json_body(body)?;
    if params.get("dry_run").is_some_and(|value| value == "true") {
        return Ok(Json(dry_run(&core, &body)?).into_response());
    }
    let key = headers.get("idempotency-key");
    let key = key.map(|value| value.to_str()).transpose().map_err(|_| {
        Refusal::new(422, Code::InvalidIdempotencyKey, "an idempotency key is ASCII text")
    })?;
    let (status, snapshot) = match core.admit(&tenant, key, &body).await? {
        Admitted::New(snapshot) => (StatusCode::ACCEPTED, snapshot),
        Admitted::Known(snapshot) => (StatusCode::OK, snapshot),
    };
    let view = core.view(&snapshot).await?;
    let location = view.links.this.clone();
    Ok((status, [(header::LOCATION, location)], Json(view)).into_response())
}

/// The plan, estimated time and cost; nothing is run.
fn dry_run(core: &Core, body: &Value) -> Result<Value, Fault> {
    let (request, parts) = core.check(body)?;
    let works = works(&request);
    let policy = &core.config.plan;
    let frames_of = |index: u16| works.get(usize::from(index)).map_or(0, |item| item.frames);
    let rows: Vec<Value> = parts
        .iter()
        .map(|part| {
            let frames: u64 = part.items.iter().map(|index| u64::from(frames_of(*index))).sum();
            let seconds = estimate(frames, policy).as_secs_f64();
            json!({"part": part.part, "items": part.items.len(), "frames": frames,
                "estimated_s": seconds})
        })
        .collect();
    let frames: u64 = works.iter().map(|item| u64::from(item.frames)).sum();
    let gpu_seconds = estimate(frames, policy).as_secs_f64();
    let cost = core.config.usd_per_gpu_second.map(|price| {
        json!({"amount": price * gpu_seconds, "currency": "USD"})
    });
    Ok(json!({
        "operation": request.operation(),
        "items": request.item_ids().len(),
        "frames": frames,
        "parts": rows,
        "estimated_gpu_seconds": gpu_seconds,
        "cost_estimate": cost,
    }))
}

async fn load(core: &Core, headers: &HeaderMap, id: &str) -> Result<JobSnapshot, Fault> {
    let tenant = core.tenant(headers).await?;
    let job: JobId = id.parse().map_err(|_| Refusal::not_found("job"))?;
    Ok(core.job(&tenant, &job).await?.ok_or_else(|| Refusal::not_found("job"))?)
}

async fn show(
    State(core): Shared,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Json<Job>, Fault> {
    let snapshot = load(&core, &headers, &id).await?;
    Ok(Json(core.view(&snapshot).await?))
}

async fn cancel(
    State(core): Shared,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Fault> {
    let tenant = core.tenant(&headers).await?;
    let job: JobId = id.parse().map_err(|_| Refusal::not_found("job"))?;
    let snapshot = core.cancel(&tenant, &job).await?;
    Ok((StatusCode::ACCEPTED, Json(core.view(&snapshot).await?)).into_response())
}

async fn retry(
    State(core): Shared,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Fault> {
    let tenant = core.tenant(&headers).await?;
    let job: JobId = id.parse().map_err(|_| Refusal::not_found("job"))?;
    let snapshot = core.retry(&tenant, &job).await?;
    Ok((StatusCode::ACCEPTED, Json(core.view(&snapshot).await?)).into_response())
}

async fn list(
    State(core): Shared,
    headers: HeaderMap,
    Query(params): Params,
) -> Result<Json<Value>, Fault> {
    let tenant = core.tenant(&headers).await?;
    let filter = filter(&params)?;
    let limit = limit(&params)?;
    let cursor = params.get("cursor").map(String::as_str);
    let page = core.jobstore.list(&tenant, &filter, limit, cursor).await?;
    let data: Vec<Value> = page
        .rows
        .iter()
        .map(|row| {
            let mut view = Job::without_outputs(&row.job, core.view_settings());
            // A header has no rows; its counts come from the store.
            view.progress.items_total = row.counts.total;
            view.progress.items_done = row.counts.stored;
            view.progress.items_failed = row.counts.failed;
            view.progress.ratio = if row.counts.total == 0 {
                0.0
            } else {
                f64::from(row.counts.stored) / f64::from(row.counts.total)
            };
            serde_json::to_value(view)
        })
        .collect::<Result<_, _>>()?;
    Ok(Json(json!({"data": data, "next_cursor": page.next_cursor})))
}

fn filter(params: &HashMap<String, String>) -> Result<ListFilter, Refusal> {
    let mut filter = ListFilter::default();
    for (name, value) in params {
        let text = || Value::from(value.as_str());
        let bad = || bad_parameter(name);
        match name.as_str() {
            "status" => filter.status = Some(serde_json::from_value(text()).map_err(|_| bad())?),
            "operation" => {
                filter.operation = Some(serde_json::from_value(text()).map_err(|_| bad())?);
            }
            "created_after" => filter.created_after = Some(value.parse().map_err(|_| bad())?),
            "created_before" => filter.created_before = Some(value.parse().map_err(|_| bad())?),
            "limit" | "cursor" => {}
            other => match other.strip_prefix("metadata.") {
                Some(key) => filter.metadata.push((key.to_owned(), value.clone())),
                None => return Err(bad()),
            },
        }
    }
    Ok(filter)
}

fn bad_parameter(name: &str) -> Refusal {
    let detail = format!("the query parameter {name:?} is not known or has a wrong value");
    Refusal::new(422, Code::InvalidRequest, detail)
}

/// The `limit` of a page.
pub fn limit(params: &HashMap<String, String>) -> Result<usize, Refusal> {
    let Some(text) = params.get("limit") else { return Ok(PAGE) };
    let limit: usize = text.parse().map_err(|_| bad_parameter("limit"))?;
    if (1..=PAGE_MAX).contains(&limit) {
        Ok(limit)
    } else {
        let detail = format!("`limit` is 1 to {PAGE_MAX}");
        Err(Refusal::new(422, Code::OutOfRange, detail))
    }
}

async fn outputs(
    State(core): Shared,
    headers: HeaderMap,
    Path(id): Path<String>,
    Query(params): Params,
) -> Result<Json<Value>, Fault> {
    let snapshot = load(&core, &headers, &id).await?;
    let limit = limit(&params)?;
    let from = match params.get("cursor") {
        None => 0,
        Some(cursor) => cursor.parse::<usize>().map_err(|_| bad_parameter("cursor"))?,
    };
    let mut data = Vec::new();
    for row in snapshot.items.iter().skip(from).take(limit) {
        let signed = match &row.state {
            ItemState::Stored(output) => Some(core.sign(&output.key).await?),
            ItemState::Pending
            | ItemState::Rendering
            | ItemState::Ready
            | ItemState::Failed(_) => None,
        };
        data.push(OutputRow::of(row, |_| signed.clone()));
    }
    let next = from + limit;
    let next_cursor = (next < snapshot.items.len()).then(|| next.to_string());
    Ok(Json(json!({"data": data, "next_cursor": next_cursor})))
}

async fn output(
    State(core): Shared,
    headers: HeaderMap,
    Path((id, item)): Path<(String, String)>,
) -> Result<Response, Fault> {
    let snapshot = load(&core, &headers, &id).await?;
    let row = snapshot.items.iter().find(|row| row.item == item);
    match row.map(|row| &row.state) {
        Some(ItemState::Stored(output)) => {
            let (url, _) = core.sign(&output.key).await?;
            Ok((StatusCode::FOUND, [(header::LOCATION, url)]).into_response())
        }
        Some(
            ItemState::Pending | ItemState::Rendering | ItemState::Ready | ItemState::Failed(_),
        )
        | None => Err(Refusal::not_found("stored output").into()),
    }
}
