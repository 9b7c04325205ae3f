//! Who is told of an event.

use crate::core::Notifier;
use crate::error::Error;
use photofinish_contract::event::EventType;
use photofinish_contract::messages::{JobEvent, Receiver};
use photofinish_objects::WebhookEndpointRecord;

impl Notifier {
    /// The job's own receivers, as its plan froze them, and the tenant's endpoints that want the type.
    pub(crate) async fn receivers(&self, event: &JobEvent) -> Result<Vec<Receiver>, Error> {
        let mut receivers = Vec::new();
        if wants(&[], event.event) {
            let run = self
                .objects
                .run(&event.tenant, &event.job, event.run)
                .await?;
            // A run that was cancelled before it was planned has an end and no plan.
            receivers.extend(run.into_iter().flat_map(|run| run.receivers));
        }
        let endpoints = self.endpoints(&event.tenant).await?;
        for endpoint in endpoints
            .into_iter()
            .filter(|endpoint| takes(endpoint, event.event))
        {
            let receiver = Receiver::Endpoint { id: endpoint.id };
            if !receivers.contains(&receiver) {
                receivers.push(receiver);
            }
        }
        Ok(receivers)
    }
}

/// What tells one receiver from another in the id of a delivery.
pub(crate) fn name(receiver: &Receiver) -> &str {
    match receiver {
        Receiver::Endpoint { id } => id,
        Receiver::JobUrl { url } => url,
    }
}

fn takes(endpoint: &WebhookEndpointRecord, event: EventType) -> bool {
    endpoint.enabled && !endpoint.deleted && wants(&endpoint.event_types, event)
}

/// An empty list wants all but the opt-in type.
fn wants(event_types: &[String], event: EventType) -> bool {
    if event_types.is_empty() {
        return event != EventType::JobProgress;
    }
    event_types.iter().any(|wanted| wanted == event.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_opt_in_and_everything_else_is_not() {
        for event in EventType::ALL {
            assert_eq!(
                wants(&[], *event),
                *event != EventType::JobProgress,
                "{event}"
            );
            let alone = [event.as_str().to_owned()];
            assert!(wants(&alone, *event));
            assert!(!wants(&["job.other".to_owned()], *event));
        }
    }
}
