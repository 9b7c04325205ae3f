//! Bodies with URLs signed now: what they say is made in `contract::telling`.

use crate::core::Notifier;
use crate::error::Error;
use jiff::Timestamp;
use photofinish_contract::event::{CloudEvent, CloudEventData, WebhookBody};
use photofinish_contract::job::ViewSettings;
use photofinish_contract::messages::JobEvent;
use photofinish_contract::telling;
use photofinish_model::{ItemState, JobSnapshot};
use std::collections::HashMap;

type Signed = HashMap<String, (String, Timestamp)>;

/// The body of a message on `photofinish.events`, which says what the webhook says.
pub(crate) fn cloud_event(event: &JobEvent, body: WebhookBody) -> CloudEvent {
    CloudEvent {
        specversion: "1.0".to_owned(),
        id: telling::id(event),
        source: format!("/photofinish/{}", event.tenant),
        event: event.event,
        subject: event.job.to_string(),
        time: event.at,
        sequence: event.sequence.to_string(),
        datacontenttype: "application/json".to_owned(),
        data: CloudEventData {
            job: body.data,
            changed: body.changed,
        },
    }
}

impl Notifier {
    /// The body of a webhook.
    pub(crate) async fn webhook_body(
        &self,
        event: &JobEvent,
        snapshot: JobSnapshot,
    ) -> Result<WebhookBody, Error> {
        let job = telling::as_of(event.event, snapshot);
        let signed = self.signed(event, &job).await?;
        let sign = |key: &str| signed.get(key).cloned();
        Ok(telling::body(event, &job, self.view_settings(), sign))
    }

    fn view_settings(&self) -> ViewSettings<'_> {
        ViewSettings {
            public_url: &self.config.public_url,
            usd_per_gpu_second: self.config.usd_per_gpu_second,
            now: Some(self.clock.now()),
        }
    }

    async fn signed(&self, event: &JobEvent, job: &JobSnapshot) -> Result<Signed, Error> {
        let now = self.clock.now();
        let mut signed = Signed::new();
        for row in telling::shown(event, job) {
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
