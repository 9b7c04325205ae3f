//! `notifier.deliver`: one try of one delivery.

use crate::core::Notifier;
use crate::error::Error;
use jiff::{SignedDuration, Timestamp};
use photofinish_broker::{Disposition, Incoming};
use photofinish_contract::messages::{DeliveryDue, Receiver};
use photofinish_jobstore::{
    AttemptLog, DeliveryRecord, DeliveryView, JobStoreError, Recorded, Turn,
};
use photofinish_model::delivery::{Answer, DeliveryStatus, JITTER, Next, SCHEDULE, after};
use std::time::Duration;
use uuid::Uuid;

use crate::sender::Tried;
use crate::views::event_id;

impl Notifier {
    /// Handles one message of the queue.
    pub(crate) async fn on_delivery(&self, incoming: Incoming) -> Disposition {
        let due: DeliveryDue = match incoming.json() {
            Ok(due) => due,
            Err(error) => {
                return Disposition::DeadLetter {
                    code: "undecodable",
                    reason: photofinish_runtime::error_chain(&error),
                };
            }
        };
        let _alone = self.in_hand.take(&due.delivery).await;
        if self.is_old_copy(&due.delivery, &incoming).await {
            return Disposition::Ack;
        }
        let known = self.known(&due).await;
        let (status, tries) = match &known {
            Some(view) => (
                view.status,
                view.attempts.last().map_or(0, |attempt| attempt.number),
            ),
            // Redis is away or was emptied: the message itself has counted along.
            None => (
                DeliveryStatus::Pending,
                tries_of(&due, &incoming, self.clock.now()),
            ),
        };
        match status {
            DeliveryStatus::Delivered | DeliveryStatus::Failed => return Disposition::Ack,
            DeliveryStatus::Pending => {}
        }
        let number = tries.saturating_add(1);
        match self.attempt(&due, number).await {
            Ok(tried) => self.conclude(&due, number, tried).await,
            Err(error) if error.gives_up(incoming.attempt) => {
                tracing::error!(
                    delivery = due.delivery,
                    error = photofinish_runtime::error_chain(&error),
                    "given up"
                );
                let why = "it could not be prepared".to_owned();
                self.conclude(&due, number, Tried::refused(self.clock.now(), why))
                    .await
            }
            Err(error) => {
                tracing::warn!(
                    delivery = due.delivery,
                    error = photofinish_runtime::error_chain(&error),
                    "deliver"
                );
                Error::again()
            }
        }
    }

    /// Decides what follows, notes the try, and settles.
    async fn conclude(&self, due: &DeliveryDue, number: u16, tried: Tried) -> Disposition {
        let jitter = self.clock.jitter();
        let next = after(DeliveryStatus::Pending, number, tried.answer, jitter);
        if let (Next::Disable, Receiver::Endpoint { id }) = (next, &due.receiver) {
            // First, so that a crash in between asks the receiver once more instead of forgetting it.
            if let Err(error) = self.disable(&due.event.tenant, id).await {
                tracing::warn!(
                    endpoint = id,
                    error = photofinish_runtime::error_chain(&error),
                    "disable an endpoint"
                );
                return Error::again();
            }
            tracing::info!(endpoint = id, tenant = %due.event.tenant, "disabled: it answered 410");
        }
        self.note(due, number, tried, next.status()).await;
        match next {
            Next::Delivered | Next::GiveUp | Next::Disable => Disposition::Ack,
            Next::RetryIn(pause) => Disposition::RetryLater(pause),
        }
    }

    async fn note(&self, due: &DeliveryDue, number: u16, tried: Tried, status: DeliveryStatus) {
        let outcome = match (status, tried.answer) {
            (DeliveryStatus::Delivered, _) => "delivered",
            (DeliveryStatus::Pending, _) => "retried",
            (DeliveryStatus::Failed, Answer::Refused) => "refused",
            (DeliveryStatus::Failed, Answer::Status { .. } | Answer::NoAnswer) => "given_up",
        };
        metrics::counter!("photofinish_notifier_deliveries_total", "outcome" => outcome)
            .increment(1);
        let log = AttemptLog {
            number,
            ..tried.log
        };
        tracing::info!(
            delivery = due.delivery,
            job = %due.event.job,
            event = due.event.event.as_str(),
            number,
            outcome,
            status_code = log.status_code,
            error = log.error,
            "tried a delivery"
        );
        let noted = async {
            match self
                .jobstore
                .delivery_attempt(&due.delivery, &log, status)
                .await?
            {
                Recorded::Recorded => return Ok(()),
                Recorded::Missing => {}
            }
            // Redis was emptied meanwhile.
            self.jobstore
                .delivery_create(&due.delivery, &self.record(due))
                .await?;
            match self
                .jobstore
                .delivery_attempt(&due.delivery, &log, status)
                .await?
            {
                Recorded::Recorded | Recorded::Missing => Ok::<(), JobStoreError>(()),
            }
        };
        if let Err(error) = noted.await {
            // What the receiver has it has: the note is lost, not the webhook.
            tracing::warn!(
                delivery = due.delivery,
                error = photofinish_runtime::error_chain(&error),
                "note a try"
            );
        }
    }

    fn record(&self, due: &DeliveryDue) -> DeliveryRecord {
        DeliveryRecord {
            id: due.delivery.clone(),
            event_id: event_id(&due.event),
            event: due.event.clone(),
            receiver: due.receiver.clone(),
            created_at: self.clock.now(),
        }
    }

    /// Asks the register of turns about a message; when it is away the message passes.
    pub(super) async fn is_old_copy(&self, key: &str, incoming: &Incoming) -> bool {
        let (turn, id) = incoming
            .turn
            .map_or((0, Uuid::nil()), |turn| (turn.turn, turn.turn_id));
        match self
            .jobstore
            .register_turn(key, turn, &id.to_string())
            .await
        {
            Ok(Turn::Pass) => false,
            Ok(Turn::Drop) => {
                metrics::counter!("photofinish_notifier_copies_dropped_total").increment(1);
                true
            }
            Err(error) => {
                tracing::debug!(
                    key,
                    error = photofinish_runtime::error_chain(&error),
                    "no register"
                );
                false
            }
        }
    }

    async fn known(&self, due: &DeliveryDue) -> Option<DeliveryView> {
        self.jobstore
            .delivery(&due.delivery)
            .await
            .unwrap_or_else(|error| {
                tracing::warn!(
                    delivery = due.delivery,
                    error = photofinish_runtime::error_chain(&error),
                    "read a delivery"
                );
                None
            })
    }
}

fn tries_of(due: &DeliveryDue, incoming: &Incoming, now: Timestamp) -> u16 {
    let rounds = u16::try_from(incoming.attempt).unwrap_or(u16::MAX);
    tries_within(due.tries.max(rounds), now.duration_since(due.event.at))
}

/// How many of the rounds that a message has counted were tries. Those count as well in which the bucket was away and
/// the receiver never asked; so no more tries are believed than the schedule has room for since the event.
fn tries_within(counted: u16, age: SignedDuration) -> u16 {
    let age = Duration::try_from(age).unwrap_or_default();
    let pauses = SCHEDULE.iter().scan(Duration::ZERO, |sum, pause| {
        *sum += pause.mul_f64(1.0 - JITTER);
        Some(*sum)
    });
    let possible = 1 + pauses.filter(|since| *since <= age).count();
    counted.min(u16::try_from(possible).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_in_which_nobody_was_asked_do_not_use_up_the_schedule() {
        let age = SignedDuration::from_secs;
        // Ten minutes of a bucket that is away, every two seconds.
        assert_eq!(tries_within(300, age(600)), 3);
        assert_eq!(tries_within(300, age(0)), 1);
        assert_eq!(tries_within(300, age(-5)), 1);
        // What the message has counted is never exceeded.
        assert_eq!(tries_within(0, age(600)), 0);
        assert_eq!(tries_within(4, age(90_000)), 4);
        // After the whole schedule it is given up all the same.
        assert_eq!(tries_within(300, age(76 * 3600)), 10);
    }
}
