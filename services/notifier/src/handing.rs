//! Deliveries in the making: noted, then queued.

use crate::core::Notifier;
use crate::error::Error;
use crate::receivers;
use photofinish_broker::{Outgoing, Route, Target};
use photofinish_contract::messages::{AnyEvent, DeliveryDue, Receiver};
use photofinish_jobstore::{AttemptLog, DeliveryRecord, JobStoreError};
use photofinish_model::delivery::DeliveryStatus;
use photofinish_model::sequence::delivery_id;

/// Why a delivery to a disabled webhook endpoint is not made.
pub(crate) const DISABLED: &str = "the webhook endpoint is disabled";

impl Notifier {
    /// Makes the delivery, then queues it; one that was worked on before is left alone.
    pub(crate) async fn hand_over(
        &self,
        event: &AnyEvent,
        receiver: Receiver,
    ) -> Result<(), Error> {
        let record = self.delivery_of(event, receiver);
        if self.was_begun(&record).await {
            return Ok(());
        }
        self.queue(DeliveryDue {
            delivery: record.id,
            event: record.event,
            receiver: record.receiver,
            tries: 0,
            replay: None,
        })
        .await
    }

    /// Notes what a disabled endpoint does not get, so that it is listed and can be replayed.
    pub(crate) async fn note_missed(&self, event: &AnyEvent, receiver: Receiver) {
        let record = self.delivery_of(event, receiver);
        let why = AttemptLog {
            number: 1,
            at: record.created_at,
            status_code: None,
            error: Some(DISABLED.to_owned()),
            duration_ms: 0,
            timing: None,
            response: None,
        };
        let noted = self.jobstore.delivery_missed(&record.id, &record, &why);
        if let Err(error) = noted.await {
            tracing::warn!(
                delivery = record.id,
                error = photofinish_runtime::error_chain(&error),
                "note a delivery that was missed"
            );
        }
    }

    /// Queues a delivery.
    pub(crate) async fn queue(&self, due: DeliveryDue) -> Result<(), Error> {
        let outgoing = Outgoing::json(Target::Pipeline(Route::DeliveryDue), &due)?
            .message_id(due.delivery.clone());
        Ok(self.publisher.publish(outgoing).await?)
    }

    pub(crate) fn delivery_of(&self, event: &AnyEvent, receiver: Receiver) -> DeliveryRecord {
        let event_id = event.id();
        DeliveryRecord {
            id: delivery_id(&event_id, receivers::name(&receiver)),
            event_id,
            event: event.clone(),
            receiver,
            created_at: self.clock.now(),
        }
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
        begun.await.unwrap_or_else(|error: JobStoreError| {
            tracing::warn!(
                delivery = record.id,
                error = photofinish_runtime::error_chain(&error),
                "note a delivery"
            );
            false
        })
    }
}
