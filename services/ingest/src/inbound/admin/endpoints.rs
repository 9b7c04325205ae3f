//! `/v1/admin/endpoints`: RunPod's endpoints, as the dispatcher tells of them, and whether they are paused.

use super::Body;
use crate::auth::AsOperator;
use crate::core::Ingest;
use crate::error::Refusal;
use crate::inbound::Routes;
use crate::inbound::query::{Page, PageParams, Params, RawQuery};
use crate::problems::{JsonBody, Path};
use axum::Json;
use axum::extract::State;
use photofinish_contract::endpoint::EndpointNote;
use photofinish_model::Code;
use photofinish_objects::PausesRecord;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::routes;

type App = State<Arc<Ingest>>;

pub(super) fn routes() -> Routes {
    Routes::default()
        .routes(routes!(list))
        .routes(routes!(change))
}

/// One of RunPod's endpoints.
#[derive(Debug, Serialize, ToSchema)]
struct EndpointShown {
    /// RunPod's id.
    id: String,
    /// It is given no new attempts; those that run go on.
    paused: bool,
    /// How it stood when the dispatcher last told; null: nobody has, of late.
    #[schema(required = true)]
    standing: Option<EndpointNote>,
}

#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes the body, which is read by hand")]
struct EndpointChange {
    /// True: it is given no new attempts.
    paused: bool,
}

impl Ingest {
    /// What dispatchers tell of their endpoints, by id; those that cannot be read are left out.
    pub(in crate::inbound) async fn endpoint_notes(
        &self,
    ) -> Result<BTreeMap<String, EndpointNote>, Refusal> {
        let noted = self.jobstore.endpoints_noted().await?;
        let read = |(id, json): (String, String)| Some((id, serde_json::from_str(&json).ok()?));
        Ok(noted.into_iter().filter_map(read).collect())
    }
}

/// RunPod's endpoints, as far as a dispatcher has told of them or an operator has paused them.
#[utoipa::path(get, path = "/v1/admin/endpoints", tag = "admin", params(PageParams),
    responses((status = 200, body = Page<EndpointShown>, description = "A page of them, by id")))]
async fn list(
    State(ingest): App,
    _: AsOperator,
    query: RawQuery,
) -> Result<Json<Page<EndpointShown>>, Refusal> {
    let mut params = Params::of(query)?;
    let (limit, cursor) = (params.limit(), params.cursor());
    params.done()?;
    let pauses = ingest.pauses().await?;
    let mut notes: BTreeMap<String, Option<EndpointNote>> = ingest
        .endpoint_notes()
        .await?
        .into_iter()
        .map(|(id, note)| (id, Some(note)))
        .collect();
    for id in &pauses.endpoints {
        notes.entry(id.clone()).or_insert(None);
    }
    let row = |(id, standing): (String, Option<EndpointNote>)| {
        let paused = pauses.endpoints.contains(&id);
        (
            id.clone(),
            EndpointShown {
                id,
                paused,
                standing,
            },
        )
    };
    let rows = notes.into_iter().map(row).collect();
    Ok(Json(Page::cut(rows, limit, cursor.as_deref())))
}

/// Pause one of RunPod's endpoints, or let it go on.
///
/// While it is paused it is given no new attempts, within a second or two; those that run go on to their end.
#[utoipa::path(patch, path = "/v1/admin/endpoints/{id}", tag = "admin",
    params(("id" = String, Path, description = "RunPod's id")),
    request_body = EndpointChange,
    responses((status = 200, body = EndpointShown, description = "The endpoint as it is now")))]
async fn change(
    State(ingest): App,
    operator: AsOperator,
    Path(id): Path<String>,
    JsonBody(sent): JsonBody,
) -> Result<Json<EndpointShown>, Refusal> {
    let mut body = Body::of(&sent, &["paused"])?;
    let paused = body.flag("paused", true);
    body.done()?;
    let paused = paused.unwrap_or_default();
    let standing = ingest.endpoint_notes().await?.remove(&id);
    if standing.is_none() && !ingest.pauses().await?.endpoints.contains(&id) {
        let detail = "no dispatcher has told of such an endpoint";
        return Err(Refusal::new(404, Code::NotFound, detail));
    }
    ingest
        .audit(&operator, "endpoint.change", &id, sent)
        .await?;
    let change = |mut pauses: PausesRecord| {
        if paused {
            pauses.endpoints.insert(id.clone());
        } else {
            pauses.endpoints.remove(&id);
        }
        pauses
    };
    ingest.change_pauses(change).await?;
    Ok(Json(EndpointShown {
        id,
        paused,
        standing,
    }))
}
