//! `/v1/webhook-endpoints`: who is told of a tenant's jobs.

use super::Routes;
use super::admin::Body;
use super::deliveries::replay_all;
use super::query::{Page, PageParams, Params, RawQuery};
use crate::auth::AsTenant;
use crate::core::Ingest;
use crate::error::Refusal;
use crate::problems::{JsonBody, Path};
use crate::records::new_secret;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use photofinish_contract::event::EventType;
use photofinish_contract::messages::ReplayWanted;
use photofinish_contract::problem::Problem;
use photofinish_contract::webhook::WebhookEndpoint;
use photofinish_model::delivery::DeliveryStatus;
use photofinish_model::line::CALLS_PER_S_MAX;
use photofinish_model::{Code, Tenant};
use photofinish_objects::WebhookEndpointRecord;
use serde_json::Value;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::routes;

const KIND: &str = WebhookEndpointRecord::KIND;
/// Endpoints of a tenant at most: each event is delivered to every one.
const ENDPOINTS_MAX: usize = 50;
/// Characters of a description at most.
const DESCRIPTION_CHARS_MAX: usize = 1000;

type App = State<Arc<Ingest>>;

pub(super) fn routes() -> Routes {
    Routes::default()
        .routes(routes!(create, list))
        .routes(routes!(show, change, remove))
}

/// A webhook endpoint to be made.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes the body, which is read by hand")]
pub(super) struct WebhookEndpointWish {
    /// What is called; http or https, and no private address.
    #[schema(example = "https://example.com/hook")]
    url: String,
    /// The event types that it wants; none: all but `job.progress`.
    event_types: Option<Vec<EventType>>,
    /// Your own words.
    #[schema(max_length = 1000)]
    description: Option<String>,
    /// How often it may be called in a second; none: as often as it answers, or the deployment's limit.
    #[schema(minimum = 1, maximum = 10_000)]
    calls_per_s: Option<u32>,
    /// False: nothing is sent yet.
    #[schema(default = true)]
    enabled: Option<bool>,
}

/// What is to change of a webhook endpoint; what is left out stays as it is.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes the body, which is read by hand")]
pub(super) struct WebhookEndpointChange {
    /// What is called.
    url: Option<String>,
    /// The event types that it wants; empty: all but `job.progress`.
    event_types: Option<Vec<EventType>>,
    /// Your own words; null clears them.
    #[schema(max_length = 1000)]
    description: Option<String>,
    /// How often it may be called in a second; null clears it.
    #[schema(minimum = 1, maximum = 10_000)]
    calls_per_s: Option<u32>,
    /// False: nothing is sent; true: it is, also after we disabled it.
    enabled: Option<bool>,
    /// With an enabled endpoint: every delivery that failed, or was missed while it was disabled, from this moment on
    /// is sent again.
    replay_since: Option<Timestamp>,
}

/// What a client said of an endpoint; a field that was not given stays as it is.
#[derive(Debug, Default)]
struct Wish {
    url: Option<String>,
    event_types: Option<Vec<String>>,
    #[expect(
        clippy::option_option,
        reason = "not given, null and a text are three wishes"
    )]
    description: Option<Option<String>>,
    #[expect(
        clippy::option_option,
        reason = "not given, null and a number are three wishes"
    )]
    calls_per_s: Option<Option<u32>>,
    enabled: Option<bool>,
    replay_since: Option<Timestamp>,
}

const KNOWN: [&str; 5] = [
    "url",
    "event_types",
    "description",
    "calls_per_s",
    "enabled",
];

fn wish(ingest: &Ingest, body: &Value, new: bool) -> Result<Wish, Refusal> {
    let clears = |name: &str| body.get(name).is_some_and(Value::is_null);
    let (no_description, no_rate) = (clears("description"), clears("calls_per_s"));
    let known: Vec<&str> = KNOWN
        .into_iter()
        .chain((!new).then_some("replay_since"))
        .collect();
    let mut body = Body::of(body, &known)?;
    let url = body.text("url", new);
    if let Some((code, detail)) = url.as_ref().and_then(|url| ingest.refused_receiver(url)) {
        body.fault("url", code, detail);
    }
    let description = body.text("description", false);
    if description
        .as_ref()
        .is_some_and(|text| text.chars().count() > DESCRIPTION_CHARS_MAX)
    {
        let detail = format!("has at most {DESCRIPTION_CHARS_MAX} characters");
        body.fault("description", Code::OutOfRange, detail);
    }
    let calls_per_s = body
        .take("calls_per_s")
        .and_then(|value| rate(&value, &mut body));
    let enabled = body.flag("enabled", false);
    let event_types = body
        .take("event_types")
        .and_then(|value| event_types(&value, &mut body));
    let replay_since = moment(&mut body, "replay_since", false);
    body.done()?;
    Ok(Wish {
        url,
        event_types,
        description: description.map(Some).or(no_description.then_some(None)),
        calls_per_s: calls_per_s.map(Some).or(no_rate.then_some(None)),
        enabled,
        replay_since,
    })
}

/// Calls in a second.
fn rate(value: &Value, body: &mut Body) -> Option<u32> {
    let rate = value.as_u64().and_then(|rate| u32::try_from(rate).ok());
    let rate = rate.filter(|rate| (1..=CALLS_PER_S_MAX).contains(rate));
    if rate.is_none() {
        let code = if value.is_number() {
            Code::OutOfRange
        } else {
            Code::WrongType
        };
        let detail = format!("must be a whole number from 1 to {CALLS_PER_S_MAX}");
        body.fault("calls_per_s", code, detail);
    }
    rate
}

/// A time of day in a body.
pub(super) fn moment(body: &mut Body, name: &str, required: bool) -> Option<Timestamp> {
    let moment = body.text(name, required)?.parse().ok();
    if moment.is_none() {
        let detail = "must be a time such as 2026-11-22T10:00:00Z".to_owned();
        body.fault(name, Code::NotAllowed, detail);
    }
    moment
}

fn event_types(value: &Value, body: &mut Body) -> Option<Vec<String>> {
    let Some(names) = value.as_array() else {
        body.fault(
            "event_types",
            Code::WrongType,
            "must be a list of event types".to_owned(),
        );
        return None;
    };
    for (place, name) in names.iter().enumerate() {
        let known = EventType::ALL
            .iter()
            .any(|known| Some(known.as_str()) == name.as_str());
        if !known {
            let all: Vec<&str> = EventType::ALL.iter().map(|known| known.as_str()).collect();
            let detail = format!("must be one of {}", all.join(", "));
            body.fault(&format!("event_types/{place}"), Code::NotAllowed, detail);
        }
    }
    Some(
        names
            .iter()
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect(),
    )
}

pub(super) fn record_id(tenant: &Tenant, id: &str) -> Result<String, Refusal> {
    let good = id
        .strip_prefix("whe_")
        .is_some_and(|rest| rest.len() == 32 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if good {
        Ok(WebhookEndpointRecord::record_id(tenant, id))
    } else {
        Err(Refusal::not_found("webhook endpoint"))
    }
}

/// A tenant's endpoint that was not deleted.
pub(super) async fn find(
    ingest: &Ingest,
    tenant: &Tenant,
    id: &str,
) -> Result<WebhookEndpointRecord, Refusal> {
    let found = ingest
        .objects
        .system_get(KIND, &record_id(tenant, id)?)
        .await?;
    let record = found.map(|(_, record): (u64, WebhookEndpointRecord)| record);
    record
        .filter(|record| !record.deleted)
        .ok_or_else(|| Refusal::not_found("webhook endpoint"))
}

/// The same, and something can be sent to it.
pub(super) async fn find_enabled(
    ingest: &Ingest,
    tenant: &Tenant,
    id: &str,
) -> Result<WebhookEndpointRecord, Refusal> {
    let record = find(ingest, tenant, id).await?;
    if record.enabled {
        return Ok(record);
    }
    let detail = "the webhook endpoint is disabled; enable it first";
    Err(Refusal::new(409, Code::EndpointDisabled, detail))
}

/// Changes a tenant's endpoint, and what the notifier sees of it.
pub(super) async fn change_endpoint(
    ingest: &Ingest,
    tenant: &Tenant,
    id: &str,
    change: impl Fn(WebhookEndpointRecord) -> Result<WebhookEndpointRecord, Refusal>,
) -> Result<WebhookEndpointRecord, Refusal> {
    let unknown = || Refusal::not_found("webhook endpoint");
    let id = record_id(tenant, id)?;
    let changed = ingest.change_record(KIND, &id, |record: WebhookEndpointRecord| {
        if record.deleted {
            return Err(unknown());
        }
        change(record)
    });
    let record = changed.await?.ok_or_else(unknown)?;
    ingest.renew_endpoints_copy(tenant).await?;
    Ok(record)
}

/// Name a receiver of events; its secret is shown once.
#[utoipa::path(post, path = "/v1/webhook-endpoints", tag = "webhooks",
    request_body = WebhookEndpointWish,
    responses((status = 201, body = WebhookEndpoint, description = "The endpoint, with its secret")))]
pub(super) async fn create(
    State(ingest): App,
    AsTenant(tenant): AsTenant,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<WebhookEndpoint>), Refusal> {
    let wish = wish(&ingest, &body, true)?;
    if ingest.endpoints(&tenant).await?.len() >= ENDPOINTS_MAX {
        let detail = format!("a tenant has at most {ENDPOINTS_MAX} webhook endpoints");
        return Err(Refusal::new(422, Code::QuotaExceeded, detail));
    }
    let secret = new_secret();
    let (id, url) = (
        format!("whe_{}", uuid::Uuid::new_v4().simple()),
        wish.url.unwrap_or_default(),
    );
    let sealed = ingest.config.sealer.seal(&secret);
    let record = WebhookEndpointRecord {
        event_types: wish.event_types.unwrap_or_default(),
        description: wish.description.flatten(),
        calls_per_s: wish.calls_per_s.flatten(),
        enabled: wish.enabled.unwrap_or(true),
        ..WebhookEndpointRecord::new(id, tenant.clone(), url, sealed, ingest.now())
    };
    ingest
        .make_record(KIND, &record_id(&tenant, &record.id)?, &record)
        .await?;
    ingest.renew_endpoints_copy(&tenant).await?;
    let shown = WebhookEndpoint {
        secret: Some(secret),
        ..record.shown()
    };
    Ok((StatusCode::CREATED, Json(shown)))
}

/// The tenant's webhook endpoints, the oldest first.
#[utoipa::path(get, path = "/v1/webhook-endpoints", tag = "webhooks",
    params(PageParams),
    responses((status = 200, body = Page<WebhookEndpoint>, description = "A page of endpoints")))]
pub(super) async fn list(
    State(ingest): App,
    AsTenant(tenant): AsTenant,
    query: RawQuery,
) -> Result<Json<Page<WebhookEndpoint>>, Refusal> {
    let mut params = Params::of(query)?;
    let (limit, cursor) = (params.limit(), params.cursor());
    params.done()?;
    let mut rows: Vec<(String, WebhookEndpoint)> = ingest
        .endpoints(&tenant)
        .await?
        .iter()
        .map(|record| {
            let at = record.created_at.as_millisecond();
            (format!("{at:016}.{}", record.id), record.shown())
        })
        .collect();
    rows.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(Json(Page::cut(rows, limit, cursor.as_deref())))
}

/// A webhook endpoint.
#[utoipa::path(get, path = "/v1/webhook-endpoints/{id}", tag = "webhooks",
    params(("id" = String, Path, description = "The endpoint")),
    responses((status = 200, body = WebhookEndpoint, description = "The endpoint")))]
pub(super) async fn show(
    State(ingest): App,
    AsTenant(tenant): AsTenant,
    Path(id): Path<String>,
) -> Result<Json<WebhookEndpoint>, Refusal> {
    Ok(Json(find(&ingest, &tenant, &id).await?.shown()))
}

/// Change a webhook endpoint; a field that is not given stays as it is.
///
/// `{"enabled": true, "replay_since": "…"}` undoes that an endpoint was disabled, and sends what it has missed.
#[utoipa::path(patch, path = "/v1/webhook-endpoints/{id}", tag = "webhooks",
    params(("id" = String, Path, description = "The endpoint")),
    request_body = WebhookEndpointChange,
    responses((status = 200, body = WebhookEndpoint, description = "The endpoint as it is now"),
        (status = 409, body = Problem, description = "`replay_since` for an endpoint that stays disabled")))]
pub(super) async fn change(
    State(ingest): App,
    AsTenant(tenant): AsTenant,
    Path(id): Path<String>,
    JsonBody(body): JsonBody,
) -> Result<Json<WebhookEndpoint>, Refusal> {
    let wish = wish(&ingest, &body, false)?;
    let now = ingest.now();
    let change = |mut record: WebhookEndpointRecord| {
        record.url = wish.url.clone().unwrap_or(record.url);
        record.event_types = wish.event_types.clone().unwrap_or(record.event_types);
        record.description = wish.description.clone().unwrap_or(record.description);
        record.calls_per_s = wish.calls_per_s.unwrap_or(record.calls_per_s);
        let enabled = wish.enabled.unwrap_or(record.enabled);
        if wish.replay_since.is_some() && !enabled {
            let detail = "the webhook endpoint stays disabled; give \"enabled\": true as well";
            return Err(Refusal::new(409, Code::EndpointDisabled, detail));
        }
        if enabled && !record.enabled {
            record.enabled_at = Some(now);
            record.failing = None;
            record.disabled = None;
        }
        record.enabled = enabled;
        Ok(record)
    };
    let mut shown = change_endpoint(&ingest, &tenant, &id, change)
        .await?
        .shown();
    if let Some(since) = wish.replay_since {
        let gap = ReplayWanted {
            tenant,
            endpoint: id,
            since,
            until: now,
            status: DeliveryStatus::Failed,
            at: now,
            cursor: None,
        };
        shown.replayed = Some(replay_all(&ingest, gap).await?.found);
    }
    Ok(Json(shown))
}

/// Delete a webhook endpoint; again is harmless.
#[utoipa::path(delete, path = "/v1/webhook-endpoints/{id}", tag = "webhooks",
    params(("id" = String, Path, description = "The endpoint")),
    responses((status = 204, description = "It is gone")))]
pub(super) async fn remove(
    State(ingest): App,
    AsTenant(tenant): AsTenant,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    let now = ingest.now();
    let gone = |record: WebhookEndpointRecord| {
        Ok(WebhookEndpointRecord {
            enabled: false,
            deleted: true,
            deleted_at: record.deleted_at.or(Some(now)),
            ..record
        })
    };
    let changed = ingest
        .change_record(KIND, &record_id(&tenant, &id)?, gone)
        .await?;
    changed.ok_or_else(|| Refusal::not_found("webhook endpoint"))?;
    ingest.renew_endpoints_copy(&tenant).await?;
    Ok(StatusCode::NO_CONTENT)
}
