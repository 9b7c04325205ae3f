//! `/v1/admin/parked`: messages that were given up, and submissions that were refused.

use crate::auth::AsOperator;
use crate::core::Ingest;
use crate::error::Refusal;
use crate::inbound::Routes;
use crate::inbound::query::{Page, Params, RawQuery};
use crate::problems::Path;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use photofinish_broker::{PARKED_MAX, ParkedError, ParkedIn, ParkedMessage};
use photofinish_contract::problem::Problem;
use photofinish_model::Code;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::routes;

type App = State<Arc<Ingest>>;

pub(super) fn routes() -> Routes {
    Routes::default()
        .routes(routes!(list))
        .routes(routes!(show, discard))
        .routes(routes!(replay))
}

/// A message that lies for people.
#[derive(Debug, Serialize, ToSchema)]
struct ParkedShown {
    /// Names it, for as long as it lies there.
    id: String,
    /// The queue in which it lies.
    queue: String,
    /// The queue in which it failed.
    origin: String,
    /// Why.
    code: String,
    /// Why, as a sentence.
    reason: String,
    #[schema(required = true)]
    message_id: Option<String>,
    /// Whose it is, as far as it can be told.
    #[schema(required = true)]
    tenant: Option<String>,
    /// The job that it is about, as far as it can be told.
    #[schema(required = true)]
    job: Option<String>,
    /// Size of its body.
    bytes: usize,
    /// Since when it lies there.
    #[schema(required = true)]
    at: Option<Timestamp>,
}

/// The same with all that there is of it.
#[derive(Debug, Serialize, ToSchema)]
struct ParkedWhole {
    #[serde(flatten)]
    message: ParkedShown,
    #[schema(value_type = Object)]
    headers: Map<String, Value>,
    /// The body: JSON as it is, anything else as text.
    body: Value,
}

/// A text at a name, here or one object deeper.
fn named(body: &Value, name: &str) -> Option<String> {
    let here = body.get(name).and_then(Value::as_str);
    let deeper = || {
        body.as_object()?
            .values()
            .find_map(|value| value.get(name)?.as_str())
    };
    here.or_else(deeper).map(str::to_owned)
}

fn body_of(message: &ParkedMessage) -> Value {
    serde_json::from_slice(&message.body)
        .unwrap_or_else(|_| String::from_utf8_lossy(&message.body).into())
}

fn shown(message: &ParkedMessage) -> ParkedShown {
    let body = body_of(message);
    let is_job = |id: &String| id.starts_with("job_");
    let id = || named(&body, "id").filter(is_job);
    ParkedShown {
        id: message.id.clone(),
        queue: message.place.queue(),
        origin: message.origin.clone(),
        code: message.code.clone(),
        reason: message.reason.clone(),
        message_id: message.message_id.clone(),
        tenant: message.submitter.clone().or_else(|| named(&body, "tenant")),
        job: named(&body, "job").filter(is_job).or_else(id),
        bytes: message.body.len(),
        at: message
            .at_s
            .and_then(|second| Timestamp::from_second(i64::try_from(second).ok()?).ok()),
    }
}

fn unknown() -> Refusal {
    let detail = "there is no such message; it may have been replayed or dropped, or somebody looks at it just now";
    Refusal::new(404, Code::NotFound, detail)
}

fn sent_back(error: ParkedError) -> Refusal {
    match error {
        ParkedError::NoOrigin(queue) => {
            let detail = format!("the queue {queue} in which it failed is none of ours: drop it");
            Refusal::new(409, Code::NotAllowed, detail)
        }
        ParkedError::Get(_) | ParkedError::Publish(_) => error.into(),
    }
}

/// Messages that were given up, and submissions that were refused.
///
/// The first hundred of each queue at most, the oldest first; while somebody looks, others see fewer for a moment.
#[utoipa::path(get, path = "/v1/admin/parked", tag = "admin",
    params(("queue" = Option<String>, Query,
            description = "One queue: `rejected`, or the family in which messages failed, such as `dispatcher.plan`"),
        ("limit" = Option<u32>, Query, description = "Rows at most, 1 to 100", minimum = 1, maximum = 100)),
    responses((status = 200, body = Page<ParkedShown>, description = "The messages; there is no next page")))]
async fn list(
    State(ingest): App,
    _: AsOperator,
    query: RawQuery,
) -> Result<Json<Page<ParkedShown>>, Refusal> {
    let mut params = Params::of(query)?;
    let families = ParkedIn::all()
        .map(ParkedIn::word)
        .collect::<Vec<_>>()
        .join(", ");
    let place = params.read("queue", &format!("one of {families}"), ParkedIn::named);
    let in_bounds = |number: &usize| (1..=PARKED_MAX).contains(number);
    let wanted = format!("1 to {PARKED_MAX}");
    let limit = params.read("limit", &wanted, |text| text.parse().ok().filter(in_bounds));
    params.done()?;
    let mut left = limit.unwrap_or(PARKED_MAX);
    let mut data = Vec::new();
    for place in ParkedIn::all().filter(|known| place.is_none_or(|place| place == *known)) {
        if left == 0 {
            break;
        }
        let found = ingest.broker.parked(place, left).await?;
        left = left.saturating_sub(found.len());
        data.extend(found.iter().map(shown));
    }
    Ok(Json(Page {
        data,
        next_cursor: None,
    }))
}

/// A message with its headers and its body.
#[utoipa::path(get, path = "/v1/admin/parked/{id}", tag = "admin",
    params(("id" = String, Path, description = "The message")),
    responses((status = 200, body = ParkedWhole, description = "All that there is of it")))]
async fn show(
    State(ingest): App,
    _: AsOperator,
    Path(id): Path<String>,
) -> Result<Json<ParkedWhole>, Refusal> {
    let message = ingest.broker.parked_one(&id).await?.ok_or_else(unknown)?;
    Ok(Json(ParkedWhole {
        body: body_of(&message),
        headers: message.headers.clone().into_iter().collect(),
        message: shown(&message),
    }))
}

/// Send a message back to the queue in which it failed.
///
/// A refused submission is handled as if it had just come. It leaves its place only when the broker has it there.
#[utoipa::path(post, path = "/v1/admin/parked/{id}/replay", tag = "admin",
    params(("id" = String, Path, description = "The message")),
    responses((status = 202, description = "It is there"),
        (status = 409, body = Problem, description = "Nobody can tell where it was to go")))]
async fn replay(
    State(ingest): App,
    operator: AsOperator,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    ingest.broker.parked_one(&id).await?.ok_or_else(unknown)?;
    ingest
        .audit(&operator, "parked.replay", &id, json!({}))
        .await?;
    if ingest.broker.parked_replay(&id).await.map_err(sent_back)? {
        Ok(StatusCode::ACCEPTED)
    } else {
        Err(unknown())
    }
}

/// Drop a message for good.
#[utoipa::path(delete, path = "/v1/admin/parked/{id}", tag = "admin",
    params(("id" = String, Path, description = "The message")),
    responses((status = 204, description = "It is gone")))]
async fn discard(
    State(ingest): App,
    operator: AsOperator,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    let message = ingest.broker.parked_one(&id).await?.ok_or_else(unknown)?;
    let detail =
        json!({"message_id": message.message_id, "code": message.code, "origin": message.origin});
    ingest.audit(&operator, "parked.drop", &id, detail).await?;
    if ingest.broker.parked_drop(&id).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(unknown())
    }
}
