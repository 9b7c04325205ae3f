//! The input of an attempt: what RunPod hands to the worker.

use crate::core::Core;
use crate::error::Error;
use photofinish_contract::attempt_input::{
    ATTEMPT_INPUT_VERSION, AttemptInput, PictureItem, RescueTarget, Work,
};
use photofinish_contract::request::{Task, frame_count};
use photofinish_contract::token::Purpose;
use photofinish_model::{AttemptRef, ItemIndex};
use photofinish_objects::RunDoc;
use photofinish_runtime::trace;
use std::time::Duration;

/// How long a worker may still push after its attempt's time is over.
const RESCUE_GRACE: Duration = Duration::from_secs(600);

impl Core {
    /// The input of one attempt at these items.
    pub async fn attempt_input(
        &self,
        doc: &RunDoc,
        attempt: &AttemptRef,
        items: &[ItemIndex],
    ) -> Result<AttemptInput, Error> {
        let config = &self.config;
        let lifetime = config.queue_wait_max + config.execution_timeout + RESCUE_GRACE;
        let mut rescue = Vec::with_capacity(items.len());
        for index in items {
            let put_url = self
                .objects
                .presign_rescue_put(attempt, *index, lifetime)
                .await?;
            rescue.push(RescueTarget {
                index: *index,
                put_url,
            });
        }
        Ok(AttemptInput {
            photofinish: ATTEMPT_INPUT_VERSION,
            attempt: attempt.clone(),
            work: work(doc, items),
            output_token: self.tokens.mint(Purpose::Output, attempt),
            signal_url: self.hook_url(attempt),
            budget_s: config.execution_timeout.as_secs_f64(),
            linger_s: config.linger.as_secs_f64(),
            first_contact_s: config.first_contact.as_secs_f64(),
            rescue_reserve_s: config.rescue_reserve.as_secs_f64(),
            rescue,
            report_put_url: self.objects.presign_report_put(attempt, lifetime).await?,
            traceparent: trace::current_traceparent(),
            tracestate: trace::current_tracestate(),
        })
    }

    /// Where RunPod and the worker tell us about an attempt, if they can reach us.
    pub fn hook_url(&self, attempt: &AttemptRef) -> Option<String> {
        let base = self.config.public_url.as_deref()?;
        Some(format!(
            "{base}/hooks/runpod/{}",
            self.tokens.mint(Purpose::Hook, attempt)
        ))
    }
}

fn work(doc: &RunDoc, items: &[ItemIndex]) -> Work {
    match &doc.request.task {
        Task::Img2vid(task) => Work::Img2vid {
            frame_rate: task.frame_rate,
            width: task.width,
            height: task.height,
            fit: task.fit,
            items: items
                .iter()
                .filter_map(|index| {
                    let image = task.images.get(usize::from(*index))?;
                    Some(PictureItem {
                        index: *index,
                        item: image.id.clone(),
                        image_url: image.image_url.clone(),
                        frames: frame_count(image.duration_s, task.frame_rate),
                        motion: image.motion,
                    })
                })
                .collect(),
        },
        Task::Caption(task) => Work::Caption {
            url_video: task.url_video.clone(),
            url_srt: task.url_srt.clone(),
            style: task.style.clone(),
        },
        Task::Addaudio(task) => Work::Addaudio {
            url_video: task.url_video.clone(),
            url_audio: task.url_audio.clone(),
            timing: task.timing,
        },
    }
}
