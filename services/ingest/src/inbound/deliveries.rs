//! `/v1/deliveries`: what was sent to whom, what came back, and sending it again.

use super::Routes;
use super::admin::Body;
use super::endpoint_calls::tell_notifier;
use super::endpoints::{find_enabled, moment};
use super::jobs::bad_cursor;
use super::query::{Page, PageParams, Params, RawQuery};
use crate::auth::AsTenant;
use crate::core::Ingest;
use crate::error::Refusal;
use crate::problems::{JsonBody, Path};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use photofinish_broker::{Outgoing, Route, Target};
use photofinish_contract::event::EventType;
use photofinish_contract::messages::{DeliveryDue, Receiver, ReplayWanted, WebhookCommand};
use photofinish_contract::problem::Problem;
use photofinish_contract::webhook::{Delivery, DeliveryAttempt, Replayed};
use photofinish_jobstore::{AttemptLog, Counted, DeliveryFilter, DeliveryView};
use photofinish_model::delivery::DeliveryStatus;
use photofinish_model::{Code, JobId, Tenant};
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::routes;

/// Deliveries that are looked at before an answer says how many are sent again.
const COUNTED_MAX: usize = 5_000;

type App = State<Arc<Ingest>>;

pub(super) fn routes() -> Routes {
    Routes::default()
        .routes(routes!(list))
        .routes(routes!(show))
        .routes(routes!(replay))
        .routes(routes!(replay_many))
}

/// Which deliveries are sent again.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes the body, which is read by hand")]
pub(super) struct ReplayWish {
    /// The webhook endpoint.
    endpoint: String,
    /// Those made at or after this.
    since: Timestamp,
    /// And before this; now when it is not given.
    until: Option<Timestamp>,
    /// And of this status; `failed` when it is not given.
    status: Option<DeliveryStatus>,
}

/// What was sent to whom, and what came back, newest first.
#[utoipa::path(get, path = "/v1/deliveries", tag = "deliveries",
    params(
        ("endpoint" = Option<String>, Query, description = "Only those to this endpoint"),
        ("job" = Option<JobId>, Query, description = "Only those of this job"),
        ("status" = Option<DeliveryStatus>, Query, description = "Only those of this status"),
        ("type" = Option<EventType>, Query, description = "Only events of this type"),
        ("created_after" = Option<Timestamp>, Query, description = "Only those made at or after this"),
        ("created_before" = Option<Timestamp>, Query, description = "Only those made before this"),
        PageParams),
    responses((status = 200, body = Page<Delivery>, description = "A page of deliveries")))]
pub(super) async fn list(
    State(ingest): App,
    AsTenant(tenant): AsTenant,
    query: RawQuery,
) -> Result<Json<Page<Delivery>>, Refusal> {
    let mut params = Params::of(query)?;
    let time = |text: &str| text.parse::<Timestamp>().ok();
    let wanted = "a time such as 2026-11-22T10:00:00Z";
    let filter = DeliveryFilter {
        endpoint: params.text("endpoint"),
        job: params.read("job", "a job's id", |text| text.parse().ok()),
        status: params.word("status", "pending, delivered or failed"),
        event: params.word("type", "an event type such as job.completed"),
        since: params.read("created_after", wanted, time),
        until: params.read("created_before", wanted, time),
    };
    let (limit, cursor) = (params.limit(), params.cursor());
    params.done()?;
    let page = ingest
        .jobstore
        .deliveries(&tenant, &filter, limit, cursor.as_deref())
        .await;
    let page = page.map_err(bad_cursor)?;
    Ok(Json(Page {
        data: page.rows.iter().map(view).collect(),
        next_cursor: page.next_cursor.as_deref().map(Page::<Delivery>::cursor),
    }))
}

/// One delivery, with every attempt.
#[utoipa::path(get, path = "/v1/deliveries/{id}", tag = "deliveries",
    params(("id" = String, Path, description = "The delivery")),
    responses((status = 200, body = Delivery, description = "The delivery")))]
pub(super) async fn show(
    State(ingest): App,
    AsTenant(tenant): AsTenant,
    Path(id): Path<String>,
) -> Result<Json<Delivery>, Refusal> {
    Ok(Json(view(&find(&ingest, &tenant, &id).await?)))
}

/// Send a delivery again, whatever became of it.
///
/// The same event id, a fresh body and signature, and the schedule of tries from its begin. A second call within a
/// second is the same one.
#[utoipa::path(post, path = "/v1/deliveries/{id}/replay", tag = "deliveries",
    params(("id" = String, Path, description = "The delivery")),
    responses((status = 202, body = Delivery, description = "It is on its way"),
        (status = 409, body = Problem, description = "The webhook endpoint is disabled or gone")))]
pub(super) async fn replay(
    State(ingest): App,
    AsTenant(tenant): AsTenant,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Delivery>), Refusal> {
    let found = find(&ingest, &tenant, &id).await?;
    match &found.record.receiver {
        Receiver::Endpoint { id } => {
            let endpoint = ingest.endpoints(&tenant).await?;
            if !endpoint.iter().any(|one| one.id == *id && one.enabled) {
                let detail = "its webhook endpoint is disabled or was deleted";
                return Err(Refusal::new(409, Code::EndpointDisabled, detail));
            }
        }
        Receiver::JobUrl { .. } => {}
    }
    let at = ingest.now();
    let due = DeliveryDue {
        delivery: found.record.id.clone(),
        event: found.record.event.clone(),
        receiver: found.record.receiver.clone(),
        tries: 0,
        replay: Some(at),
    };
    let outgoing = Outgoing::json(Target::Pipeline(Route::DeliveryDue), &due)?;
    let outgoing = outgoing.message_id(format!("{}:{}", due.delivery, at.as_millisecond()));
    ingest.publisher.publish(outgoing).await?;
    let shown = Delivery {
        status: DeliveryStatus::Pending,
        replayed_at: Some(at),
        ..view(&found)
    };
    Ok((StatusCode::ACCEPTED, Json(shown)))
}

/// Send many deliveries to a webhook endpoint again.
#[utoipa::path(post, path = "/v1/deliveries/replay", tag = "deliveries",
    request_body = ReplayWish,
    responses((status = 202, body = Replayed, description = "They are on their way"),
        (status = 409, body = Problem, description = "The webhook endpoint is disabled")))]
pub(super) async fn replay_many(
    State(ingest): App,
    AsTenant(tenant): AsTenant,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<Replayed>), Refusal> {
    let mut body = Body::of(&body, &["endpoint", "since", "until", "status"])?;
    let endpoint = body.text("endpoint", true);
    let since = moment(&mut body, "since", true);
    let until = moment(&mut body, "until", false);
    let status = body.take("status").map(serde_json::from_value);
    if matches!(status, Some(Err(_))) {
        let detail = "must be pending, delivered or failed".to_owned();
        body.fault("status", Code::NotAllowed, detail);
    }
    body.done()?;
    let now = ingest.now();
    let wanted = ReplayWanted {
        endpoint: find_enabled(&ingest, &tenant, &endpoint.unwrap_or_default())
            .await?
            .id,
        tenant,
        since: since.unwrap_or(now),
        until: until.unwrap_or(now).min(now),
        status: status
            .and_then(Result::ok)
            .unwrap_or(DeliveryStatus::Failed),
        at: now,
        cursor: None,
    };
    let counted = replay_all(&ingest, wanted).await?;
    let answer = Replayed {
        replayed: counted.found,
        more: !counted.all,
    };
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

/// Counts what is to be sent again, and has the notifier do it.
pub(super) async fn replay_all(ingest: &Ingest, wanted: ReplayWanted) -> Result<Counted, Refusal> {
    let filter = DeliveryFilter {
        endpoint: Some(wanted.endpoint.clone()),
        status: Some(wanted.status),
        since: Some(wanted.since),
        until: Some(wanted.until),
        ..DeliveryFilter::default()
    };
    let counted = ingest
        .jobstore
        .count_deliveries(&wanted.tenant, &filter, COUNTED_MAX)
        .await?;
    if counted.found > 0 || !counted.all {
        let id = format!("{}:{}", wanted.endpoint, wanted.at.as_millisecond());
        tell_notifier(ingest, WebhookCommand::Replay(wanted), id).await?;
    }
    Ok(counted)
}

async fn find(ingest: &Ingest, tenant: &Tenant, id: &str) -> Result<DeliveryView, Refusal> {
    let unknown = || Refusal::not_found("delivery");
    if !id.starts_with("dlv_") {
        return Err(unknown());
    }
    let found = ingest.jobstore.delivery(id).await?;
    found
        .filter(|found| found.record.event.tenant() == tenant)
        .ok_or_else(unknown)
}

fn view(delivery: &DeliveryView) -> Delivery {
    let record = &delivery.record;
    let endpoint = match &record.receiver {
        Receiver::Endpoint { id } => Some(id.clone()),
        Receiver::JobUrl { .. } => None,
    };
    let attempt = |attempt: &AttemptLog| DeliveryAttempt {
        at: attempt.at,
        status_code: attempt.status_code,
        error: attempt.error.clone(),
        duration_ms: attempt.duration_ms,
        timing: attempt.timing,
        response: attempt.response.clone(),
    };
    Delivery {
        id: record.id.clone(),
        endpoint,
        job: record.event.job().cloned(),
        event: record.event_id.clone(),
        kind: record.event.kind(),
        status: delivery.status,
        created_at: record.created_at,
        replayed_at: delivery.replayed_at,
        attempts: delivery.attempts.iter().map(attempt).collect(),
    }
}
