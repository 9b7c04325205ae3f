//! `notifier.events`: a job event becomes a message on `photofinish.events` and one delivery for each receiver.

use crate::core::Notifier;
use crate::error::Error;
use crate::first::AT_ONCE_RECEIVERS_MAX;
use crate::gate::{Pace, WAIT_MIN};
use crate::views;
use photofinish_broker::{Disposition, Incoming, Outgoing, Target};
use photofinish_contract::event::{EventType, WebhookBody};
use photofinish_contract::messages::{AnyEvent, JobEvent, NotifierMessage};
use photofinish_contract::telling;
use photofinish_jobstore::Logged;
use photofinish_model::Operation;
use std::time::Instant;

pub(super) const CLOUD_EVENT: &str = "application/cloudevents+json";

impl Notifier {
    /// Handles one message of the queue.
    pub(crate) async fn on_event(&self, incoming: Incoming) -> Disposition {
        let event = match incoming.json() {
            Ok(NotifierMessage::Job(event)) => event,
            Ok(NotifierMessage::Webhook(command)) => {
                return self.on_webhook(command, &incoming).await;
            }
            Err(error) => {
                return Disposition::DeadLetter {
                    code: "undecodable",
                    reason: photofinish_runtime::error_chain(&error),
                };
            }
        };
        photofinish_runtime::trace::about(&event.tenant, &event.job);
        let kind = event.event.as_str();
        // One that waited: were each copy to wait on its own, they would never become fewer.
        if incoming.turn.is_some() && self.is_old_copy(&telling::id(&event), &incoming).await {
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
        // Not told yet, by a fault or because another process has told progress a moment ago.
        let owed = !matches!(told, Ok(Disposition::Ack));
        if owed && event.event == EventType::JobProgress {
            self.gate.give_back(&event);
        }
        told
    }

    /// Puts an event into its job's log, for the event streams. Without Redis it is told all the same: what the log
    /// lacks the job's own record tells, and the pace is then this process's.
    async fn log(&self, event: &JobEvent) -> Logged {
        let interval = self.config.progress_interval;
        match self.jobstore.log_event(event, interval).await {
            Ok(logged) => logged,
            Err(error) => {
                tracing::warn!(
                    job = %event.job,
                    error = photofinish_runtime::error_chain(&error),
                    "log an event"
                );
                Logged::Stands
            }
        }
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
        let new = match self.log(event).await {
            Logged::New => true,
            Logged::Stands => false,
            Logged::Later(wait) => return Ok(Disposition::RetryLater(wait.max(WAIT_MIN))),
            Logged::Stale => return Ok(Disposition::Ack),
        };
        let told = self.receivers(event, &snapshot).await?;
        let operation = snapshot.operation;
        let body = self.webhook_body(event, snapshot).await?;
        let few = (1..=AT_ONCE_RECEIVERS_MAX).contains(&told.receivers.len());
        let bytes = if new && few {
            Some(serde_json::to_vec(&body)?.into())
        } else {
            None
        };
        let any = AnyEvent::Job(event.clone());
        // Both to their end: a call is not broken off because the exchange did not take the event.
        let (published, handed) = tokio::join!(
            self.publish_cloud_event(event, operation, body),
            self.hand_over_all(&any, told.receivers, bytes)
        );
        published?;
        handed?;
        let event = any;
        for receiver in told.missed {
            self.note_missed(&event, receiver).await;
        }
        Ok(Disposition::Ack)
    }

    async fn publish_cloud_event(
        &self,
        event: &JobEvent,
        operation: Operation,
        body: WebhookBody,
    ) -> Result<(), Error> {
        let routing_key = event.event.routing_key(&event.tenant, operation);
        let body = views::cloud_event(event, body);
        let outgoing = Outgoing::json(Target::Events { routing_key }, &body)?
            .content_type(CLOUD_EVENT)
            .kind(event.event.as_str())
            .message_id(body.id);
        Ok(self.publisher.publish(outgoing).await?)
    }
}

fn count(event: &'static str, outcome: &'static str) {
    metrics::counter!("photofinish_notifier_events_total", "type" => event, "outcome" => outcome)
        .increment(1);
}
