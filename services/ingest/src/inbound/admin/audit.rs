//! `/v1/admin/audit`: what operators have done.

use crate::auth::AsOperator;
use crate::core::Ingest;
use crate::error::Refusal;
use crate::inbound::Routes;
use crate::inbound::query::{Page, PageParams, Params, RawQuery};
use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use photofinish_model::Code;
use photofinish_objects::{AuditEntry, ObjectsError};
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::routes;

pub(super) fn routes() -> Routes {
    Routes::default().routes(routes!(list))
}

/// An act of an operator.
#[derive(Debug, Serialize, ToSchema)]
struct AuditShown {
    at: Timestamp,
    /// The prefix of the operator's key; `configured`: the one of the configuration.
    #[schema(example = "pf_Ab3dE")]
    operator: String,
    #[schema(example = "tenant.change")]
    act: String,
    /// To what.
    #[schema(example = "acme")]
    target: String,
    /// How; never a secret.
    detail: Value,
    /// The request (`x-request-id`).
    #[schema(required = true)]
    request_id: Option<String>,
}

impl From<AuditEntry> for AuditShown {
    fn from(entry: AuditEntry) -> Self {
        Self {
            at: entry.at,
            operator: entry.operator,
            act: entry.act,
            target: entry.target,
            detail: entry.detail,
            request_id: entry.request_id,
        }
    }
}

/// What operators have done, the newest first.
///
/// An entry is written before its act is done: an act that then failed is here, too.
#[utoipa::path(get, path = "/v1/admin/audit", tag = "admin", params(PageParams),
    responses((status = 200, body = Page<AuditShown>, description = "A page of it")))]
async fn list(
    State(ingest): State<Arc<Ingest>>,
    _: AsOperator,
    query: RawQuery,
) -> Result<Json<Page<AuditShown>>, Refusal> {
    let mut params = Params::of(query)?;
    let (limit, cursor) = (params.limit(), params.cursor());
    params.done()?;
    let found = ingest
        .objects
        .audit_list(limit + 1, cursor.as_deref())
        .await;
    let mut found = found.map_err(|error| {
        if matches!(error, ObjectsError::Name(_)) {
            let detail = "send `cursor` as `next_cursor` gave it";
            return Refusal::new(422, Code::InvalidRequest, detail);
        }
        error.into()
    })?;
    let more = found.len() > limit;
    found.truncate(limit);
    let last = found.last().filter(|_| more).map(|(name, _)| name.as_str());
    Ok(Json(Page {
        next_cursor: last.map(Page::<AuditShown>::cursor),
        data: found.into_iter().map(|(_, entry)| entry.into()).collect(),
    }))
}
