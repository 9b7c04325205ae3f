//! `/v1/admin/tenants`: made, looked at, limited, paused; what they use; a job of theirs deleted.

use super::Body;
use super::limits::{LimitsWish, QuotasWish, RetentionWish};
use crate::auth::AsOperator;
use crate::core::Ingest;
use crate::error::Refusal;
use crate::inbound::Routes;
use crate::inbound::query::{Page, PageParams, Params, RawQuery};
use crate::problems::{JsonBody, Path};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use photofinish_contract::job::Cost;
use photofinish_contract::problem::Problem;
use photofinish_model::quota::{Quotas, Retention};
use photofinish_model::{Code, JobId, Tenant};
use photofinish_objects::{PausesRecord, TenantRecord};
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::routes;

type App = State<Arc<Ingest>>;

pub(super) fn routes() -> Routes {
    Routes::default()
        .routes(routes!(create, list))
        .routes(routes!(show, change))
        .routes(routes!(usage))
        .routes(routes!(remove_job))
}

/// A tenant.
#[derive(Debug, Serialize, ToSchema)]
struct TenantShown {
    /// Its name.
    id: Tenant,
    /// The lane in which its parts wait.
    lane: u16,
    created_at: Timestamp,
    /// Nothing of it is granted a worker; its jobs are taken, and wait.
    paused: bool,
    /// Its own limits; null: the deployment's.
    quotas: Quotas,
    /// How long its files are kept.
    retention: Retention,
    /// Signs the webhooks of its jobs' own `webhook_url`; shown when it is made, and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook_secret: Option<String>,
}

/// What a tenant uses.
#[derive(Debug, Serialize, ToSchema)]
struct TenantUsage {
    /// The day, UTC.
    #[schema(example = "2026-11-23")]
    day: String,
    /// Seconds of GPU of the day so far.
    gpu_seconds: f64,
    /// Estimated cost of the day so far; null: no endpoint has a price.
    #[schema(required = true)]
    cost: Option<Cost>,
    /// Jobs that have not ended.
    jobs_waiting: u64,
    /// The limits that count for it, the deployment's where it has none of its own.
    quotas: Quotas,
}

#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes the body, which is read by hand")]
struct TenantWish {
    /// The name: the first part of its keys in the bucket, and its AMQP user's.
    #[schema(pattern = "^[a-z0-9-]{1,63}$")]
    id: String,
    quotas: Option<QuotasWish>,
    retention: Option<RetentionWish>,
}

#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes the body, which is read by hand")]
struct TenantChange {
    /// A limit that is not given stays as it is; null: the deployment's.
    quotas: Option<QuotasWish>,
    retention: Option<RetentionWish>,
    /// True: nothing more of it is granted a worker.
    paused: Option<bool>,
}

fn shown(record: &TenantRecord, pauses: &PausesRecord, secret: Option<String>) -> TenantShown {
    TenantShown {
        id: record.tenant.clone(),
        lane: record.lane,
        created_at: record.created_at,
        paused: pauses.tenants.contains(&record.tenant),
        quotas: record.quotas,
        retention: record.retention,
        webhook_secret: secret,
    }
}

/// A new tenant.
///
/// 201 with its webhook secret, which is never shown again; 200 without it when the tenant is there already: then
/// nothing of it is changed.
#[utoipa::path(post, path = "/v1/admin/tenants", tag = "admin",
    request_body(content = TenantWish, example = json!({"id": "acme", "quotas": {"jobs_waiting_max": 1000}})),
    responses((status = 201, body = TenantShown, description = "The tenant, with its webhook secret"),
        (status = 200, body = TenantShown, description = "The tenant that is there")))]
async fn create(
    State(ingest): App,
    operator: AsOperator,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<TenantShown>), Refusal> {
    let mut body = Body::of(&body, &["id", "quotas", "retention"])?;
    let name = body.text("id", true);
    let tenant: Option<Tenant> = name.and_then(|name| {
        name.parse().ok().or_else(|| {
            let detail = "must be 1 to 63 of a-z, 0-9 and -".to_owned();
            body.fault("id", Code::NotAllowed, detail);
            None
        })
    });
    let wish = LimitsWish::read(&mut body);
    body.done()?;
    let tenant = tenant.ok_or_else(|| Refusal::not_found("tenant"))?;
    let (quotas, retention) = wish.applied(Quotas::default(), Retention::default());
    let detail = json!({"quotas": quotas, "retention": retention});
    ingest
        .audit(&operator, "tenant.create", tenant.as_str(), detail)
        .await?;
    let made = ingest.make_tenant_with(&tenant, quotas, retention).await?;
    let pauses = ingest.pauses().await?;
    if let Some((record, secret)) = made {
        return Ok((
            StatusCode::CREATED,
            Json(shown(&record, &pauses, Some(secret))),
        ));
    }
    let record = ingest.known_tenant(tenant.as_str()).await?;
    Ok((StatusCode::OK, Json(shown(&record, &pauses, None))))
}

/// The tenants.
#[utoipa::path(get, path = "/v1/admin/tenants", tag = "admin", params(PageParams),
    responses((status = 200, body = Page<TenantShown>, description = "A page of them, by name")))]
async fn list(
    State(ingest): App,
    _: AsOperator,
    query: RawQuery,
) -> Result<Json<Page<TenantShown>>, Refusal> {
    let mut params = Params::of(query)?;
    let (limit, cursor) = (params.limit(), params.cursor());
    params.done()?;
    let pauses = ingest.pauses().await?;
    let row = |record: TenantRecord| (record.tenant.to_string(), shown(&record, &pauses, None));
    let rows = ingest.tenants().await?.into_iter().map(row).collect();
    Ok(Json(Page::cut(rows, limit, cursor.as_deref())))
}

/// A tenant.
#[utoipa::path(get, path = "/v1/admin/tenants/{tenant}", tag = "admin",
    params(("tenant" = Tenant, Path, description = "The tenant")),
    responses((status = 200, body = TenantShown, description = "The tenant")))]
async fn show(
    State(ingest): App,
    _: AsOperator,
    Path(name): Path<String>,
) -> Result<Json<TenantShown>, Refusal> {
    let record = ingest.known_tenant(&name).await?;
    Ok(Json(shown(&record, &ingest.pauses().await?, None)))
}

/// Change a tenant: its limits, how long its files are kept, whether it is paused.
///
/// What is not given stays as it is. A paused tenant's jobs are taken and wait; its attempts that run go on to their
/// end.
#[utoipa::path(patch, path = "/v1/admin/tenants/{tenant}", tag = "admin",
    params(("tenant" = Tenant, Path, description = "The tenant")),
    request_body(content = TenantChange, example = json!({"paused": true})),
    responses((status = 200, body = TenantShown, description = "The tenant as it is now")))]
async fn change(
    State(ingest): App,
    operator: AsOperator,
    Path(name): Path<String>,
    JsonBody(sent): JsonBody,
) -> Result<Json<TenantShown>, Refusal> {
    let mut body = Body::of(&sent, &["quotas", "retention", "paused"])?;
    let wish = LimitsWish::read(&mut body);
    let paused = body.flag("paused", false);
    body.done()?;
    let mut record = ingest.known_tenant(&name).await?;
    let tenant = record.tenant.clone();
    ingest
        .audit(&operator, "tenant.change", tenant.as_str(), sent)
        .await?;
    if !wish.is_empty() {
        let had = record.retention;
        let changed = ingest.change_record(
            TenantRecord::KIND,
            tenant.as_str(),
            |record: TenantRecord| {
                let (quotas, retention) = wish.applied(record.quotas, record.retention);
                Ok(TenantRecord {
                    quotas,
                    retention,
                    ..record
                })
            },
        );
        record = changed.await?.ok_or_else(|| Refusal::not_found("tenant"))?;
        ingest.limits.forget(&tenant);
        if record.retention.is_limited() && !had.is_limited() {
            // Ends were not noted while nothing was due.
            ingest.jobstore.set_ended_whole(&tenant, false).await?;
        }
    }
    if let Some(paused) = paused {
        ingest.pause_tenant(&tenant, paused).await?;
    }
    Ok(Json(shown(&record, &ingest.pauses().await?, None)))
}

/// What a tenant uses today.
#[utoipa::path(get, path = "/v1/admin/tenants/{tenant}/usage", tag = "admin",
    params(("tenant" = Tenant, Path, description = "The tenant")),
    responses((status = 200, body = TenantUsage, description = "Its use, and the limits that count for it")))]
async fn usage(
    State(ingest): App,
    _: AsOperator,
    Path(name): Path<String>,
) -> Result<Json<TenantUsage>, Refusal> {
    let record = ingest.known_tenant(&name).await?;
    let (day, standing) = ingest.standing(&record.tenant).await?;
    let priced = ingest.config.usd_per_gpu_second.is_some() || standing.cost_usd > 0.0;
    Ok(Json(TenantUsage {
        day,
        gpu_seconds: standing.gpu_seconds,
        cost: priced.then(|| Cost {
            amount: standing.cost_usd,
            currency: "USD".to_owned(),
        }),
        jobs_waiting: standing.jobs,
        quotas: record.quotas.or(ingest.config.quotas),
    }))
}

/// Delete everything of a finished job: its outputs, its documents, its record, its idempotency key.
#[utoipa::path(delete, path = "/v1/admin/tenants/{tenant}/jobs/{job}", tag = "admin",
    params(("tenant" = Tenant, Path, description = "The tenant"), ("job" = JobId, Path, description = "The job")),
    responses((status = 204, description = "It is gone"),
        (status = 409, body = Problem, description = "It has not ended")))]
async fn remove_job(
    State(ingest): App,
    operator: AsOperator,
    Path((name, id)): Path<(String, String)>,
) -> Result<StatusCode, Refusal> {
    let record = ingest.known_tenant(&name).await?;
    let job = ingest.find(&record.tenant, &id).await?;
    let target = format!("{}/{}", job.tenant, job.job);
    ingest
        .audit(&operator, "job.delete", &target, Value::Null)
        .await?;
    ingest.remove_job(&job).await?;
    Ok(StatusCode::NO_CONTENT)
}
