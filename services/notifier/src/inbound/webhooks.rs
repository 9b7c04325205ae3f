//! What is wanted of a webhook endpoint: a test, that it is disabled, that its deliveries are sent again.

use crate::core::Notifier;
use crate::error::Error;
use futures_util::{StreamExt as _, TryStreamExt as _};
use photofinish_broker::{Disposition, Incoming, Outgoing, PublishError, Target};
use photofinish_contract::event::EventType;
use photofinish_contract::messages::{
    AnyEvent, DeliveryDue, EndpointEvent, Receiver, ReplayWanted, WebhookCommand,
};
use photofinish_contract::webhook::EndpointCloudEvent;
use photofinish_jobstore::{DeliveryFilter, DeliveryView};
use std::time::{Duration, Instant};

use super::events::{CLOUD_EVENT, count, unheard};

/// Deliveries that one turn of a replay queues.
const REPLAY_PAGE: usize = 200;
/// Of them at once.
const REPLAY_PARALLEL: usize = 32;
/// Between two pages: deliveries that are new come in between.
const REPLAY_PAUSE: Duration = Duration::from_millis(250);

impl Notifier {
    /// Carries a command out.
    pub(super) async fn on_webhook(
        &self,
        command: WebhookCommand,
        incoming: &Incoming,
    ) -> Disposition {
        let (name, done) = match command {
            WebhookCommand::Test {
                tenant,
                endpoint,
                at,
            } => {
                let receiver = Receiver::Endpoint {
                    id: endpoint.clone(),
                };
                let event = AnyEvent::Endpoint(EndpointEvent {
                    tenant,
                    endpoint,
                    event: EventType::EndpointTest,
                    at,
                    cause: None,
                });
                let sent = self.hand_over(&event, receiver).await;
                ("test", sent.map(|()| Disposition::Ack))
            }
            WebhookCommand::Disable {
                tenant,
                endpoint,
                at,
                cause,
            } => {
                let event = EndpointEvent {
                    tenant,
                    endpoint,
                    event: EventType::EndpointDisabled,
                    at,
                    cause: Some(cause),
                };
                ("disable", self.disable_and_tell(event, incoming).await)
            }
            WebhookCommand::Replay(wanted) => ("replay", self.replay(wanted, incoming).await),
        };
        done.unwrap_or_else(|error| {
            tracing::warn!(
                command = name,
                error = photofinish_runtime::error_chain(&error),
                "carry out a command about a webhook endpoint"
            );
            error.disposition(incoming.attempt)
        })
    }

    /// Disables the endpoint, then tells the exchange and the tenant's other endpoints.
    async fn disable_and_tell(
        &self,
        event: EndpointEvent,
        incoming: &Incoming,
    ) -> Result<Disposition, Error> {
        let (tenant, id) = (event.tenant.clone(), event.endpoint.clone());
        if !self.disable(&event).await? {
            return Ok(Disposition::Ack);
        }
        tracing::info!(endpoint = id, %tenant, cause = ?event.cause, "disabled a webhook endpoint");
        let Some(body) = self.endpoint_body(&event).await? else {
            return Ok(Disposition::Ack);
        };
        let told = AnyEvent::Endpoint(event);
        let cloud = EndpointCloudEvent {
            specversion: "1.0".to_owned(),
            id: told.id(),
            source: format!("/photofinish/{tenant}"),
            event: body.event,
            subject: id.clone(),
            time: body.timestamp,
            sequence: body.sequence.to_string(),
            datacontenttype: "application/json".to_owned(),
            data: body.data,
        };
        let routing_key = format!("{tenant}.{}", cloud.event);
        let outgoing = Outgoing::json(Target::Events { routing_key }, &cloud)?
            .content_type(CLOUD_EVENT)
            .kind(cloud.event.as_str())
            .message_id(cloud.id.clone());
        let again = match self.publisher.publish(outgoing).await {
            Ok(()) => None,
            // The tenant's own queue: its endpoints are told all the same.
            Err(PublishError::Refused { .. }) => {
                let again = unheard(incoming);
                if again.is_none() {
                    count(EventType::EndpointDisabled.as_str(), "unheard");
                }
                again
            }
            Err(error) => return Err(error.into()),
        };
        for other in self.endpoints_that_want(&tenant, told.kind()).await? {
            if other != id {
                let receiver = Receiver::Endpoint { id: other };
                self.hand_over(&told, receiver).await?;
            }
        }
        Ok(again.unwrap_or(Disposition::Ack))
    }

    /// Queues a page of deliveries again; the rest is the next turn's.
    async fn replay(
        &self,
        wanted: ReplayWanted,
        incoming: &Incoming,
    ) -> Result<Disposition, Error> {
        let key = format!("{}:{}", wanted.endpoint, wanted.at.as_millisecond());
        if incoming.turn.is_some() && self.is_old_copy(&key, incoming).await {
            return Ok(Disposition::Ack);
        }
        let begun = self.replays.begin(&wanted.tenant, &key, Instant::now());
        let _running = match begun {
            Ok(running) => running,
            Err(wait) => return Ok(Disposition::Snooze { wait, mark: None }),
        };
        let filter = DeliveryFilter {
            endpoint: Some(wanted.endpoint.clone()),
            status: Some(wanted.status),
            since: Some(wanted.since),
            until: Some(wanted.until),
            ..DeliveryFilter::default()
        };
        let cursor = wanted.cursor.as_deref();
        let page = self
            .jobstore
            .deliveries_without_attempts(&wanted.tenant, &filter, REPLAY_PAGE, cursor)
            .await?;
        let again = |view: DeliveryView| {
            self.queue(DeliveryDue {
                delivery: view.record.id,
                event: view.record.event,
                receiver: view.record.receiver,
                tries: 0,
                replay: Some(wanted.at),
            })
        };
        futures_util::stream::iter(page.rows.into_iter().map(again))
            .buffer_unordered(REPLAY_PARALLEL)
            .try_collect::<Vec<()>>()
            .await?;
        if page.next_cursor.is_none() {
            return Ok(Disposition::Ack);
        }
        tokio::time::sleep(REPLAY_PAUSE).await;
        let next = WebhookCommand::Replay(ReplayWanted {
            cursor: page.next_cursor,
            ..wanted
        });
        let body = serde_json::to_vec(&next)?;
        Ok(Disposition::Turn {
            body: Some(body.into()),
        })
    }
}
