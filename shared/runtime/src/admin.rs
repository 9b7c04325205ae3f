//! The admin port: `/healthz`, `/readyz`, `/metrics`, the same in every service.
//!
//! Guarantee: it answers until the very end of a shutdown, so that a probe sees 503 and not a closed port.

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;

use crate::Health;

pub(crate) fn router(health: Health, metrics: PrometheusHandle) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(move || async move { readyz(&health) }))
        .route("/metrics", get(move || async move { render(&metrics) }))
}

fn readyz(health: &Health) -> Response {
    let failing = health.failing();
    let status = if failing.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let list: Vec<_> = failing
        .iter()
        .map(|(check, why)| serde_json::json!({"check": check, "why": why}))
        .collect();
    let body = axum::Json(serde_json::json!({"ready": failing.is_empty(), "failing": list}));
    (status, body).into_response()
}

fn render(metrics: &PrometheusHandle) -> Response {
    let kind = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    (kind, metrics.render()).into_response()
}
