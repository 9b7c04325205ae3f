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
}

impl ProgressSender {
    /// Offers an update. It replaces one that has not been sent yet, so each must say all that
    /// there is to say. After the handler has returned it is ignored.
    pub fn send(&self, output: &Value) {
        let body = json!({"status": "IN_PROGRESS", "output": output});
        self.newest
            .send_replace(Some(Bytes::from(body.to_string())));
    }
}

/// The sending end's task.
#[derive(Debug)]
pub(super) struct Progress {
    updates: watch::Receiver<Option<Bytes>>,
    done: CancellationToken,
}

/// Makes a sender and what sends its updates until `done`.
pub(super) fn progress(done: CancellationToken) -> (ProgressSender, Progress) {
    let (newest, updates) = watch::channel(None);
    (
        ProgressSender {
            newest: Arc::new(newest),
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
                    tracing::warn!(job_id, status, "progress refused");
                }
                Posted::Fault(fault) => {
                    tracing::warn!(job_id, fault, "progress not sent, will be sent again");
                    self.updates.mark_changed();
                    pause = (pause * 2).min(shared.settings.backoff_max);
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
