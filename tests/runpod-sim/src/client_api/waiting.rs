//! Calls that are held open: /runsync, /status-sync, /stream. The hold is virtual time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Query};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::request::read_job;
use super::{At, JobPath, unknown_job};
use crate::endpoints::Endpoint;
use crate::state::State;

/// How long /runsync and /status-sync are held without `wait`.
const SYNC_HOLD_MS: u64 = 90_000;

/// How long an empty /stream is held without `wait`.
const STREAM_HOLD_MS: u64 = 10_000;

/// Range of `wait`.
const WAIT_MS: (u64, u64) = (1000, 300_000);

pub(super) type Queries = Query<HashMap<String, String>>;

/// `wait` in its range; what is no number counts as not there.
fn hold(query: &HashMap<String, String>, default_ms: u64) -> Duration {
    let wait = query.get("wait").and_then(|ms| ms.parse().ok());
    Duration::from_millis(wait.unwrap_or(default_ms).clamp(WAIT_MS.0, WAIT_MS.1))
}

/// Asks the queue until `ask` has an answer or the time is over: then whatever `ask` says of the
/// end. `ask` is told whether this is the last time.
pub(super) async fn wait<T>(
    endpoint: &Arc<Endpoint>,
    hold: Duration,
    mut ask: impl FnMut(&mut State, bool) -> Option<T>,
) -> Option<T> {
    let clock = &endpoint.site.clock;
    let until = clock.now() + hold;
    loop {
        let woken = endpoint.wake.notified();
        tokio::pin!(woken);
        woken.as_mut().enable();
        let is_last = clock.now() >= until || endpoint.removed.is_cancelled();
        let found = endpoint.look(|state, _| ask(state, is_last));
        if found.is_some() || is_last {
            return found;
        }
        tokio::select! {
            () = woken => {}
            () = clock.sleep_until(until) => {}
            () = endpoint.removed.cancelled() => {}
        }
    }
}

/// The /status of a job once it has ended or the time is over.
async fn ended(endpoint: &Arc<Endpoint>, job: &str, time: Duration) -> Response {
    let found = wait(endpoint, time, |state, is_last| {
        match state.view_and_end(job) {
            None => Some(None),
            Some((view, ended)) if ended || is_last => Some(Some(view)),
            Some(_) => None,
        }
    });
    let view: Option<Value> = found.await.flatten();
    view.map_or_else(unknown_job, |view| Json(view).into_response())
}

pub(super) async fn runsync(
    Extension(endpoint): At,
    Query(query): Queries,
    body: Body,
) -> Response {
    let config = &endpoint.site.config;
    let mut new = match read_job(config, body, config.runsync_bytes_max).await {
        Ok(new) => new,
        Err(refusal) => return refusal,
    };
    new.sync = true;
    let id = format!("sync-{}-u1", uuid::Uuid::new_v4());
    endpoint.change(|state, now| state.submit(id.clone(), new, now));
    ended(&endpoint, &id, hold(&query, SYNC_HOLD_MS)).await
}

pub(super) async fn status_sync(
    Extension(endpoint): At,
    Path((_, job)): JobPath,
    Query(query): Queries,
) -> Response {
    ended(&endpoint, &job, hold(&query, SYNC_HOLD_MS)).await
}

/// Each chunk is delivered once; an empty poll is held.
pub(super) async fn stream(
    Extension(endpoint): At,
    Path((_, job)): JobPath,
    Query(query): Queries,
) -> Response {
    let time = hold(&query, STREAM_HOLD_MS);
    let found = wait(&endpoint, time, |state, is_last| {
        let Some((chunks, status, ended)) = state.drain_stream(&job) else {
            return Some(None);
        };
        let is_due = !chunks.is_empty() || ended || is_last;
        is_due.then(|| Some(json!({"status": status, "stream": chunks})))
    });
    let answer = found.await.flatten();
    answer.map_or_else(unknown_job, |answer| Json(answer).into_response())
}
