//! Webhook endpoints and deliveries as a client reads them, and the bodies of an endpoint's own events.

use crate::event::EventType;
use jiff::Timestamp;
use photofinish_model::JobId;
use photofinish_model::delivery::DeliveryStatus;
use photofinish_model::webhook::Cause;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A webhook endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WebhookEndpoint {
    /// `whe_…`
    #[schema(pattern = "^whe_[0-9a-f]{32}$")]
    pub id: String,
    /// What is called.
    pub url: String,
    /// The event types it wants; empty: all but `job.progress`.
    pub event_types: Vec<EventType>,
    /// The client's own words.
    #[schema(required = true)]
    pub description: Option<String>,
    /// How often it is called in a second at most; null: as often as it answers, or the deployment's limit.
    #[schema(required = true, minimum = 1, maximum = 10_000)]
    #[serde(default)]
    pub calls_per_s: Option<u32>,
    /// False: nothing is sent.
    pub enabled: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// Why and when it was disabled, if it was not its owner who did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<EndpointDisabled>,
    /// Since when it has taken nothing, when that lasts for an hour or longer; after five days it is disabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<Timestamp>,
    /// The signing secret; only creation and rotation show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Until when the secret before it signs as well; only rotation tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_secret_until: Option<Timestamp>,
    /// How many deliveries are sent again; only a change with `replay_since` tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replayed: Option<u64>,
}

/// How a webhook endpoint came to be disabled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EndpointDisabled {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub cause: Cause,
    /// What happened and what to do.
    pub detail: String,
}

/// A test that is on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TestSent {
    /// The event's id: the `webhook-id` that the receiver will see.
    pub event: String,
    /// The delivery, for `GET /v1/deliveries/{id}`.
    pub delivery: String,
}

/// Deliveries that are sent again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Replayed {
    /// How many, as they were counted when it was asked for.
    pub replayed: u64,
    /// True: there are more, counting was ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

/// One event on its way to one receiver.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Delivery {
    /// `dlv_…`
    pub id: String,
    /// The webhook endpoint; null: the job's own `webhook_url`.
    #[schema(required = true)]
    pub endpoint: Option<String>,
    /// The job; null: the event is of the webhook endpoint.
    #[schema(required = true)]
    pub job: Option<JobId>,
    /// The event's id, the same on every attempt and every replay.
    pub event: String,
    /// The event's type.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// Where it stands.
    pub status: DeliveryStatus,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last sent again, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replayed_at: Option<Timestamp>,
    /// Every attempt, in order.
    pub attempts: Vec<DeliveryAttempt>,
}

/// One attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeliveryAttempt {
    /// When it began.
    pub at: Timestamp,
    /// What the receiver answered.
    #[schema(required = true)]
    pub status_code: Option<u16>,
    /// Why there was no answer.
    #[schema(required = true)]
    pub error: Option<String>,
    /// How long it took.
    pub duration_ms: u64,
    /// Where the time went.
    #[schema(required = true)]
    pub timing: Option<DeliveryTiming>,
    /// The first 1 KiB of what the receiver answered.
    #[schema(required = true)]
    pub response: Option<String>,
}

/// Where the time of an attempt went, in milliseconds. On a connection that was open already only the first byte is
/// there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct DeliveryTiming {
    /// Asking for the address.
    #[schema(required = true)]
    pub dns_ms: Option<u64>,
    /// Connecting by TCP.
    #[schema(required = true)]
    pub connect_ms: Option<u64>,
    /// Agreeing on encryption.
    #[schema(required = true)]
    pub tls_ms: Option<u64>,
    /// From the attempt's begin to the first byte of the answer.
    #[schema(required = true)]
    pub first_byte_ms: Option<u64>,
}

/// The body of `endpoint.test` and `endpoint.disabled`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EndpointEventBody {
    /// The event's type.
    #[serde(rename = "type")]
    pub event: EventType,
    /// When it happened.
    pub timestamp: Timestamp,
    /// Grows with each event of the endpoint.
    pub sequence: u64,
    /// The endpoint that it is about.
    pub data: WebhookEndpoint,
}

/// `endpoint.disabled` as a CloudEvents 1.0 structured message, routing key `<tenant>.endpoint.disabled`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EndpointCloudEvent {
    /// `1.0`.
    pub specversion: String,
    /// The event's id.
    pub id: String,
    /// `/photofinish/{tenant}`.
    pub source: String,
    /// The event's type.
    #[serde(rename = "type")]
    pub event: EventType,
    /// The endpoint's id.
    pub subject: String,
    /// When it happened.
    pub time: Timestamp,
    /// Grows with each event of the endpoint.
    pub sequence: String,
    /// `application/json`.
    pub datacontenttype: String,
    /// The endpoint.
    pub data: WebhookEndpoint,
}
