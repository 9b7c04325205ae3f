//! Messages that lie for people: looked at, sent back to work, dropped.
//!
//! Guarantee: a look takes messages in hand and lets all of them go again, in their places; one that is sent back is
//! acknowledged only after its successor is confirmed, so a crash makes a copy and loses none. While somebody looks,
//! others see fewer messages for a moment.
//! Not for: parking itself, which is a disposition, nor for more than the first messages of a queue.

use std::collections::BTreeMap;

use bytes::Bytes;
use lapin::Channel;
use lapin::message::BasicGetMessage;
use lapin::options::{BasicAckOptions, BasicGetOptions};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::broker::Broker;
use crate::connection::while_alive;
use crate::error::{GetError, PublishError};
use crate::headers;
use crate::incoming::Incoming;
use crate::names::{Family, WorkQueue};
use crate::outgoing::Outgoing;
use crate::settle::written;
use crate::target::Target;
use crate::topology::REJECTED;

/// Messages of a queue that are listed at most.
pub const PARKED_MAX: usize = 100;
/// Messages that are looked through for one at most, and the bytes of their bodies; of a list, too: a refused submission
/// is as large as its sender likes.
const SEARCHED_MAX: usize = 1000;
const SEARCHED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Hexadecimal digits of an id that tell messages of one queue apart.
const DIGITS: usize = 32;

/// A queue that people look after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParkedIn {
    /// What was given up, by the family of the queue in which it failed.
    Dead(Family),
    /// Submissions that were refused.
    Rejected,
}

impl ParkedIn {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        Family::ALL
            .into_iter()
            .map(Self::Dead)
            .chain([Self::Rejected])
    }

    /// The name of the queue on the broker.
    pub fn queue(self) -> String {
        match self {
            Self::Dead(family) => family.dead_queue(),
            Self::Rejected => REJECTED.to_owned(),
        }
    }

    /// By its word: the family's name, or the whole queue's; `rejected` is the submissions that were refused.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().find(|place| place.word() == name || place.queue() == name)
    }

    /// The word in ids.
    pub fn word(self) -> &'static str {
        match self {
            Self::Dead(family) => family.as_str(),
            Self::Rejected => "rejected",
        }
    }
}

/// A message that lies for people.
#[derive(Debug, Clone, PartialEq)]
pub struct ParkedMessage {
    /// Names it: the queue's word and a hash of the message. Two that are the same in all have one id.
    pub id: String,
    /// Where it lies.
    pub place: ParkedIn,
    /// The work queue in which it failed.
    pub origin: String,
    /// Why: a stable word.
    pub code: String,
    /// Why: a sentence.
    pub reason: String,
    /// Its message id.
    pub message_id: Option<String>,
    /// The AMQP user that submitted it; on submissions alone.
    pub submitter: Option<String>,
    /// The seconds of the time at which it came here, since 1970.
    pub at_s: Option<u64>,
    /// Its media type.
    pub content_type: Option<String>,
    /// Its headers, as far as they are ours.
    pub headers: BTreeMap<String, Value>,
    /// Its body.
    pub body: Bytes,
}

/// A message could not be looked at or sent back.
#[derive(Debug, thiserror::Error)]
pub enum ParkedError {
    /// The broker did not hand it out.
    #[error("look at parked messages")]
    Get(#[from] GetError),
    /// The broker did not take it back to work; it lies where it lay.
    #[error("send a parked message back")]
    Publish(#[from] PublishError),
    /// Nobody can tell where it was to go.
    #[error("send a parked message back: {0:?} is no queue of ours")]
    NoOrigin(String),
}

/// Messages in hand on a channel of their own: all that are not acknowledged go back when it closes.
struct Look {
    channel: Channel,
    place: ParkedIn,
    own: String,
}

impl Broker {
    /// The first messages of a queue for people, the oldest first; at most [`PARKED_MAX`].
    pub async fn parked(
        &self,
        place: ParkedIn,
        limit: usize,
    ) -> Result<Vec<ParkedMessage>, ParkedError> {
        let look = self.look(place).await?;
        let (mut seen, mut bytes) = (Vec::new(), 0);
        let listed = async {
            while seen.len() < limit.min(PARKED_MAX)
                && bytes < SEARCHED_BYTES_MAX
                && let Some((_, incoming, message)) = look.next().await?
            {
                bytes += incoming.body.len();
                seen.push(described(place, &incoming, &message));
            }
            Ok(())
        };
        let listed: Result<(), GetError> = listed.await;
        look.end().await;
        listed?;
        Ok(seen)
    }

    /// One message by its id, among the first thousand of its queue.
    pub async fn parked_one(&self, id: &str) -> Result<Option<ParkedMessage>, ParkedError> {
        self.with_parked(id, async |_, message, _| Ok((message, false)))
            .await
    }

    /// Drops a message for good. False: there is none of this id.
    pub async fn parked_drop(&self, id: &str) -> Result<bool, ParkedError> {
        let dropped = self.with_parked(id, async |_, _, _| Ok(((), true))).await;
        Ok(dropped?.is_some())
    }

    /// Sends a message back to where it failed: published and confirmed, then acknowledged. False: there is none of
    /// this id.
    pub async fn parked_replay(&self, id: &str) -> Result<bool, ParkedError> {
        let replay =
            async |incoming: Incoming, message: ParkedMessage, publisher: &crate::Publisher| {
                publisher.publish(back(&incoming, &message)?).await?;
                Ok(((), true))
            };
        Ok(self.with_parked(id, replay).await?.is_some())
    }

    /// Does something with a message while it is in hand; it is acknowledged if that says so.
    async fn with_parked<T>(
        &self,
        id: &str,
        act: impl AsyncFnOnce(
            Incoming,
            ParkedMessage,
            &crate::Publisher,
        ) -> Result<(T, bool), ParkedError>,
    ) -> Result<Option<T>, ParkedError> {
        let place = id
            .rsplit_once('.')
            .and_then(|(word, _)| ParkedIn::named(word));
        let Some(place) = place else {
            return Ok(None);
        };
        let look = self.look(place).await?;
        let publisher = self.publisher();
        let outcome = async {
            let (mut seen, mut bytes) = (0, 0);
            while seen < SEARCHED_MAX
                && bytes < SEARCHED_BYTES_MAX
                && let Some((raw, incoming, message)) = look.next().await?
            {
                (seen, bytes) = (seen + 1, bytes + incoming.body.len());
                let message = described(place, &incoming, &message);
                if message.id == id {
                    let (outcome, done) = act(incoming, message, &publisher).await?;
                    // An acknowledgement that is lost leaves the message where it was: it can be done again.
                    if done && !written(&raw, BasicAckOptions::default()).await {
                        let queue = place.queue();
                        return Err(ParkedError::Get(GetError::Away { queue }));
                    }
                    return Ok(Some(outcome));
                }
            }
            Ok(None)
        };
        let outcome = outcome.await;
        look.end().await;
        outcome
    }

    async fn look(&self, place: ParkedIn) -> Result<Look, GetError> {
        let queue = place.queue();
        let away = || GetError::Away {
            queue: queue.clone(),
        };
        let connection = self.consuming().ok_or_else(away)?;
        let channel = while_alive(&connection, connection.create_channel()).await;
        let channel = channel
            .ok_or_else(away)?
            .map_err(|source| GetError::Refused {
                queue: queue.clone(),
                source,
            })?;
        let own = self.publisher().user().to_owned();
        Ok(Look {
            channel,
            place,
            own,
        })
    }
}

/// What of a message is no part of [`Incoming`].
struct Outside {
    at_s: Option<u64>,
}

impl Look {
    async fn next(&self) -> Result<Option<(lapin::Acker, Incoming, Outside)>, GetError> {
        let queue = self.place.queue();
        let got = self
            .channel
            .basic_get(queue.as_str().into(), BasicGetOptions::default());
        let limited = tokio::time::timeout(crate::settings::CONNECT_TIMEOUT, got).await;
        let got: Option<BasicGetMessage> = match limited {
            Ok(Ok(got)) => got,
            Ok(Err(source)) => return Err(GetError::Refused { queue, source }),
            Err(_elapsed) => return Err(GetError::Away { queue }),
        };
        let Some(mut message) = got else {
            return Ok(None);
        };
        let delivery = &mut message.delivery;
        let outside = Outside {
            at_s: *delivery.properties.timestamp(),
        };
        let acker = delivery.acker.clone();
        let as_from = match self.place {
            ParkedIn::Dead(_) => Some(WorkQueue::Parked),
            ParkedIn::Rejected => None,
        };
        let incoming = Incoming::read(delivery, as_from, &self.own);
        Ok(Some((acker, incoming, outside)))
    }

    /// Lets everything go that is still in hand. A channel that does not close in time goes with its connection.
    async fn end(self) {
        let close = self.channel.close(200, "OK".into());
        let _closed = tokio::time::timeout(crate::settings::CONNECT_TIMEOUT, close).await;
    }
}

fn described(place: ParkedIn, incoming: &Incoming, outside: &Outside) -> ParkedMessage {
    let text = |name: &str| incoming.header(name);
    let (code, reason, origin) = match (place, incoming.parked()) {
        (ParkedIn::Dead(_), Some(parked)) => (
            parked.code.clone(),
            parked.reason.clone(),
            parked.origin.clone(),
        ),
        (ParkedIn::Dead(_) | ParkedIn::Rejected, _) => (
            text(headers::REJECTED_CODE).unwrap_or_else(|| "unknown".to_owned()),
            text(headers::REJECTED_DETAIL).unwrap_or_default(),
            WorkQueue::Submissions.to_string(),
        ),
    };
    let shown = |name: &str| {
        let number = || headers::number(&incoming.headers, name).map(Value::from);
        text(name).map(Value::from).or_else(number)
    };
    let all = incoming.headers.inner().keys();
    let shown: BTreeMap<String, Value> = all
        .filter_map(|name| Some((name.to_string(), shown(name.as_str())?)))
        .collect();
    let mut hash = Sha256::new();
    for part in [
        incoming.message_id.as_deref().unwrap_or_default(),
        &code,
        &reason,
    ] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.update(&incoming.body);
    let digits = hex::encode(hash.finalize());
    ParkedMessage {
        id: format!("{}.{}", place.word(), &digits[..DIGITS]),
        place,
        origin,
        code,
        reason,
        message_id: incoming.message_id.clone(),
        submitter: text(headers::TENANT),
        at_s: outside.at_s,
        content_type: incoming.content_type.clone(),
        headers: shown,
        body: incoming.body.clone(),
    }
}

/// The message as it goes back to work: as it was first published, its attempts forgotten.
fn back(incoming: &Incoming, message: &ParkedMessage) -> Result<Outgoing, ParkedError> {
    let origin: WorkQueue = message
        .origin
        .parse()
        .map_err(|_| ParkedError::NoOrigin(message.origin.clone()))?;
    let mut outgoing = Outgoing::new(Target::Queue(origin), incoming.body.clone())
        .correlation_id(incoming.correlation_id.clone());
    for name in [
        headers::FIRST_EXCHANGE,
        headers::FIRST_KEY,
        headers::TENANT,
        headers::TRACEPARENT,
        headers::TRACESTATE,
    ] {
        if let Some(value) = incoming.header(name) {
            outgoing = outgoing.header(name, &value);
        }
    }
    if let Some(id) = &incoming.message_id {
        outgoing = outgoing.message_id(id);
    }
    if let Some(content_type) = &incoming.content_type {
        outgoing = outgoing.content_type(content_type);
    }
    if let Some(kind) = &incoming.kind {
        outgoing = outgoing.kind(kind);
    }
    if let Some(reply_to) = &incoming.reply_to {
        outgoing = outgoing.reply_to(reply_to);
    }
    Ok(outgoing)
}
