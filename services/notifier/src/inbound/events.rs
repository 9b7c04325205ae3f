//! `notifier.events`: a job event becomes a message on `photofinish.events` and one delivery for each receiver.

use crate::core::Notifier;
use crate::error::Error;
use crate::gate::Pace;
use crate::receivers;
use crate::views::event_id;
use photofinish_broker::{Disposition, Incoming, Outgoing, Route, Target};
use photofinish_contract::event::EventType;
use photofinish_contract::messages::{DeliveryDue, JobEvent, Receiver};
use photofinish_jobstore::DeliveryRecord;
use photofinish_model::JobSnapshot;
use photofinish_model::delivery::DeliveryStatus;
use photofinish_model::sequence::delivery_id;
use std::time::Instant;

const CLOUD_EVENT: &str = "application/cloudevents+json";

impl Notifier {
    /// Handles one message of the queue.
    pub(crate) async fn on_event(&self, incoming: Incoming) -> Disposition {
        let event: JobEvent = match incoming.json() {
            Ok(event) => event,
            Err(error) => {
                return Disposition::DeadLetter {
                    code: "undecodable",
                    reason: photofinish_runtime::error_chain(&error),
                };
            }
        };
        let kind = event.event.as_str();
        // One that waited: were each copy to wait on its own, they would never become fewer.
        if incoming.turn.is_some() && self.is_old_copy(&event_id(&event), &incoming).await {
            count(kind, "copy");
            return Disposition::Ack;
        }
        match self.tell(event).await {
            Ok(disposition) => {
                let outcome = if disposition == Disposition::Ack {
                    "told"
                } else {
                    "paced"
                };
                count(kind, outcome);
                disposition
            }
            Err(error) => {
                count(kind, "error");
                tracing::warn!(
                    event = kind,
                    error = photofinish_runtime::error_chain(&error),
                    "tell an event"
                );
                error.disposition(incoming.attempt)
            }
        }
    }

    async fn tell(&self, event: JobEvent) -> Result<Disposition, Error> {
        let event = match event.event {
            EventType::JobProgress => match self.gate.ask(&event, Instant::now()) {
                Pace::Now(event) => event,
                Pace::Later(wait) => return Ok(Disposition::RetryLater(wait)),
                Pace::Merged => return Ok(Disposition::Ack),
            },
            EventType::JobCompleted | EventType::JobFailed | EventType::JobCancelled => {
                self.gate.forget(&event.job, event.run);
                event
            }
            EventType::JobAccepted
            | EventType::JobStarted
            | EventType::EndpointTest
            | EventType::EndpointDisabled => event,
        };
        let told = self.tell_now(&event).await;
        if told.is_err() && event.event == EventType::JobProgress {
            self.gate.give_back(&event);
        }
        told
    }

    async fn tell_now(&self, event: &JobEvent) -> Result<Disposition, Error> {
        let Some(snapshot) = self.snapshot(event).await? else {
            return Err(Error::Missing {
                what: "the job",
                id: event.job.to_string(),
            });
        };
        if event.event == EventType::JobProgress && snapshot.status.is_final() {
            // Its end is told, or is about to be.
            return Ok(Disposition::Ack);
        }
        let receivers = self.receivers(event).await?;
        self.publish_cloud_event(event, snapshot).await?;
        for receiver in receivers {
            self.hand_over(event, receiver).await?;
        }
        Ok(Disposition::Ack)
    }

    async fn publish_cloud_event(
        &self,
        event: &JobEvent,
        snapshot: JobSnapshot,
    ) -> Result<(), Error> {
        let routing_key = event.event.routing_key(&event.tenant, snapshot.operation);
        let body = self.cloud_event(event, snapshot).await?;
        let outgoing = Outgoing::json(Target::Events { routing_key }, &body)?
            .content_type(CLOUD_EVENT)
            .kind(event.event.as_str())
            .message_id(body.id);
        Ok(self.publisher.publish(outgoing).await?)
    }

    /// Makes the delivery, then queues it; one that was worked on before is left alone.
    async fn hand_over(&self, event: &JobEvent, receiver: Receiver) -> Result<(), Error> {
        let event_id = event_id(event);
        let delivery = delivery_id(&event_id, receivers::name(&receiver));
        let record = DeliveryRecord {
            id: delivery.clone(),
            event_id,
            event: event.clone(),
            receiver: receiver.clone(),
            created_at: self.clock.now(),
        };
        if self.was_begun(&record).await {
            return Ok(());
        }
        let due = DeliveryDue {
            delivery,
            event: event.clone(),
            receiver,
            tries: 0,
        };
        let outgoing = Outgoing::json(Target::Pipeline(Route::DeliveryDue), &due)?
            .message_id(due.delivery.clone());
        Ok(self.publisher.publish(outgoing).await?)
    }

    /// Whether a delivery was tried before, so that its message need not be published again. When Redis cannot say
    /// it, it was not: a second copy is harmless, a missing one is not.
    async fn was_begun(&self, record: &DeliveryRecord) -> bool {
        let begun = async {
            if self.jobstore.delivery_create(&record.id, record).await? {
                return Ok(false);
            }
            let view = self.jobstore.delivery(&record.id).await?;
            Ok(view.is_some_and(|view| {
                view.status != DeliveryStatus::Pending || !view.attempts.is_empty()
            }))
        };
        begun
            .await
            .unwrap_or_else(|error: photofinish_jobstore::JobStoreError| {
                tracing::warn!(
                    delivery = record.id,
                    error = photofinish_runtime::error_chain(&error),
                    "note a delivery"
                );
                false
            })
    }
}

fn count(event: &'static str, outcome: &'static str) {
    metrics::counter!("photofinish_notifier_events_total", "type" => event, "outcome" => outcome)
        .increment(1);
}
