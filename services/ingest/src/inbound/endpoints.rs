//! `/v1/webhook-endpoints`: who is told of a tenant's jobs.

use super::admin::Body;
use crate::auth::AsTenant;
use crate::core::Ingest;
use crate::error::Refusal;
use crate::problems::{JsonBody, Path};
use crate::records::new_secret;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use photofinish_contract::event::EventType;
use photofinish_model::{Code, Tenant};
use photofinish_objects::WebhookEndpointRecord;
use serde_json::{Value, json};
use std::sync::Arc;

const KIND: &str = WebhookEndpointRecord::KIND;
/// Endpoints of a tenant at most: each event is delivered to every one.
const ENDPOINTS_MAX: usize = 50;
/// Characters of a description at most.
const DESCRIPTION_CHARS_MAX: usize = 1000;

type App = State<Arc<Ingest>>;

/// What a client may say of an endpoint; a field that is not given stays as it is.
#[derive(Debug, Default)]
struct Wish {
    url: Option<String>,
    event_types: Option<Vec<String>>,
    description: Option<String>,
    enabled: Option<bool>,
}

fn wish(ingest: &Ingest, body: &Value, url_required: bool) -> Result<Wish, Refusal> {
    let known = ["url", "event_types", "description", "enabled"];
    let mut body = Body::of(body, &known)?;
    let url = body.text("url", url_required);
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
    let enabled = body.take("enabled").and_then(|value| {
        if !value.is_boolean() {
            body.fault(
                "enabled",
                Code::WrongType,
                "must be true or false".to_owned(),
            );
        }
        value.as_bool()
    });
    let event_types = body
        .take("event_types")
        .and_then(|value| event_types(&value, &mut body));
    body.done()?;
    Ok(Wish {
        url,
        event_types,
        description,
        enabled,
    })
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

fn view(record: &WebhookEndpointRecord) -> Value {
    json!({"id": record.id, "url": record.url, "event_types": record.event_types,
        "description": record.description, "enabled": record.enabled,
        "created_at": record.created_at})
}

fn record_id(tenant: &Tenant, id: &str) -> Result<String, Refusal> {
    let good = id
        .strip_prefix("whe_")
        .is_some_and(|rest| rest.len() == 32 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if good {
        Ok(WebhookEndpointRecord::record_id(tenant, id))
    } else {
        Err(Refusal::not_found("webhook endpoint"))
    }
}

/// `POST /v1/webhook-endpoints`: 201 with the secret, which is never shown again.
pub(super) async fn create(
    State(ingest): App,
    AsTenant(tenant): AsTenant,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let wish = wish(&ingest, &body, true)?;
    if ingest.endpoints(&tenant).await?.len() >= ENDPOINTS_MAX {
        let detail = format!("a tenant has at most {ENDPOINTS_MAX} webhook endpoints");
        return Err(Refusal::new(422, Code::QuotaExceeded, detail));
    }
    let secret = new_secret();
    let record = WebhookEndpointRecord {
        id: format!("whe_{}", uuid::Uuid::new_v4().simple()),
        tenant: tenant.clone(),
        url: wish.url.unwrap_or_default(),
        event_types: wish.event_types.unwrap_or_default(),
        description: wish.description,
        enabled: wish.enabled.unwrap_or(true),
        secret_sealed: ingest.config.sealer.seal(&secret),
        created_at: ingest.now(),
        deleted: false,
    };
    ingest
        .make_record(KIND, &record_id(&tenant, &record.id)?, &record)
        .await?;
    ingest.renew_endpoints_copy(&tenant).await?;
    let mut shown = view(&record);
    shown["secret"] = secret.into();
    Ok((StatusCode::CREATED, Json(shown)))
}

/// `GET /v1/webhook-endpoints`
pub(super) async fn list(
    State(ingest): App,
    AsTenant(tenant): AsTenant,
) -> Result<Json<Value>, Refusal> {
    let rows: Vec<Value> = ingest.endpoints(&tenant).await?.iter().map(view).collect();
    Ok(Json(json!({"data": rows, "next_cursor": null})))
}

/// `GET /v1/webhook-endpoints/{id}`
pub(super) async fn show(
    State(ingest): App,
    AsTenant(tenant): AsTenant,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refusal> {
    let found = ingest
        .objects
        .system_get(KIND, &record_id(&tenant, &id)?)
        .await?;
    let record = found.map(|(_, record): (u64, WebhookEndpointRecord)| record);
    let record = record.filter(|record| !record.deleted);
    Ok(Json(view(
        &record.ok_or_else(|| Refusal::not_found("webhook endpoint"))?,
    )))
}

/// `PATCH /v1/webhook-endpoints/{id}`
pub(super) async fn change(
    State(ingest): App,
    AsTenant(tenant): AsTenant,
    Path(id): Path<String>,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, Refusal> {
    let wish = wish(&ingest, &body, false)?;
    let changed = ingest
        .change_record(
            KIND,
            &record_id(&tenant, &id)?,
            |mut record: WebhookEndpointRecord| {
                if record.deleted {
                    return Err(Refusal::not_found("webhook endpoint"));
                }
                record.url = wish.url.clone().unwrap_or(record.url);
                record.event_types = wish.event_types.clone().unwrap_or(record.event_types);
                record.description = wish.description.clone().or(record.description);
                record.enabled = wish.enabled.unwrap_or(record.enabled);
                Ok(record)
            },
        )
        .await?;
    let record = changed.ok_or_else(|| Refusal::not_found("webhook endpoint"))?;
    ingest.renew_endpoints_copy(&tenant).await?;
    Ok(Json(view(&record)))
}

/// `DELETE /v1/webhook-endpoints/{id}`; again is harmless.
pub(super) async fn remove(
    State(ingest): App,
    AsTenant(tenant): AsTenant,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    let gone = |record| {
        Ok(WebhookEndpointRecord {
            enabled: false,
            deleted: true,
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
