//! A message as it came from a queue.
//!
//! Guarantee: what a stranger put into our headers is not believed. On the public submissions queue they count only
//! when RabbitMQ vouches (`user_id`) that one of our own services published the message.

use bytes::Bytes;
use lapin::message::Delivery;
use lapin::types::{FieldTable, ShortString};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::error::Undecodable;
use crate::headers;
use crate::names::{Family, WorkQueue};
use crate::topology::DELIVERY_LIMIT;

/// Which publish of a message this is; see the turn register of the job store. A higher `turn` is newer; of two
/// with the same `turn` the one that was received first counts, the other id is a copy to drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// How often it was published again, 1 and up.
    pub turn: u64,
    /// Drawn at each decision to publish again.
    pub turn_id: Uuid,
}

/// Why and from where a message came to [`WorkQueue::Parked`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// Stable word: a [`crate::Disposition::DeadLetter`]'s code, or `delivery_limit` when RabbitMQ itself gave up.
    pub code: String,
    /// A sentence.
    pub reason: String,
    /// The work queue in which it failed.
    pub origin: String,
    /// The kind of that queue; where the message will lie for people.
    pub family: Family,
}

/// A message as it came from a queue.
#[derive(Debug, Clone, Default)]
pub struct Incoming {
    /// The body.
    pub body: Bytes,
    /// Set by the publisher: an idempotency key on submissions, else drawn by us.
    pub message_id: Option<String>,
    /// To be repeated in a reply.
    pub correlation_id: Option<String>,
    /// The queue that waits for a reply.
    pub reply_to: Option<String>,
    /// The AMQP user that published it, verified by RabbitMQ.
    pub user_id: Option<String>,
    /// Media type of the body.
    pub content_type: Option<String>,
    /// How the body is encoded on top of that; not carried by a republish.
    pub content_encoding: Option<String>,
    /// The property `type`.
    pub kind: Option<String>,
    /// The exchange of the first publish (not the tier's or the default one of a retry or turn).
    pub exchange: String,
    /// The routing key of the first publish; [`crate::Route::parse`] reads the internal ones.
    pub routing_key: String,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
    /// How often it was delivered before without an acknowledgement.
    pub delivery_count: u32,
    /// How often a handler asked for a retry, 0 at first.
    pub attempt: u32,
    /// `None` until it is published again for the first time.
    pub turn: Option<Turn>,
    /// W3C trace context of the publisher.
    pub traceparent: Option<String>,
    /// See `traceparent`.
    pub tracestate: Option<String>,
    pub(crate) remaining_ms: u64,
    /// When its wait was over; absent on what others published.
    pub(crate) ready_ms: Option<u64>,
    /// Our headers only.
    pub(crate) headers: FieldTable,
    /// The tenant's AMQP user that first published a submission.
    pub(crate) submitter: Option<String>,
    pub(crate) parked: Option<Parked>,
}

impl Incoming {
    /// A message that came from nowhere, for unit tests of handlers.
    pub fn new(routing_key: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self {
            routing_key: routing_key.into(),
            body: body.into(),
            ..Self::default()
        }
    }

    /// Reads a delivery of `queue` (`None`: signals); `own` is our own AMQP user.
    pub(crate) fn read(delivery: &mut Delivery, queue: Option<WorkQueue>, own: &str) -> Self {
        let body = Bytes::from(std::mem::take(&mut delivery.data));
        let properties = &delivery.properties;
        let owned = |value: &Option<ShortString>| value.as_ref().map(ToString::to_string);
        let empty = FieldTable::default();
        let raw = properties.headers().as_ref().unwrap_or(&empty);
        let user_id = owned(properties.user_id());
        let ours = user_id.as_deref() == Some(own);
        let submitted = match queue {
            Some(WorkQueue::Submissions) => true,
            // RabbitMQ itself parked it, as its sender had written it.
            Some(WorkQueue::Parked) => {
                delivery.routing_key.as_str() == Family::Submissions.as_str()
            }
            Some(_) | None => false,
        };
        let headers = if submitted && !ours {
            as_a_stranger_sent_it(raw)
        } else {
            headers::keep(raw, headers::allowed)
        };
        let named = ours
            .then(|| headers::text(&headers, headers::TENANT))
            .flatten();
        // What we published again names whoever submitted it, or nobody: it was not we who submitted it.
        let again = ours && headers.contains_key(headers::FIRST_KEY);
        let submitter = named.or_else(|| user_id.clone().filter(|_| !again));
        let turn = headers::number(&headers, headers::TURN)
            .zip(headers::uuid(&headers, headers::TURN_ID))
            .map(|(turn, turn_id)| Turn { turn, turn_id });
        let parked = match queue {
            Some(WorkQueue::Parked) => Some(parked(&headers, raw, delivery.routing_key.as_str())),
            Some(_) | None => None,
        };
        let first = |name, now: &ShortString| {
            headers::text(&headers, name).unwrap_or_else(|| now.to_string())
        };
        Self {
            message_id: owned(properties.message_id()),
            correlation_id: owned(properties.correlation_id()),
            reply_to: owned(properties.reply_to()),
            content_type: owned(properties.content_type()),
            content_encoding: owned(properties.content_encoding()),
            kind: owned(properties.kind()),
            exchange: first(headers::FIRST_EXCHANGE, &delivery.exchange),
            routing_key: first(headers::FIRST_KEY, &delivery.routing_key),
            redelivered: delivery.redelivered,
            delivery_count: narrow(deliveries(raw)),
            attempt: narrow(headers::number(&headers, headers::ATTEMPT).unwrap_or(0)),
            turn,
            traceparent: headers::text(&headers, headers::TRACEPARENT),
            tracestate: headers::text(&headers, headers::TRACESTATE),
            remaining_ms: headers::number(&headers, headers::REMAINING_MS).unwrap_or(0),
            ready_ms: headers::number(&headers, headers::READY_MS),
            body,
            user_id,
            headers,
            submitter,
            parked,
        }
    }

    /// Decodes the body as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Undecodable> {
        serde_json::from_slice(&self.body).map_err(|source| Undecodable {
            expected: std::any::type_name::<T>(),
            source,
        })
    }

    /// A header of ours, if it is there and a text.
    pub fn header(&self, name: &str) -> Option<String> {
        headers::text(&self.headers, name)
    }

    /// The text of a property could not be read: bytes that are no UTF-8 stand in it as U+FFFD, and two texts that
    /// differ only there are the same.
    pub fn is_garbled(text: &str) -> bool {
        text.contains(char::REPLACEMENT_CHARACTER)
    }

    /// The AMQP user that first published a submission, whoever republished it since; verified. `None` when the
    /// publisher left `user_id` unset.
    pub fn submitter(&self) -> Option<&str> {
        self.submitter.as_deref()
    }

    /// Why it was parked; only on messages of [`WorkQueue::Parked`].
    pub fn parked(&self) -> Option<&Parked> {
        self.parked.as_ref()
    }
}

/// Of the headers only the trace; and the key that RabbitMQ saw, if it gave the message up.
fn as_a_stranger_sent_it(raw: &FieldTable) -> FieldTable {
    let mut headers = headers::keep(raw, is_trace);
    let key = latest_death(raw).and_then(|death| {
        let keys = death.inner().get("routing-keys")?.as_array()?;
        let key = keys.as_slice().first()?.as_long_string()?;
        Some(String::from_utf8_lossy(key.as_bytes()).into_owned())
    });
    if let Some(key) = key {
        headers::put_text(&mut headers, headers::FIRST_KEY, &key);
    }
    headers
}

fn is_trace(name: &str) -> bool {
    name == headers::TRACEPARENT || name == headers::TRACESTATE
}

/// How often this queue has delivered it before. Since RabbitMQ 4.3 one that was given up brings the count of the queue
/// that it died in.
fn deliveries(raw: &FieldTable) -> u64 {
    let count = |name| headers::number(raw, name).unwrap_or(0);
    let counted = count("x-delivery-count").max(count("x-acquired-count"));
    match first_death(raw) {
        (Some(reason), _) if reason == "delivery_limit" => {
            counted.saturating_sub(DELIVERY_LIMIT.unsigned_abs() + 1)
        }
        (Some(_) | None, _) => counted,
    }
}

fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn parked(ours: &FieldTable, raw: &FieldTable, routing_key: &str) -> Parked {
    let text = |name| headers::text(ours, name);
    let (first_reason, first_queue) = first_death(raw);
    let origin = text(headers::PARKED_ORIGIN)
        .or(first_queue)
        .unwrap_or_else(|| routing_key.to_owned());
    let family = routing_key
        .parse()
        .or_else(|_| origin.parse())
        .unwrap_or(Family::Parked);
    Parked {
        code: text(headers::PARKED_CODE)
            .or(first_reason)
            .unwrap_or_else(|| "unknown".to_owned()),
        reason: text(headers::PARKED_REASON)
            .unwrap_or_else(|| "the broker gave it up after too many deliveries".to_owned()),
        origin,
        family,
    }
}

/// Reason and queue of the latest death.
fn first_death(raw: &FieldTable) -> (Option<String>, Option<String>) {
    latest_death(raw).map_or((None, None), |death| {
        (
            headers::text(death, "reason"),
            headers::text(death, "queue"),
        )
    })
}

/// The latest death stands first in `x-death`.
fn latest_death(raw: &FieldTable) -> Option<&FieldTable> {
    let deaths = raw.inner().get("x-death")?.as_array()?;
    deaths.as_slice().first()?.as_field_table()
}
