//! Who is told of an event.

use crate::core::Notifier;
use crate::error::Error;
use photofinish_contract::event::EventType;
use photofinish_contract::messages::{JobEvent, Receiver};
use photofinish_model::{JobSnapshot, Tenant};
use photofinish_objects::WebhookEndpointRecord;

/// Who is told of a job's event, and who would be if it were not disabled.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) receivers: Vec<Addressee>,
    pub(crate) missed: Vec<Receiver>,
}

/// A receiver that is told.
#[derive(Debug)]
pub(crate) struct Addressee {
    pub(crate) receiver: Receiver,
    /// What is known of it, if it is a webhook endpoint.
    pub(crate) endpoint: Option<Box<WebhookEndpointRecord>>,
}

impl From<Receiver> for Addressee {
    fn from(receiver: Receiver) -> Self {
        Self {
            receiver,
            endpoint: None,
        }
    }
}

impl Notifier {
    /// The job's own receivers, as its plan froze them, and of the tenant's endpoints those that want the type.
    pub(crate) async fn receivers(
        &self,
        event: &JobEvent,
        job: &JobSnapshot,
        endpoints: Vec<WebhookEndpointRecord>,
    ) -> Result<Told, Error> {
        let mut told = Told::default();
        if wants(&[], event.event) {
            let own = self.own_receivers(event, job).await?;
            told.receivers.extend(own.into_iter().map(Addressee::from));
        }
        for endpoint in endpoints {
            if endpoint.deleted || !wants(&endpoint.event_types, event.event) {
                continue;
            }
            let receiver = Receiver::Endpoint {
                id: endpoint.id.clone(),
            };
            if endpoint.enabled {
                told.receivers.retain(|one| one.receiver != receiver);
                told.receivers.push(Addressee {
                    receiver,
                    endpoint: Some(Box::new(endpoint)),
                });
            } else if event.event != EventType::JobProgress {
                // Nobody wants to know later how far a job once was.
                told.missed.push(receiver);
            }
        }
        Ok(told)
    }

    async fn own_receivers(
        &self,
        event: &JobEvent,
        job: &JobSnapshot,
    ) -> Result<Vec<Receiver>, Error> {
        if let Some(urls) = &job.receivers {
            let own = |url: &String| Receiver::JobUrl { url: url.clone() };
            return Ok(urls.iter().map(own).collect());
        }
        let run = self.objects.run(&event.tenant, &event.job, event.run);
        // A run that was cancelled before it was planned has an end and no plan.
        Ok(run.await?.map_or_else(Vec::new, |run| run.receivers))
    }

    /// The enabled endpoints of a tenant that want an event of this type.
    pub(crate) async fn endpoints_that_want(
        &self,
        tenant: &Tenant,
        event: EventType,
    ) -> Result<Vec<String>, Error> {
        let all = self.endpoints(tenant).await?.into_iter();
        let some = all.filter(|endpoint| {
            endpoint.enabled && !endpoint.deleted && wants(&endpoint.event_types, event)
        });
        Ok(some.map(|endpoint| endpoint.id).collect())
    }
}

/// What tells one receiver from another in the id of a delivery.
pub(crate) fn name(receiver: &Receiver) -> &str {
    match receiver {
        Receiver::Endpoint { id } => id,
        Receiver::JobUrl { url } => url,
    }
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
