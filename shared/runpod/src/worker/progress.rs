//! Progress of one job: cumulative, so only the newest update that is not sent yet matters.
//!
//! Updates go out in order, never two at once, at least an interval apart, and none after
//! [`Progress::finish`] has returned: a late update would overwrite the result.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::calls::Posted;

/// Tells RunPod how far a job is. Cloning is cheap; [`send`](Self::send) never waits.
#[derive(Debug, Clone)]
pub struct ProgressSender {
    newest: Arc<watch::Sender<Option<Bytes>>>,
    bytes_max: usize,
}

impl ProgressSender {
    /// Offers an update. It replaces one that has not been sent yet, so each must say all that
    /// there is to say. After the handler has returned it is ignored. One that is larger than a
    /// result may be is left out: RunPod would refuse it.
    pub fn send(&self, output: &Value) {
        let body = json!({"status": "IN_PROGRESS", "output": output}).to_string();
        let (bytes, max) = (body.len(), self.bytes_max);
        if bytes > max {
            tracing::warn!(bytes, max, "progress too large, left out");
            return;
        }
        self.newest.send_replace(Some(Bytes::from(body)));
    }
}

/// The sending end's task.
#[derive(Debug)]
pub(super) struct Progress {
    updates: watch::Receiver<Option<Bytes>>,
    done: CancellationToken,
}

/// Makes a sender of updates up to `bytes_max`, and what sends them until `done`.
pub(super) fn progress(done: CancellationToken, bytes_max: usize) -> (ProgressSender, Progress) {
    let (newest, updates) = watch::channel(None);
    (
        ProgressSender {
            newest: Arc::new(newest),
            bytes_max,
        },
        Progress { updates, done },
    )
}

impl Progress {
    /// Sends updates until the job is done. A post that is under way is awaited.
    pub(super) async fn run(mut self, shared: &Shared, job_id: &str) {
        let interval = shared.settings.progress_interval_min;
        let url = shared.env.output_url(job_id);
        let mut pause = interval;
        loop {
            tokio::select! {
                biased;
                () = self.done.cancelled() => return,
                changed = self.updates.changed() => if changed.is_err() { return },
            }
            let Some(body) = self.updates.borrow_and_update().clone() else {
                continue;
            };
            let sent_at = Instant::now();
            let timeout = shared.settings.progress_timeout;
            match shared.calls.post(url.clone(), job_id, body, timeout).await {
                Posted::Accepted => pause = interval,
                // Closed at RunPod (cancelled, expired, taken over); job-stop says more.
                Posted::Refused(status) => {
                    tracing::warn!(requestId = job_id, status, "progress refused");
                }
                Posted::Fault {
                    fault, retry_after, ..
                } => {
                    tracing::warn!(
                        requestId = job_id,
                        fault,
                        "progress not sent, will be sent again"
                    );
                    self.updates.mark_changed();
                    let longer = (pause * 2).max(retry_after.unwrap_or_default());
                    pause = longer.min(shared.settings.backoff_max);
                }
            }
            self.pause(sent_at, pause).await;
        }
    }

    async fn pause(&self, sent_at: Instant, interval: Duration) {
        tokio::select! {
            biased;
            () = self.done.cancelled() => {}
            () = tokio::time::sleep_until(sent_at + interval) => {}
        }
    }
}
