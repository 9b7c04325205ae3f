//! RunPod's completion webhook: a few tries, then it is lost.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::endpoints::Endpoint;

/// One try, virtual time: a receiver that is slower is called again.
const TRY_TIMEOUT: Duration = Duration::from_secs(10);

/// Posts the final view of a job, or does with it what a fault says.
pub(crate) async fn call(endpoint: Arc<Endpoint>, url: String, body: Value) {
    let clock = &endpoint.site.clock;
    let Some(fault) = endpoint.site.faults.next_webhook(&endpoint.id) else {
        return deliver(&endpoint, &url, &body).await;
    };
    clock.sleep(Duration::from_millis(fault.delay_ms)).await;
    if fault.lose {
        return tracing::info!(job = %body["id"], "webhook lost, as asked");
    }
    let url = if fault.forge { forged(&url) } else { url };
    for _ in 0..fault.copies {
        deliver(&endpoint, &url, &body).await;
    }
}

/// A few tries; only 200 counts.
async fn deliver(endpoint: &Arc<Endpoint>, url: &str, body: &Value) {
    let site = &endpoint.site;
    for attempt in 1..=site.config.webhook_tries {
        endpoint.look(|state, _| state.count_call("webhook"));
        let sending = site.http.post(url).json(body).send();
        let fault = tokio::select! {
            sent = sending => match sent {
                Ok(response) if response.status().as_u16() == 200 => return,
                Ok(response) => format!("status {}", response.status().as_u16()),
                Err(error) => error.without_url().to_string(),
            },
            () = site.clock.sleep(TRY_TIMEOUT) => "too slow".to_owned(),
            () = site.closing.cancelled() => return,
        };
        tracing::warn!(attempt, fault, job = %body["id"], "webhook failed");
        tokio::select! {
            () = site.clock.sleep(site.config.webhook_delay) => {}
            () = site.closing.cancelled() => return,
        }
    }
}

/// What somebody would call who does not know the secret in it.
fn forged(url: &str) -> String {
    if let Some((path, query)) = url.split_once('?') {
        let pairs = query.split('&').map(|pair| {
            let name = pair.split('=').next().unwrap_or_default();
            format!("{name}=forged")
        });
        return format!("{path}?{}", pairs.collect::<Vec<_>>().join("&"));
    }
    let kept = url.rsplit_once('/').map_or(url, |(kept, _)| kept);
    format!("{kept}/forged")
}

#[cfg(test)]
mod tests {
    use super::forged;

    #[test]
    fn a_forged_address_has_everything_but_the_secret() {
        assert_eq!(
            forged("http://h/hook?job=1&token=abc"),
            "http://h/hook?job=forged&token=forged"
        );
        assert_eq!(forged("http://h/hooks/abc"), "http://h/hooks/forged");
    }
}
