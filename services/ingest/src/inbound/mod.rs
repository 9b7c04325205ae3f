//! One file for each entrance: the routes of one resource, the consumer of one queue.

pub mod admin;
pub mod hooks;
pub mod jobs;
pub mod legacy;
pub mod submissions;

use crate::core::Core;
use crate::refusal::Refusal;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, Uri};
use photofinish_contract::request::BODY_BYTES_MAX;
use photofinish_model::Code;
use std::sync::Arc;
use tower_http::catch_panic::CatchPanicLayer;

/// Every route of the public port.
pub fn router(core: Arc<Core>) -> Router {
    Router::new()
        .merge(jobs::routes())
        .merge(hooks::routes())
        .merge(admin::routes())
        .merge(legacy::routes())
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        // One byte more than a body may have, so that a body that is too large is told apart.
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX + 1))
        .layer(CatchPanicLayer::custom(panicked))
        .with_state(core)
}

async fn unknown(uri: Uri) -> Refusal {
    Refusal::new(404, Code::NotFound, format!("there is nothing at {}", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> Refusal {
    let detail = format!("{} does not take {method}", uri.path());
    Refusal::new(405, Code::MethodNotAllowed, detail)
}

#[expect(clippy::needless_pass_by_value, reason = "the layer's own signature")]
fn panicked(_: Box<dyn std::any::Any + Send>) -> axum::response::Response {
    use axum::response::IntoResponse as _;
    metrics::counter!("photofinish_task_panics_total", "task" => "http").increment(1);
    Refusal::new(500, Code::InternalError, "something failed here; tell the operator")
        .into_response()
}
