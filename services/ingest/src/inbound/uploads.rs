//! `/v1/uploads`: a place for an input of one's own.

use super::Routes;
use crate::auth::AsTenant;
use crate::core::Ingest;
use crate::error::Refusal;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use utoipa::ToSchema;
use utoipa_axum::routes;

pub(super) fn routes() -> Routes {
    Routes::default().routes(routes!(create))
}

/// A place for one input.
#[derive(Debug, Serialize, ToSchema)]
struct Upload {
    /// Names it among the tenant's.
    id: String,
    /// Where to PUT the file.
    put_url: String,
    /// So long may it be put.
    put_url_expires_at: Timestamp,
    /// What to name in a job.
    url: String,
    /// So long may it be read; the file is deleted then.
    url_expires_at: Timestamp,
}

/// A presigned PUT for an input of one's own, and the URL to name in a job.
#[utoipa::path(post, path = "/v1/uploads", tag = "uploads",
    responses((status = 201, body = Upload, description = "Where to put the file")))]
async fn create(
    State(ingest): State<Arc<Ingest>>,
    AsTenant(tenant): AsTenant,
) -> Result<(StatusCode, Json<Upload>), Refusal> {
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
    let body = Upload {
        id: name,
        put_url: target.put_url,
        put_url_expires_at: end(put_ttl),
        url: target.get_url,
        url_expires_at: end(get_ttl),
    };
    Ok((StatusCode::CREATED, Json(body)))
}
