//! What can be asked of a webhook endpoint: a new secret, and a test. And a new secret for the jobs' own receivers.

use super::Routes;
use super::admin::Body;
use super::endpoints::{change_endpoint, find_enabled};
use crate::auth::AsTenant;
use crate::core::Ingest;
use crate::error::Refusal;
use crate::problems::{JsonBody, Path};
use crate::records::new_secret;
use axum::Json;
use axum::body::HttpBody as _;
use axum::extract::{FromRequest, Request, State};
use axum::http::StatusCode;
use jiff::Timestamp;
use photofinish_broker::{Outgoing, Route, Target};
use photofinish_contract::event::EventType;
use photofinish_contract::messages::{AnyEvent, EndpointEvent, NotifierMessage, WebhookCommand};
use photofinish_contract::problem::Problem;
use photofinish_contract::webhook::{TestSent, WebhookEndpoint};
use photofinish_model::Code;
use photofinish_model::sequence::delivery_id;
use photofinish_model::webhook::{FORMER_MAX, Former, OVERLAP_DEFAULT, OVERLAP_MAX, rotate};
use photofinish_objects::{TenantRecord, WebhookEndpointRecord};
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use utoipa::ToSchema;
use utoipa_axum::routes;

type App = State<Arc<Ingest>>;

pub(super) fn routes() -> Routes {
    Routes::default()
        .routes(routes!(rotate_secret))
        .routes(routes!(test))
        .routes(routes!(rotate_tenant_secret))
}

/// How a secret is replaced.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes the body, which is read by hand")]
pub(super) struct Rotation {
    /// Seconds for which the replaced secret signs as well; 0: no earlier secret signs any more.
    #[schema(minimum = 0, maximum = 604_800, default = 86_400)]
    overlap_s: Option<f64>,
}

/// The tenant's new secret.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WebhookSecret {
    /// `whsec_…`, shown this once.
    secret: String,
    /// Until when the secret before it signs as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    old_secret_until: Option<Timestamp>,
}

/// A body that may be left out; then it is an empty object.
#[derive(Debug)]
pub(super) struct OptionalBody(Value);

impl<S: Send + Sync> FromRequest<S> for OptionalBody {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        if request.body().is_end_stream() {
            return Ok(Self(json!({})));
        }
        let JsonBody(body) = JsonBody::from_request(request, state).await?;
        Ok(Self(body))
    }
}

fn overlap(body: &Value) -> Result<Duration, Refusal> {
    let mut body = Body::of(body, &["overlap_s"])?;
    let overlap = match body.take("overlap_s") {
        None => OVERLAP_DEFAULT,
        Some(value) => {
            let overlap = value
                .as_f64()
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
                .filter(|overlap| *overlap <= OVERLAP_MAX);
            if overlap.is_none() {
                let detail = format!("must be 0 to {} seconds", OVERLAP_MAX.as_secs());
                let code = if value.is_number() {
                    Code::OutOfRange
                } else {
                    Code::WrongType
                };
                body.fault("overlap_s", code, detail);
            }
            overlap.unwrap_or_default()
        }
    };
    body.done()?;
    Ok(overlap)
}

fn replaced(
    former: &[Former],
    current: String,
    overlap: Duration,
    now: Timestamp,
) -> Result<Vec<Former>, Refusal> {
    rotate(former, current, overlap, now).map_err(|_| {
        let detail = format!(
            "{FORMER_MAX} replaced secrets still sign; wait for one of them to end, or give overlap_s 0 to end all"
        );
        Refusal::new(422, Code::QuotaExceeded, detail)
    })
}

/// Replace the signing secret; both sign while the overlap lasts.
#[utoipa::path(post, path = "/v1/webhook-endpoints/{id}/rotate-secret", tag = "webhooks",
    params(("id" = String, Path, description = "The endpoint")),
    request_body = Option<Rotation>,
    responses((status = 200, body = WebhookEndpoint, description = "The endpoint, with its new secret")))]
pub(super) async fn rotate_secret(
    State(ingest): App,
    AsTenant(tenant): AsTenant,
    Path(id): Path<String>,
    OptionalBody(body): OptionalBody,
) -> Result<Json<WebhookEndpoint>, Refusal> {
    let (overlap, now, secret) = (overlap(&body)?, ingest.now(), new_secret());
    let sealed = ingest.config.sealer.seal(&secret);
    let change = |mut record: WebhookEndpointRecord| {
        let current = std::mem::replace(&mut record.secret_sealed, sealed.clone());
        record.former_secrets = replaced(&record.former_secrets, current, overlap, now)?;
        Ok(record)
    };
    let record = change_endpoint(&ingest, &tenant, &id, change).await?;
    Ok(Json(WebhookEndpoint {
        secret: Some(secret),
        old_secret_until: record.former_secrets.first().map(|former| former.until),
        ..record.shown()
    }))
}

/// Replace the secret that signs for the jobs' own `webhook_url`; both sign while the overlap lasts.
#[utoipa::path(post, path = "/v1/webhook-secret/rotate", tag = "webhooks",
    request_body = Option<Rotation>,
    responses((status = 200, body = WebhookSecret, description = "The new secret, shown once")))]
pub(super) async fn rotate_tenant_secret(
    State(ingest): App,
    AsTenant(tenant): AsTenant,
    OptionalBody(body): OptionalBody,
) -> Result<Json<WebhookSecret>, Refusal> {
    let (overlap, now, secret) = (overlap(&body)?, ingest.now(), new_secret());
    let sealed = ingest.config.sealer.seal(&secret);
    let change = |mut record: TenantRecord| {
        let current = std::mem::replace(&mut record.secret_sealed, sealed.clone());
        record.former_secrets = replaced(&record.former_secrets, current, overlap, now)?;
        Ok(record)
    };
    let changed = ingest
        .change_record(TenantRecord::KIND, tenant.as_str(), change)
        .await?;
    let record = changed.ok_or_else(|| Refusal::not_found("tenant"))?;
    Ok(Json(WebhookSecret {
        secret,
        old_secret_until: record.former_secrets.first().map(|former| former.until),
    }))
}

/// Send an `endpoint.test` to this endpoint alone, whatever its event types are.
#[utoipa::path(post, path = "/v1/webhook-endpoints/{id}/test", tag = "webhooks",
    params(("id" = String, Path, description = "The endpoint")),
    responses((status = 202, body = TestSent, description = "It is on its way"),
        (status = 409, body = Problem, description = "The endpoint is disabled")))]
pub(super) async fn test(
    State(ingest): App,
    AsTenant(tenant): AsTenant,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<TestSent>), Refusal> {
    let endpoint = find_enabled(&ingest, &tenant, &id).await?.id;
    let at = ingest.now();
    let event = AnyEvent::Endpoint(EndpointEvent {
        tenant: tenant.clone(),
        endpoint: endpoint.clone(),
        event: EventType::EndpointTest,
        at,
        cause: None,
    });
    let event = event.id();
    let sent = TestSent {
        delivery: delivery_id(&event, &endpoint),
        event,
    };
    let command = WebhookCommand::Test {
        tenant,
        endpoint,
        at,
    };
    tell_notifier(&ingest, command, sent.event.clone()).await?;
    Ok((StatusCode::ACCEPTED, Json(sent)))
}

/// The one durable effect of a call: a confirmed message to the notifier.
pub(super) async fn tell_notifier(
    ingest: &Ingest,
    command: WebhookCommand,
    message_id: String,
) -> Result<(), Refusal> {
    let message = NotifierMessage::Webhook(command);
    let outgoing = Outgoing::json(Target::Pipeline(Route::JobEvent), &message)?;
    ingest
        .publisher
        .publish(outgoing.message_id(message_id))
        .await?;
    Ok(())
}
