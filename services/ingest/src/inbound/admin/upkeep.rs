//! `/v1/admin/rebuild`, `/v1/admin/bucket/lifecycle`: what an operator has us do for the stores.

use crate::auth::AsOperator;
use crate::core::Ingest;
use crate::error::Refusal;
use crate::inbound::Routes;
use crate::inbound::query::{Page, Params, RawQuery};
use crate::rebuild::Place;
use axum::Json;
use axum::extract::State;
use photofinish_contract::upkeep::{BucketLifecycle, BucketRule, LifecycleState, Rebuilt};
use photofinish_model::Code;
use photofinish_objects::{Lifecycle, LifecycleRule};
use serde_json::json;
use std::sync::Arc;
use utoipa_axum::routes;

pub(super) fn routes() -> Routes {
    Routes::default()
        .routes(routes!(rebuild))
        .routes(routes!(lifecycle, apply_lifecycle))
}

/// Redis made again from the bucket, some thousand jobs with each call.
///
/// Call it until `next_cursor` is null; the sums are of this call alone. Nothing has to be stopped for it, and again it
/// changes nothing. What is in flight comes back without it.
#[utoipa::path(post, path = "/v1/admin/rebuild", tag = "admin",
    params(("cursor" = Option<String>, Query, description = "As `next_cursor` of the call before gave it")),
    responses((status = 200, body = Rebuilt, description = "What was looked at")))]
async fn rebuild(
    State(ingest): State<Arc<Ingest>>,
    operator: AsOperator,
    query: RawQuery,
) -> Result<Json<Rebuilt>, Refusal> {
    let mut params = Params::of(query)?;
    let cursor = params.cursor();
    params.done()?;
    let from = match cursor {
        Some(text) => Some(Place::parse(&text).ok_or_else(|| {
            let detail = "send `cursor` as `next_cursor` gave it";
            Refusal::new(422, Code::InvalidRequest, detail)
        })?),
        None => None,
    };
    if from.is_none() {
        ingest
            .audit(&operator, "redis.rebuild", "redis", json!({}))
            .await?;
    }
    let (found, next) = ingest.rebuild(from).await?;
    Ok(Json(Rebuilt {
        next_cursor: next.map(|place| Page::<Rebuilt>::cursor(&place.text())),
        ..found
    }))
}

/// The bucket's lifecycle rules, and those that the deployment wants.
#[utoipa::path(get, path = "/v1/admin/bucket/lifecycle", tag = "admin",
    responses((status = 200, body = BucketLifecycle, description = "Both")))]
async fn lifecycle(
    State(ingest): State<Arc<Ingest>>,
    _operator: AsOperator,
) -> Result<Json<BucketLifecycle>, Refusal> {
    let wanted = ingest.lifecycle_wanted();
    Ok(Json(shown(&wanted, ingest.objects.lifecycle().await?)))
}

/// Puts the rules that the deployment wants, beside all others; again it changes nothing.
#[utoipa::path(put, path = "/v1/admin/bucket/lifecycle", tag = "admin",
    responses((status = 200, body = BucketLifecycle, description = "How it is now: the bucket may not take rules")))]
async fn apply_lifecycle(
    State(ingest): State<Arc<Ingest>>,
    operator: AsOperator,
) -> Result<Json<BucketLifecycle>, Refusal> {
    let wanted = ingest.lifecycle_wanted();
    let detail = json!(wanted.iter().map(rule).collect::<Vec<_>>());
    ingest
        .audit(&operator, "bucket.lifecycle", "bucket", detail)
        .await?;
    let found = ingest.objects.apply_lifecycle(&wanted).await?;
    Ok(Json(shown(&wanted, found)))
}

impl Ingest {
    /// The lifecycle rules that go with our settings.
    pub(crate) fn lifecycle_wanted(&self) -> Vec<LifecycleRule> {
        self.objects.lifecycle_wanted(self.config.input_ttl)
    }
}

fn rule(rule: &LifecycleRule) -> BucketRule {
    BucketRule {
        id: rule.id.clone(),
        prefix: rule.prefix.clone(),
        abort_days: rule.abort_days,
        expire_days: rule.expire_days,
    }
}

fn shown(wanted: &[LifecycleRule], answer: Lifecycle) -> BucketLifecycle {
    let covered = |rule: &LifecycleRule| {
        let aborts = rule.abort_days.is_none() || answer.aborts_under(&rule.prefix).is_some();
        let expires = rule.expire_days.is_none() || answer.expires_under(&rule.prefix).is_some();
        aborts && expires
    };
    let all = wanted.iter().all(covered);
    let (state, found, detail) = match answer {
        Lifecycle::NotKnown(why) => (LifecycleState::NotKnown, Vec::new(), Some(why)),
        Lifecycle::Rules(rules) if all => (LifecycleState::InForce, rules, None),
        Lifecycle::Rules(rules) => (LifecycleState::Missing, rules, None),
    };
    BucketLifecycle {
        state,
        wanted: wanted.iter().map(rule).collect(),
        found: found.iter().map(rule).collect(),
        detail,
    }
}
