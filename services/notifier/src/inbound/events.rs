//! `notifier.events`: a job event becomes a message on `photofinish.events` and one delivery for each receiver.

use crate::core::Notifier;
use crate::error::Error;
use crate::first::AT_ONCE_RECEIVERS_MAX;
use crate::gate::{Pace, WAIT_MIN};
use crate::snapshots::Material;
use crate::views;
use photofinish_broker::{Disposition, Incoming, Outgoing, Target};
use photofinish_contract::event::{EventType, WebhookBody};
use photofinish_contract::messages::{AnyEvent, JobEvent, NotifierMessage};
use photofinish_contract::telling;
use photofinish_jobstore::Logged;
use photofinish_model::Operation;
use std::time::{Duration, Instant};

pub(super) const CLOUD_EVENT: &str = "application/cloudevents+json";

/// Waits before an event that a queue of its tenant's has refused is published once more, each with the mark of having
/// had it: the queue is full, or has no leader at the moment. Then it is given up there; progress, of which more comes,
/// at once.
const UNHEARD: [(&str, Duration); 5] = [
    ("x-photofinish-refused-1", Duration::from_secs(2)),
    ("x-photofinish-refused-2", Duration::from_secs(10)),
    ("x-photofinish-refused-3", Duration::from_secs(30)),
    ("x-photofinish-refused-4", Duration::from_mins(1)),
    ("x-photofinish-refused-5", Duration::from_mins(2)),
];

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
        let is_passing = event.event == EventType::JobProgress;
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
            Err(error) if error.is_refused() => {
                let again = unheard(&incoming).filter(|_| !is_passing);
                count(
                    kind,
                    if again.is_some() {
                        "refused"
                    } else {
                        "unheard"
                    },
                );
                again.unwrap_or(Disposition::Ack)
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
        let Material {
            snapshot,
            endpoints,
            logged,
        } = self.material(event).await?;
        if event.event == EventType::JobProgress && snapshot.status.is_final() {
            // Its end is told, or is about to be.
            return Ok(Disposition::Ack);
        }
        let logged = match logged {
            Some(logged) => logged,
            None => self.log(event).await,
        };
        let new = match logged {
            Logged::New => true,
            Logged::Stands => false,
            Logged::Later(wait) => return Ok(Disposition::RetryLater(wait.max(WAIT_MIN))),
            Logged::Stale => return Ok(Disposition::Ack),
        };
        let told = self.receivers(event, &snapshot, endpoints).await?;
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
        handed?;
        let event = any;
        for receiver in told.missed {
            self.note_missed(&event, receiver).await;
        }
        // Last: a tenant's own queue that refuses keeps no webhook from being sent.
        published?;
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

/// The next wait of a message that a queue of its tenant's refuses; nothing after the last. Other faults do not count.
pub(super) fn unheard(incoming: &Incoming) -> Option<Disposition> {
    let next = UNHEARD
        .iter()
        .find(|(mark, _)| incoming.header(mark).is_none());
    next.map(|(mark, wait)| Disposition::Snooze {
        wait: *wait,
        mark: Some(mark),
    })
}

pub(super) fn count(event: &'static str, outcome: &'static str) {
    metrics::counter!("photofinish_notifier_events_total", "type" => event, "outcome" => outcome)
        .increment(1);
}
