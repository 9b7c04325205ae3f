//! First tries: webhooks that go out while their event is in hand, without a queue in between.
//!
//! Guarantee: a try is made here only at the first receipt of an event (its job's log says so), only for one with few
//! receivers, only to a receiver whose newest call was answered, and only with a slot that is free at once. What it
//! does not deliver is queued before it is noted. So the event's message can be acknowledged when this returns; when
//! the process dies before, the event comes again, is not new any more, and whatever was not noted is queued.
//! Not for: receivers that may keep one waiting. Those are called from `notifier.deliver`.

use crate::core::Notifier;
use crate::destination::Destination;
use crate::error::Error;
use crate::inbound::in_whole_seconds;
use crate::lines::Slot;
use crate::receivers::Addressee;
use bytes::Bytes;
use futures_util::StreamExt as _;
use photofinish_broker::{Outgoing, Target, WorkQueue};
use photofinish_contract::messages::{AnyEvent, DeliveryDue};
use photofinish_model::delivery::{DeliveryStatus, Next, after};
use std::time::Duration;
use tokio::sync::SemaphorePermit;

/// An event with more receivers is not kept in hand for their answers: a crash would bring all of it again.
pub(crate) const AT_ONCE_RECEIVERS_MAX: usize = 4;
/// Receivers of one event that are seen to at once.
const PARALLEL: usize = 4;
/// When too many events are in hand, so long is waited for one of them before a delivery is queued.
const PERMIT_WAIT: Duration = Duration::from_millis(100);

/// All that a first try needs.
struct AtOnce<'a> {
    destination: Destination,
    slot: Slot,
    /// One of those that may hold an event in hand.
    _permit: SemaphorePermit<'a>,
}

impl Notifier {
    /// Sees to all receivers of an event: tries at once where that is allowed, which needs its body, and queues the
    /// rest.
    pub(crate) async fn hand_over_all(
        &self,
        event: &AnyEvent,
        mut told: Vec<Addressee>,
        body: Option<Bytes>,
    ) -> Result<(), Error> {
        if told.len() == 1 {
            // By far the most frequent: nothing to be kept apart.
            let one = told.remove(0);
            return self.hand_over_one(event, one, body).await;
        }
        let all = told
            .into_iter()
            .map(|one| self.hand_over_one(event, one, body.clone()));
        // To the end, also when one fails: nobody else's call is broken off for it.
        let done: Vec<Result<(), Error>> = futures_util::stream::iter(all)
            .buffer_unordered(PARALLEL)
            .collect()
            .await;
        done.into_iter().collect()
    }

    async fn hand_over_one(
        &self,
        event: &AnyEvent,
        to: Addressee,
        body: Option<Bytes>,
    ) -> Result<(), Error> {
        let Some(body) = body else {
            return self.hand_over(event, to.receiver).await;
        };
        let at_once = self.at_once(event, &to).await;
        let way = if at_once.is_some() {
            "at_once"
        } else {
            "queued"
        };
        metrics::counter!("photofinish_notifier_first_tries_total", "way" => way).increment(1);
        match at_once {
            Some(at_once) => self.first_try(event, to, at_once, body).await,
            None => self.hand_over(event, to.receiver).await,
        }
    }

    /// Nothing when it is better queued; whatever stands in the way is found there again.
    async fn at_once(&self, event: &AnyEvent, to: &Addressee) -> Option<AtOnce<'_>> {
        let permit = tokio::time::timeout(PERMIT_WAIT, self.firsts.acquire());
        let permit = permit.await.ok()?.ok()?;
        let destination = match &to.endpoint {
            Some(endpoint) => self.destination_at(endpoint.clone()),
            None => self.destination(event.tenant(), &to.receiver).await,
        };
        let destination = destination.ok()?.ok()?;
        let slot = self.lines.at_once(destination.caller(event.tenant(), 0))?;
        Some(AtOnce {
            destination,
            slot,
            _permit: permit,
        })
    }

    async fn first_try(
        &self,
        event: &AnyEvent,
        to: Addressee,
        at_once: AtOnce<'_>,
        body: Bytes,
    ) -> Result<(), Error> {
        let record = self.delivery_of(event, to.receiver);
        let _alone = self.in_hand.take(&record.id).await;
        let posted = self.post(event, 1, at_once.destination, at_once.slot, body);
        let mut tried = match posted.await {
            Ok(tried) => tried,
            Err(error) => {
                tracing::warn!(
                    delivery = record.id,
                    error = photofinish_runtime::error_chain(&error),
                    "try a delivery at once"
                );
                return self.hand_over(event, record.receiver).await;
            }
        };
        tried.log.number = 1;
        let jitter = self.clock.jitter();
        let next = after(
            DeliveryStatus::Pending,
            1,
            Duration::ZERO,
            tried.answer,
            jitter,
        );
        self.note_called(&tried, next).await?;
        if let Next::RetryIn(wait) = next {
            let due = DeliveryDue {
                delivery: record.id.clone(),
                event: event.clone(),
                receiver: record.receiver.clone(),
                tries: 1,
                replay: None,
            };
            let (queue, wait) = (WorkQueue::Deliver, in_whole_seconds(wait));
            let outgoing = Outgoing::json(Target::Later { queue, wait }, &due)?;
            let outgoing = outgoing.message_id(due.delivery.clone());
            self.publisher.publish(outgoing).await?;
        }
        self.report(&record.id, event, &tried, next.status(), None);
        let noted = self
            .jobstore
            .delivery_tried(&record.id, &record, next.status(), &tried.log);
        if let Err(error) = noted.await {
            // What the receiver has it has: the note is lost, not the webhook.
            tracing::warn!(
                delivery = record.id,
                error = photofinish_runtime::error_chain(&error),
                "note a try"
            );
        }
        Ok(())
    }
}
