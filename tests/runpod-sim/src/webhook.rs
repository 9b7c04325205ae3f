//! RunPod's completion webhook: a few tries, then it is lost.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::server::Shared;

/// One try.
const TRY_TIMEOUT: Duration = Duration::from_secs(10);

/// Posts the final view of a job; only 200 counts.
pub(crate) async fn call(shared: Arc<Shared>, url: String, body: Value) {
    for attempt in 1..=shared.config.webhook_tries {
        shared.look(|state, _| state.count_call("webhook"));
        let sent = shared
            .http
            .post(&url)
            .timeout(TRY_TIMEOUT)
            .json(&body)
            .send()
            .await;
        let fault = match sent {
            Ok(response) if response.status().as_u16() == 200 => return,
            Ok(response) => format!("status {}", response.status().as_u16()),
            Err(error) => error.without_url().to_string(),
        };
        tracing::warn!(attempt, fault, job = %body["id"], "webhook failed");
        tokio::select! {
            () = tokio::time::sleep(shared.config.webhook_delay) => {}
            () = shared.closing.cancelled() => return,
        }
    }
}
