//! Signals: announcements posted to the address that the attempt's input gives.
//!
//! Guarantee: best effort, newest first, never in the way: 2 s a call, and a lost one is found by
//! the poll. The answer says what is still wanted, and is obeyed.

use std::time::Duration;

use photofinish_contract::announcement::{Announcement, Wanted};

use super::rescue::OwnClient;
use super::take::Take;

const SIGNAL_TIMEOUT: Duration = Duration::from_secs(2);

/// Posts the newest announcement whenever there is one; never returns.
pub(crate) async fn post_newest(client: &OwnClient, url: Option<&str>, take: &Take) {
    let mut announcements = take.announcements();
    // What was announced before we looked counts as new.
    announcements.mark_changed();
    while announcements.changed().await.is_ok() {
        let newest = announcements.borrow_and_update().clone();
        let (Some(url), Some(newest)) = (url, newest) else {
            continue;
        };
        if let Some(wanted) = post(client, url, &newest).await {
            take.obey(&wanted);
        }
    }
    std::future::pending::<()>().await;
}

/// Posts one announcement; what is still wanted, if the answer says.
pub(crate) async fn post(
    client: &OwnClient,
    url: &str,
    announcement: &Announcement,
) -> Option<Wanted> {
    let mut request = client
        .http()
        .post(url)
        .json(announcement)
        .timeout(SIGNAL_TIMEOUT);
    if let Some(parent) = photofinish_runtime::trace::current_traceparent() {
        request = request.header("traceparent", parent);
    }
    let answer = async { request.send().await?.error_for_status()?.bytes().await };
    match answer.await {
        Ok(body) => {
            metrics::counter!("photofinish_worker_signals_total", "outcome" => "sent").increment(1);
            // An answer without a list says nothing: unknown never means unwanted.
            serde_json::from_slice(&body).ok()
        }
        Err(error) => {
            metrics::counter!("photofinish_worker_signals_total", "outcome" => "lost").increment(1);
            tracing::debug!(error = %error.without_url(), "signal not answered");
            None
        }
    }
}
