//! The entrances: one file for each resource over HTTP, and one for the submissions queue.

mod admin;
mod deliveries;
mod doctor;
mod endpoints;
mod hooks;
mod jobs;
mod old;
mod query;
mod submissions;
mod uploads;

use crate::core::Ingest;
use crate::problems;
use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::{delete, get, post};
use photofinish_contract::request::BODY_BYTES_MAX;
use photofinish_runtime::trace;
use std::sync::Arc;
use std::time::Instant;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Instrument as _;

/// The whole API.
pub(crate) fn router(ingest: Arc<Ingest>) -> Router {
    Router::new()
        .route("/v1/jobs", post(jobs::submit).get(jobs::list))
        .route("/v1/jobs/{id}", get(jobs::show).delete(jobs::cancel))
        .route("/v1/jobs/{id}/retry", post(jobs::retry))
        .route("/v1/jobs/{id}/outputs", get(jobs::outputs))
        .route("/v1/jobs/{id}/outputs/{*item}", get(jobs::output))
        .route("/v1/uploads", post(uploads::create))
        .route(
            "/v1/webhook-endpoints",
            post(endpoints::create).get(endpoints::list),
        )
        .route(
            "/v1/webhook-endpoints/{id}",
            get(endpoints::show)
                .patch(endpoints::change)
                .delete(endpoints::remove),
        )
        .route("/v1/deliveries", get(deliveries::list))
        .route(
            "/v1/admin/tenants",
            post(admin::create_tenant).get(admin::list_tenants),
        )
        .route(
            "/v1/admin/tenants/{tenant}/keys",
            post(admin::create_key).get(admin::list_keys),
        )
        .route(
            "/v1/admin/tenants/{tenant}/keys/{key}",
            delete(admin::revoke_key),
        )
        .route("/v1/admin/doctor", get(doctor::show))
        .route("/hooks/runpod/{token}", post(hooks::runpod))
        .route("/video/{operation}", post(old::submit))
        .route("/job/{id}", get(jobs::show))
        .route("/job/{id}/cancel", post(jobs::cancel))
        .fallback(problems::not_found)
        .method_not_allowed_fallback(problems::method_not_allowed)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(CatchPanicLayer::custom(problems::panicked))
        .layer(from_fn(observed))
        .with_state(ingest)
}

/// A span and numbers for each call. The path is the route's: a hook's token is never written down.
async fn observed(request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let method = request.method().to_string();
    let matched = request
        .extensions()
        .get::<MatchedPath>()
        .map(MatchedPath::as_str);
    let route = matched.unwrap_or("none").to_owned();
    let span = tracing::info_span!("http", method, route, status = tracing::field::Empty);
    let parent = request
        .headers()
        .get("traceparent")
        .and_then(|value| value.to_str().ok());
    if let Some(parent) = parent {
        trace::continue_from(&span, parent);
    }
    let response = next.run(request).instrument(span.clone()).await;
    let status = response.status().as_u16();
    span.record("status", status);
    let labels = [
        ("method", method),
        ("route", route),
        ("status", status.to_string()),
    ];
    metrics::counter!("photofinish_ingest_http_requests_total", &labels).increment(1);
    metrics::histogram!("photofinish_ingest_http_seconds").record(begun.elapsed().as_secs_f64());
    response
}
