//! `/v1/deliveries`: what was sent to whom, and what came back.

use super::jobs::bad_cursor;
use super::query::{Params, RawQuery};
use crate::auth::AsTenant;
use crate::core::Ingest;
use crate::error::Refusal;
use axum::Json;
use axum::extract::State;
use photofinish_contract::messages::Receiver;
use photofinish_jobstore::{AttemptLog, DeliveryFilter, DeliveryView};
use serde_json::{Value, json};
use std::sync::Arc;

/// `GET /v1/deliveries`
pub(super) async fn list(
    State(ingest): State<Arc<Ingest>>,
    AsTenant(tenant): AsTenant,
    query: RawQuery,
) -> Result<Json<Value>, Refusal> {
    let mut params = Params::of(query)?;
    let filter = DeliveryFilter {
        endpoint: params.text("endpoint"),
        job: params.read("job", "a job's id", |text| text.parse().ok()),
        status: params.word("status", "pending, delivered or failed"),
        event: params.word("type", "an event type such as job.completed"),
    };
    let (limit, cursor) = (params.limit(), params.text("cursor"));
    params.done()?;
    let page = ingest
        .jobstore
        .deliveries(&tenant, &filter, limit, cursor.as_deref())
        .await;
    let page = page.map_err(bad_cursor)?;
    let rows: Vec<Value> = page.rows.iter().map(view).collect();
    Ok(Json(json!({"data": rows, "next_cursor": page.next_cursor})))
}

fn view(delivery: &DeliveryView) -> Value {
    let record = &delivery.record;
    let endpoint = match &record.receiver {
        Receiver::Endpoint { id } => Some(id),
        Receiver::JobUrl { .. } => None,
    };
    let attempt = |attempt: &AttemptLog| {
        json!({"at": attempt.at, "status_code": attempt.status_code, "error": attempt.error,
            "duration_ms": attempt.duration_ms, "timing": attempt.timing,
            "response": attempt.response})
    };
    let attempts: Vec<Value> = delivery.attempts.iter().map(attempt).collect();
    json!({"id": record.id, "endpoint": endpoint, "job": record.event.job,
        "event": record.event_id, "type": record.event.event, "status": delivery.status,
        "created_at": record.created_at, "attempts": attempts})
}
