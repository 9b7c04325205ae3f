//! The paths of the old system: the same admission, the old bodies.

use super::jobs;
use crate::auth::AsTenant;
use crate::core::Ingest;
use crate::error::Refusal;
use crate::problems::{JsonBody, Path};
use axum::extract::State;
use axum::response::Response;
use photofinish_model::Code;
use std::sync::Arc;

/// `POST /video/{caption,img2vid,addaudio}`
pub(super) async fn submit(
    State(ingest): State<Arc<Ingest>>,
    AsTenant(tenant): AsTenant,
    Path(operation): Path<String>,
    JsonBody(mut body): JsonBody,
) -> Result<Response, Refusal> {
    if !["caption", "img2vid", "addaudio"].contains(&operation.as_str()) {
        return Err(Refusal::new(404, Code::NotFound, "there is no such path"));
    }
    if let Some(fields) = body.as_object_mut() {
        // The path says what is to be done, whatever the body claims.
        fields.insert("operation".to_owned(), operation.into());
    }
    let admitted = ingest.admit(&tenant, None, &body).await;
    jobs::count("old", &admitted);
    jobs::answer(&ingest, admitted?).await
}
