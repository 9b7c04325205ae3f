//! `/v1/jobs/{id}/plan`: how a job was split, for whoever follows its parts.

use super::Routes;
use crate::auth::AsTenant;
use crate::core::Ingest;
use crate::error::Refusal;
use crate::problems::Path;
use axum::Json;
use axum::extract::State;
use photofinish_model::plan::PartPlan;
use photofinish_model::{Code, ItemIndex, JobId};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::routes;

pub(super) fn routes() -> Routes {
    Routes::default().routes(routes!(show))
}

/// The plan of a job's current run.
#[derive(Debug, Serialize, ToSchema)]
struct RunPlan {
    /// The run; a retry's plan has only what had not succeeded.
    run: u32,
    /// What each GPU attempt does.
    parts: Vec<PartOfRun>,
}

/// One part of a run.
#[derive(Debug, Serialize, ToSchema)]
struct PartOfRun {
    /// Which, from 0.
    part: u16,
    /// Places in the request.
    items: Vec<ItemIndex>,
}

impl From<PartPlan> for PartOfRun {
    fn from(planned: PartPlan) -> Self {
        Self {
            part: planned.part,
            items: planned.items,
        }
    }
}

/// How the current run of a job was split, as it was planned.
///
/// 404 also for a moment after the job was accepted: it is planned by then, or a moment later.
#[utoipa::path(get, path = "/v1/jobs/{id}/plan", tag = "jobs",
    params(("id" = JobId, Path, description = "The job")),
    responses((status = 200, body = RunPlan, description = "The parts of the run")))]
async fn show(
    State(ingest): State<Arc<Ingest>>,
    AsTenant(tenant): AsTenant,
    Path(id): Path<String>,
) -> Result<Json<RunPlan>, Refusal> {
    let job = ingest.find(&tenant, &id).await?;
    let planned = ingest.objects.run(&tenant, &job.job, job.run).await?;
    let planned = planned.ok_or_else(|| {
        let detail = "this run is not planned yet; ask again in a moment";
        Refusal::new(404, Code::NotFound, detail)
    })?;
    let parts = planned.plan.into_iter().map(PartOfRun::from).collect();
    Ok(Json(RunPlan {
        run: planned.run,
        parts,
    }))
}
