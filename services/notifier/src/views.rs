//! Bodies: the job as a webhook and as a CloudEvent carry it, with URLs signed now.

use crate::core::Notifier;
use crate::error::Error;
use crate::gate::CHANGED_MAX;
use crate::snapshots::as_of;
use jiff::Timestamp;
use photofinish_contract::event::{CloudEvent, EventType, WebhookBody};
use photofinish_contract::job::{Job, OUTPUTS_IN_EVENT_MAX, OutputRow, ViewSettings};
use photofinish_contract::messages::JobEvent;
use photofinish_model::{ItemRow, ItemState, JobSnapshot};
use std::collections::HashMap;

/// The id of an event.
pub(crate) fn event_id(event: &JobEvent) -> String {
    let kind = event.event.as_str();
    photofinish_model::sequence::event_id(&event.job, event.run, kind, event.sequence)
}

type Signed = HashMap<String, (String, Timestamp)>;

impl Notifier {
    /// The body of a webhook.
    pub(crate) async fn webhook_body(
        &self,
        event: &JobEvent,
        snapshot: JobSnapshot,
    ) -> Result<WebhookBody, Error> {
        let snapshot = as_of(event.event, snapshot);
        let changed = match event.event {
            EventType::JobProgress => Some(self.changed(event, &snapshot).await?),
            EventType::JobAccepted
            | EventType::JobStarted
            | EventType::JobCompleted
            | EventType::JobFailed
            | EventType::JobCancelled
            | EventType::EndpointTest
            | EventType::EndpointDisabled => None,
        };
        Ok(WebhookBody {
            event: event.event,
            timestamp: event.at,
            sequence: event.sequence,
            data: self.view(event.event, &snapshot).await?,
            changed,
        })
    }

    /// The body of a message on `photofinish.events`.
    pub(crate) async fn cloud_event(
        &self,
        event: &JobEvent,
        snapshot: JobSnapshot,
    ) -> Result<CloudEvent, Error> {
        let snapshot = as_of(event.event, snapshot);
        Ok(CloudEvent {
            specversion: "1.0".to_owned(),
            id: event_id(event),
            source: format!("/photofinish/{}", event.tenant),
            event: event.event,
            subject: event.job.to_string(),
            time: event.at,
            sequence: event.sequence.to_string(),
            datacontenttype: "application/json".to_owned(),
            data: self.view(event.event, &snapshot).await?,
        })
    }

    async fn view(&self, event: EventType, snapshot: &JobSnapshot) -> Result<Job, Error> {
        let settings = ViewSettings {
            public_url: &self.config.public_url,
            usd_per_gpu_second: self.config.usd_per_gpu_second,
            now: Some(self.clock.now()),
        };
        if !event.is_final() || snapshot.items.len() > OUTPUTS_IN_EVENT_MAX {
            return Ok(Job::without_outputs(snapshot, settings));
        }
        let signed = self.sign_urls(snapshot.items.iter()).await?;
        Ok(Job::with_outputs(snapshot, settings, |key| {
            signed.get(key).cloned()
        }))
    }

    async fn changed(
        &self,
        event: &JobEvent,
        snapshot: &JobSnapshot,
    ) -> Result<Vec<OutputRow>, Error> {
        let rows: Vec<&ItemRow> = event
            .changed
            .iter()
            .filter_map(|index| snapshot.items.get(usize::from(*index)))
            .take(CHANGED_MAX)
            .collect();
        let signed = self.sign_urls(rows.iter().copied()).await?;
        Ok(rows
            .iter()
            .map(|row| OutputRow::of(row, |key| signed.get(key).cloned()))
            .collect())
    }

    async fn sign_urls<'a>(
        &self,
        rows: impl Iterator<Item = &'a ItemRow>,
    ) -> Result<Signed, Error> {
        let now = self.clock.now();
        let mut signed = Signed::new();
        for row in rows {
            match &row.state {
                ItemState::Stored(output) => {
                    let ttl = self.config.output_ttl;
                    let url = self.objects.presign_get(&output.key, ttl, now).await?;
                    signed.insert(output.key.clone(), url);
                }
                ItemState::Pending
                | ItemState::Rendering
                | ItemState::Ready
                | ItemState::Failed(_) => {}
            }
        }
        Ok(signed)
    }
}
