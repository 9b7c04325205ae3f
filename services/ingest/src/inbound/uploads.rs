//! `/v1/uploads`: a place for an input of one's own.

use crate::auth::AsTenant;
use crate::core::Ingest;
use crate::error::Refusal;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use jiff::SignedDuration;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// `POST /v1/uploads`: a presigned PUT, and the URL to name in a job.
pub(super) async fn create(
    State(ingest): State<Arc<Ingest>>,
    AsTenant(tenant): AsTenant,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let name = uuid::Uuid::new_v4().to_string();
    let (put_ttl, get_ttl) = (ingest.config.upload_ttl, ingest.config.input_ttl);
    let target = ingest
        .objects
        .presign_upload_put(&tenant, &name, put_ttl, get_ttl)
        .await?;
    let now = ingest.now();
    let end = |ttl: Duration| {
        let ttl = SignedDuration::try_from(ttl).unwrap_or(SignedDuration::MAX);
        now.saturating_add(ttl).unwrap_or(now)
    };
    let body = json!({
        "id": name,
        "put_url": target.put_url, "put_url_expires_at": end(put_ttl),
        "url": target.get_url, "url_expires_at": end(get_ttl)
    });
    Ok((StatusCode::CREATED, Json(body)))
}
