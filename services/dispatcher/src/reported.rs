//! RunPod's own count of attempts, asked for now and then.

use crate::core::Core;
use photofinish_runtime::error_chain;
use std::time::Duration;

/// RunPod's own count of what is queued and running, asked for at most so often.
const HEALTH_AGE_MAX: Duration = Duration::from_secs(5);

/// RunPod's own count, and when it was asked for.
#[derive(Debug, Default)]
pub struct Reported(tokio::sync::Mutex<Option<(std::time::Instant, u32)>>);

impl Core {
    /// Attempts in flight by RunPod's own count; 0 while it cannot be had (then ours counts alone).
    pub async fn reported(&self) -> u32 {
        let mut last = self.reported.0.lock().await;
        if let Some((at, count)) = *last
            && at.elapsed() < HEALTH_AGE_MAX
        {
            return count;
        }
        let count = match self.runpod.health(&self.config.endpoint_id).await {
            Ok(health) => {
                let count = health.jobs.in_queue.saturating_add(health.jobs.in_progress);
                u32::try_from(count).unwrap_or(u32::MAX)
            }
            Err(error) => {
                tracing::warn!(error = error_chain(&error), "ask RunPod for its counts");
                0
            }
        };
        *last = Some((std::time::Instant::now(), count));
        count
    }
}
