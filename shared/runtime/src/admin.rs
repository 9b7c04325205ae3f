//! The admin port: `/healthz`, `/readyz`, `/metrics`, `/log-level`, the same in every service.
//!
//! Guarantee: it answers until the very end of a shutdown, so that a probe sees 503 and not a closed port.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;

use crate::Health;
use crate::telemetry::LogLevel;

/// Bytes of the directives of a log level at most.
const LEVEL_BYTES_MAX: usize = 4096;

pub(crate) fn router(health: Health, metrics: PrometheusHandle, level: LogLevel) -> Router {
    let shown = level.clone();
    let levels = get(move || async move { format!("{}\n", shown.now()) })
        .put(move |asked: String| async move { set_level(&level, &asked) })
        .layer(DefaultBodyLimit::max(LEVEL_BYTES_MAX));
    Router::new()
        .route("/log-level", levels)
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

/// Answers with the level in force; an empty one is the settings' own again.
fn set_level(level: &LogLevel, asked: &str) -> Response {
    match level.set(asked.trim()) {
        Ok(now) => format!("{now}\n").into_response(),
        Err(error) => {
            let told = format!("{}\n", crate::error_chain(&error));
            (StatusCode::UNPROCESSABLE_ENTITY, told).into_response()
        }
    }
}

fn render(metrics: &PrometheusHandle) -> Response {
    let kind = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    (kind, metrics.render()).into_response()
}
