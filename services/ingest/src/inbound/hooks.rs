//! `/hooks/runpod/{token}`: what workers and RunPod say of an attempt. The token is the proof; it
//! is never logged.

use crate::core::Core;
use crate::error::Fault;
use crate::inbound::jobs::json_body;
use crate::refusal::Refusal;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use photofinish_broker::{Outgoing, Target};
use photofinish_contract::announcement::{Announcement, Wanted};
use photofinish_contract::messages::{Heard, Signal};
use photofinish_contract::token::Purpose;
use photofinish_jobstore::Wanted as Open;
use photofinish_model::{AttemptRef, ItemIndex};
use serde_json::Value;
use std::sync::Arc;

/// The routes.
pub fn routes() -> Router<Arc<Core>> {
    Router::new().route("/hooks/runpod/{token}", post(hook))
}

async fn hook(
    State(core): State<Arc<Core>>,
    Path(token): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Fault> {
    let attempt = core
        .tokens
        .verify(Purpose::Hook, &token)
        .map_err(|_| Refusal::not_found("hook"))?;
    let body: Value = json_body(body)?;
    let announcement: Option<Announcement> = serde_json::from_value(body).ok();
    // Anything else is RunPod's own completion call: what is true the poll finds out.
    let heard = announcement.clone().map_or(Heard::Completed, |heard| {
        Heard::Announcement(Box::new(heard))
    });
    let signal = Signal { attempt: attempt.clone(), heard };
    // A lost signal is harmless, so an unreachable broker is no reason to make RunPod repeat it.
    if let Err(error) = core.publisher.publish(Outgoing::json(Target::Signals, &signal)?).await {
        tracing::warn!(%attempt, error = crate::error::chain(&error), "pass a signal on");
    }
    match announcement {
        Some(heard) => Ok(Json(core.wanted(&attempt, &heard).await).into_response()),
        None => Ok(Json(serde_json::json!({})).into_response()),
    }
}

impl Core {
    /// Items of the job that are still open: those of other parts do not concern this worker.
    /// When nobody knows, everything is wanted: unknown never means unwanted.
    async fn wanted(&self, attempt: &AttemptRef, heard: &Announcement) -> Wanted {
        let everything: Vec<ItemIndex> = (0..photofinish_contract::request::ITEMS_MAX as u16).collect();
        let open = self.jobstore.pending_items(&attempt.job, attempt.run, &everything).await;
        let wanted = match open {
            Ok(Open::Items(mut items)) => {
                // What lies on the worker is wanted until it is acknowledged there.
                items.extend(heard.outputs.iter().map(|output| output.index));
                items.sort_unstable();
                items.dedup();
                items
            }
            Ok(Open::RunOver) => Vec::new(),
            Ok(Open::Missing) => everything,
            Err(error) => {
                tracing::warn!(%attempt, error = crate::error::chain(&error), "ask what is open");
                everything
            }
        };
        Wanted { wanted }
    }
}
