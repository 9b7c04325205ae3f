//! A message to publish, and how one is published again.

use std::time::Duration;

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use photofinish_runtime::clock::Clock;
use serde::Serialize;
use tracing::field::Empty;
use uuid::Uuid;

use crate::error::PublishError;
use crate::headers;
use crate::incoming::Incoming;
use crate::names::{Family, WorkQueue, is_ours};
use crate::settings::INTERNAL_BYTES_MAX;
use crate::target::Target;
use crate::topology::{self, Tier};
use crate::waiting::now_ms;

/// A message to publish. Persistent always; the confirm is awaited always.
#[derive(Debug, Clone)]
pub struct Outgoing {
    target: Target,
    body: Bytes,
    content_type: String,
    kind: Option<String>,
    message_id: Option<String>,
    correlation_id: Option<String>,
    reply_to: Option<String>,
    headers: Vec<(String, String)>,
}

impl Outgoing {
    /// A message with this body, `application/json` unless told otherwise.
    pub fn new(target: Target, body: impl Into<Bytes>) -> Self {
        Self {
            target,
            body: body.into(),
            content_type: "application/json".to_owned(),
            kind: None,
            message_id: None,
            correlation_id: None,
            reply_to: None,
            headers: Vec::new(),
        }
    }

    /// A message with this value as JSON; fails only on values that JSON cannot express.
    pub fn json<T: Serialize>(target: Target, value: &T) -> Result<Self, serde_json::Error> {
        Ok(Self::new(target, serde_json::to_vec(value)?))
    }

    /// What lies in [`WorkQueue::Parked`], on its way to where people look at it; `None` for other messages.
    pub fn for_people(incoming: &Incoming) -> Option<Self> {
        let parked = incoming.parked()?;
        let mut outgoing = Self::new(Target::Dead(parked.family), incoming.body.clone())
            .header(headers::PARKED_CODE, &parked.code)
            .header(headers::PARKED_REASON, &parked.reason)
            .header(headers::PARKED_ORIGIN, &parked.origin);
        for name in [
            headers::FIRST_EXCHANGE,
            headers::FIRST_KEY,
            headers::TRACEPARENT,
            headers::TRACESTATE,
        ] {
            if let Some(value) = incoming.header(name) {
                outgoing = outgoing.header(name, &value);
            }
        }
        if let (Family::Submissions, Some(user)) = (parked.family, incoming.submitter()) {
            outgoing = outgoing.header(headers::TENANT, user);
        }
        outgoing.content_type = incoming
            .content_type
            .clone()
            .unwrap_or(outgoing.content_type);
        outgoing.kind.clone_from(&incoming.kind);
        outgoing.message_id.clone_from(&incoming.message_id);
        outgoing.correlation_id.clone_from(&incoming.correlation_id);
        Some(outgoing)
    }

    /// Sets the property `type`.
    #[must_use]
    pub fn kind(mut self, kind: impl Into<String>) -> Self {
        self.kind = Some(kind.into());
        self
    }

    /// Sets the media type.
    #[must_use]
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.content_type = content_type.into();
        self
    }

    /// Sets the message id; a random one otherwise.
    #[must_use]
    pub fn message_id(mut self, id: impl Into<String>) -> Self {
        self.message_id = Some(id.into());
        self
    }

    /// Sets the correlation id, if there is one.
    #[must_use]
    pub fn correlation_id(mut self, id: Option<String>) -> Self {
        self.correlation_id = id;
        self
    }

    /// Sets the queue for replies.
    #[must_use]
    pub fn reply_to(mut self, queue: impl Into<String>) -> Self {
        self.reply_to = Some(queue.into());
        self
    }

    /// Adds a header; its name must be one of ours or begin with `x-photofinish-`.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The span of sending it; what is handled because of it becomes its child.
    pub(crate) fn span(&self) -> tracing::Span {
        let destination = self.target.destination();
        tracing::info_span!(
            "send",
            otel.name = format!("send {destination}"),
            otel.kind = "producer",
            otel.status_code = Empty,
            "error.type" = Empty,
            "messaging.system" = "rabbitmq",
            "messaging.operation.type" = "send",
            "messaging.operation.name" = "send",
            "messaging.destination.name" = destination,
            "messaging.message.id" = self.message_id.as_deref(),
            "messaging.message.body.size" = self.body.len(),
        )
    }

    /// Internal messages are small; what is larger lies in the bucket.
    fn check_size(&self) -> Result<(), PublishError> {
        let internal = matches!(self.target, Target::Pipeline(_) | Target::Later { .. });
        let (bytes, bytes_max) = (self.body.len(), INTERNAL_BYTES_MAX);
        if internal && bytes > bytes_max {
            let target = self.target.label();
            return Err(PublishError::TooLarge {
                target,
                bytes,
                bytes_max,
            });
        }
        Ok(())
    }

    pub(crate) fn into_parcel(self, own: &str) -> Result<Parcel, PublishError> {
        let target = self.target.label();
        let mut table = FieldTable::default();
        self.check_size()?;
        ready_at_once(&mut table, &self.target);
        let (exchange, key, mandatory) = match self.target {
            Target::Pipeline(route) => (topology::PIPELINE, route.to_string(), true),
            Target::Later { queue, wait } => {
                let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                let tier = wait_in_tiers(&mut table, queue, wait_ms);
                (tier.exchange, tier.key.to_string(), true)
            }
            Target::Queue(queue) => ("", queue.to_string(), true),
            Target::Events { routing_key } => (topology::EVENTS, routing_key, false),
            Target::Signals => (topology::SIGNALS, String::new(), false),
            Target::Reply { queue } if is_ours(&queue) => return Err(PublishError::ReservedReply),
            Target::Reply { queue } => ("", queue, false),
            Target::Rejected => ("", topology::REJECTED.to_owned(), true),
            Target::Dead(family) => ("", family.dead_queue(), true),
        };
        let short = |what: &str, value: String| {
            ShortString::try_new(value).map_err(|_| PublishError::Invalid {
                target,
                what: what.to_owned(),
            })
        };
        for (name, value) in self.headers {
            if !headers::allowed(&name) {
                return Err(PublishError::Invalid {
                    target,
                    what: format!("header {name}"),
                });
            }
            let value = AMQPValue::LongString(value.into());
            table.insert(short("a header's name", name)?, value);
        }
        trace_into(&mut table);
        let id = self
            .message_id
            .unwrap_or_else(|| Uuid::new_v4().to_string());
        let id = short("message_id", id)?;
        let mut properties = persistent(own)
            .with_message_id(id.clone())
            .with_content_type(short("content_type", self.content_type)?)
            .with_headers(table);
        if ["rejected", "dead"].contains(&target) {
            // People want to know since when it lies there.
            let now = Clock::system().now().as_second();
            properties = properties.with_timestamp(u64::try_from(now).unwrap_or(0));
        }
        if let Some(kind) = self.kind {
            properties = properties.with_type(short("type", kind)?);
        }
        if let Some(correlation_id) = self.correlation_id {
            properties = properties.with_correlation_id(short("correlation_id", correlation_id)?);
        }
        if let Some(reply_to) = self.reply_to {
            properties = properties.with_reply_to(short("reply_to", reply_to)?);
        }
        let address = Address {
            exchange,
            key: short("routing_key", key)?,
            mandatory,
            target,
        };
        Ok(Parcel {
            address,
            id,
            body: self.body,
            properties,
        })
    }
}

/// Exchange, key and what is expected of the broker.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    pub(crate) exchange: &'static str,
    pub(crate) key: ShortString,
    pub(crate) mandatory: bool,
    /// The word in metrics and errors.
    pub(crate) target: &'static str,
}

impl Address {
    /// Whether the queues behind it are clients': what need not arrive.
    pub(crate) const fn is_of_clients(&self) -> bool {
        !self.mandatory
    }
}

/// A message ready for the wire: sent again as it is when its confirm was lost.
#[derive(Debug, Clone)]
pub(crate) struct Parcel {
    pub(crate) address: Address,
    pub(crate) id: ShortString,
    pub(crate) body: Bytes,
    pub(crate) properties: BasicProperties,
}

/// What is different when a message is published again.
#[derive(Debug, Clone)]
pub(crate) enum Again {
    /// To its own queue at once.
    Turn {
        /// The new body, if it has one.
        body: Option<Bytes>,
    },
    /// After a wait, as another attempt.
    Retry {
        /// How long.
        wait_ms: u64,
    },
    /// After a wait, as the same attempt.
    Snooze {
        /// How long.
        wait_ms: u64,
        /// A header that it carries from now on.
        mark: Option<&'static str>,
    },
    /// The rest of a wait that is longer than one tier.
    Forward,
    /// Given up.
    Park {
        /// Stable word.
        code: String,
        /// A sentence.
        reason: String,
    },
}

impl Parcel {
    /// The same message again, with the allow-list only: `queue` is where it came from and will return to.
    pub(crate) fn again(incoming: &Incoming, queue: WorkQueue, own: &str, again: Again) -> Self {
        let mut table = headers::without(&incoming.headers, &[headers::REMAINING_MS]);
        keep_origin(&mut table, incoming, queue);
        let mut body = incoming.body.clone();
        let turn = incoming.turn.map_or(0, |turn| turn.turn);
        let address = match again {
            Again::Turn { body: new } => {
                body = new.unwrap_or(body);
                renew(&mut table, turn + 1);
                ready_in(&mut table, 0);
                home(queue, "turn")
            }
            Again::Retry { wait_ms } => {
                renew(&mut table, turn + 1);
                let attempt = u64::from(incoming.attempt.saturating_add(1));
                headers::put_number(&mut table, headers::ATTEMPT, attempt);
                wait_in_tiers(&mut table, queue, wait_ms)
            }
            Again::Snooze { wait_ms, mark } => {
                renew(&mut table, turn + 1);
                if let Some(mark) = mark {
                    headers::put_text(&mut table, mark, "1");
                }
                wait_in_tiers(&mut table, queue, wait_ms)
            }
            Again::Forward => {
                renew(&mut table, turn);
                wait_in_tiers(&mut table, queue, incoming.remaining_ms)
            }
            Again::Park { code, reason } => {
                ready_in(&mut table, 0);
                park(&mut table, incoming, queue, &code, &reason)
            }
        };
        let id = incoming
            .message_id
            .as_deref()
            .and_then(|id| ShortString::try_new(id).ok());
        let id = id.unwrap_or_else(|| Uuid::new_v4().to_string().into());
        let mut properties = persistent(own)
            .with_message_id(id.clone())
            .with_headers(table);
        // All three came out of AMQP short strings, so they fit into them.
        let short = |value: &Option<String>| {
            value
                .as_deref()
                .and_then(|value| ShortString::try_new(value).ok())
        };
        if let Some(value) = short(&incoming.content_type) {
            properties = properties.with_content_type(value);
        }
        if let Some(value) = short(&incoming.kind) {
            properties = properties.with_type(value);
        }
        if let Some(value) = short(&incoming.correlation_id) {
            properties = properties.with_correlation_id(value);
        }
        if let Some(value) = short(&incoming.reply_to) {
            properties = properties.with_reply_to(value);
        }
        Self {
            address,
            id,
            body,
            properties,
        }
    }
}

/// What the next receipt can no longer see: where it was first published, and by whom.
fn keep_origin(table: &mut FieldTable, incoming: &Incoming, queue: WorkQueue) {
    headers::put_text(table, headers::FIRST_EXCHANGE, &incoming.exchange);
    headers::put_text(table, headers::FIRST_KEY, &incoming.routing_key);
    if let (WorkQueue::Submissions, Some(user)) = (queue, incoming.submitter()) {
        headers::put_text(table, headers::TENANT, user);
    }
}

fn renew(table: &mut FieldTable, turn: u64) {
    headers::put_number(table, headers::TURN, turn);
    headers::put_text(table, headers::TURN_ID, &Uuid::new_v4().to_string());
}

/// What goes straight into a queue of ours is ready there; clients' queues are told nothing of it.
fn ready_at_once(table: &mut FieldTable, target: &Target) {
    if matches!(target, Target::Pipeline(_) | Target::Queue(_)) {
        ready_in(table, 0);
    }
}

/// From when on its waiting is the queue's own doing.
fn ready_in(table: &mut FieldTable, wait_ms: u64) {
    headers::put_number(table, headers::READY_MS, now_ms().saturating_add(wait_ms));
}

fn home(queue: WorkQueue, target: &'static str) -> Address {
    Address {
        exchange: "",
        key: queue.to_string().into(),
        mandatory: true,
        target,
    }
}

/// The next tier of a wait; what is left is walked or waited in hand after it.
fn wait_in_tiers(table: &mut FieldTable, queue: WorkQueue, wait_ms: u64) -> Address {
    let tier = Tier::within(Duration::from_millis(wait_ms));
    let in_tier = tier.map_or(0, |tier| tier.wait.as_millis());
    let in_tier = u64::try_from(in_tier).unwrap_or(u64::MAX);
    ready_in(table, in_tier);
    let left = wait_ms.saturating_sub(in_tier);
    if left > 0 {
        headers::put_number(table, headers::REMAINING_MS, left);
    }
    let home = home(queue, "retry");
    tier.map_or(home.clone(), |tier| Address {
        exchange: tier.name,
        ..home
    })
}

fn park(
    table: &mut FieldTable,
    incoming: &Incoming,
    queue: WorkQueue,
    code: &str,
    reason: &str,
) -> Address {
    // What fails in parking itself keeps its first fate and goes straight to people.
    if let Some(parked) = incoming.parked() {
        headers::put_text(table, headers::PARKED_CODE, &parked.code);
        headers::put_text(table, headers::PARKED_ORIGIN, &parked.origin);
        let both = format!("{} (parking: {code}: {reason})", parked.reason);
        headers::put_text(table, headers::PARKED_REASON, &both);
        let key = parked.family.dead_queue().into();
        return Address {
            exchange: "",
            key,
            mandatory: true,
            target: "dead",
        };
    }
    headers::put_text(table, headers::PARKED_CODE, code);
    headers::put_text(table, headers::PARKED_REASON, reason);
    headers::put_text(table, headers::PARKED_ORIGIN, &queue.to_string());
    let key = queue.family().as_str().into();
    Address {
        exchange: topology::DEAD,
        key,
        mandatory: true,
        target: "parking",
    }
}

fn persistent(own: &str) -> BasicProperties {
    let properties = BasicProperties::default().with_delivery_mode(2);
    // RabbitMQ verifies it, so the receiver knows that it comes from one of ours.
    match ShortString::try_new(own) {
        Ok(user) if !own.is_empty() => properties.with_user_id(user),
        Ok(_) | Err(_) => properties,
    }
}

fn trace_into(table: &mut FieldTable) {
    if table.contains_key(headers::TRACEPARENT) {
        return;
    }
    if let Some(parent) = photofinish_runtime::trace::current_traceparent() {
        headers::put_text(table, headers::TRACEPARENT, &parent);
        if let Some(state) = photofinish_runtime::trace::current_tracestate() {
            headers::put_text(table, headers::TRACESTATE, &state);
        }
    }
}
