//! `/v1/admin`: tenants and API keys, for operators.

use crate::auth::{KEY_PREFIX, key_hash};
use crate::core::Core;
use crate::error::Fault;
use crate::inbound::jobs::json_body;
use crate::refusal::Refusal;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, post};
use axum::{Json, Router};
use base64::Engine as _;
use photofinish_model::{Code, Tenant};
use photofinish_objects::{KeyRecord, KeyScope, TenantRecord};
use rand::RngCore as _;
use serde_json::{Value, json};
use std::sync::Arc;

/// Random bytes of an API key and of a webhook secret.
const SECRET_BYTES: usize = 32;
/// Characters of a key that are shown later.
const SHOWN_CHARS: usize = 9;

/// The routes.
pub fn routes() -> Router<Arc<Core>> {
    Router::new()
        .route("/v1/admin/tenants", post(create_tenant).get(list_tenants))
        .route("/v1/admin/tenants/{tenant}/keys", post(create_key).get(list_keys))
        .route("/v1/admin/keys/{id}", delete(revoke_key))
}

fn secret() -> [u8; SECRET_BYTES] {
    let mut bytes = [0; SECRET_BYTES];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

/// A new webhook secret as Standard Webhooks wants it.
pub fn webhook_secret() -> String {
    format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode(secret()))
}

async fn create_tenant(
    State(core): State<Arc<Core>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Fault> {
    core.operator(&headers).await?;
    let body = json_body(body)?;
    let tenant: Tenant = body
        .get("id")
        .and_then(Value::as_str)
        .and_then(|id| id.parse().ok())
        .ok_or_else(|| Refusal::new(422, Code::InvalidRequest, "`id` is [a-z0-9-]{1,63}"))?;
    let existing: Vec<(String, u64, TenantRecord)> =
        core.objects.system_list(TenantRecord::KIND, "").await?;
    if existing.iter().any(|(_, _, record)| record.tenant == tenant) {
        return Err(Refusal::new(409, Code::Conflicting, "the tenant is there already").into());
    }
    let webhook_secret = webhook_secret();
    let lane = least_used(existing.iter().map(|(_, _, record)| record.lane), core.config.lanes);
    let record = TenantRecord {
        tenant: tenant.clone(),
        lane,
        secret_sealed: core.sealer.seal(&webhook_secret),
        created_at: core.clock.now(),
    };
    core.put_system(TenantRecord::KIND, tenant.as_str(), None, &record).await?;
    tracing::info!(%tenant, lane, "tenant made");
    let answer = json!({"id": tenant, "webhook_secret": webhook_secret,
        "created_at": record.created_at});
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

/// Up to as many tenants as there are lanes never share one.
fn least_used(used: impl Iterator<Item = u16>, lanes: u16) -> u16 {
    let mut counts = vec![0u32; usize::from(lanes.max(1))];
    for lane in used {
        if let Some(count) = counts.get_mut(usize::from(lane)) {
            *count += 1;
        }
    }
    let least = counts.iter().enumerate().min_by_key(|(_, count)| **count);
    least.map_or(0, |(lane, _)| lane as u16)
}

async fn list_tenants(
    State(core): State<Arc<Core>>,
    headers: HeaderMap,
) -> Result<Json<Value>, Fault> {
    core.operator(&headers).await?;
    let records: Vec<(String, u64, TenantRecord)> =
        core.objects.system_list(TenantRecord::KIND, "").await?;
    let data: Vec<Value> = records
        .iter()
        .map(|(_, _, record)| {
            json!({"id": record.tenant, "lane": record.lane, "created_at": record.created_at})
        })
        .collect();
    Ok(Json(json!({"data": data, "next_cursor": null})))
}

async fn create_key(
    State(core): State<Arc<Core>>,
    headers: HeaderMap,
    Path(tenant): Path<String>,
) -> Result<Response, Fault> {
    core.operator(&headers).await?;
    let tenant: Tenant = tenant.parse().map_err(|_| Refusal::not_found("tenant"))?;
    let known: Option<TenantRecord> = core.system(TenantRecord::KIND, tenant.as_str()).await?;
    if known.is_none() {
        return Err(Refusal::not_found("tenant").into());
    }
    let random = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(secret());
    let key = format!("{KEY_PREFIX}{random}");
    let id = key_hash(&key);
    let record = KeyRecord {
        key_hash: id.clone(),
        scope: KeyScope::Tenant(tenant.clone()),
        revoked: false,
        prefix: key.chars().take(SHOWN_CHARS).collect(),
        created_at: core.clock.now(),
    };
    core.put_system(KeyRecord::KIND, &id, None, &record).await?;
    tracing::info!(%tenant, key = record.prefix, "API key made");
    let answer = json!({"id": id, "key": key, "prefix": record.prefix, "tenant": tenant,
        "created_at": record.created_at});
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

async fn list_keys(
    State(core): State<Arc<Core>>,
    headers: HeaderMap,
    Path(tenant): Path<String>,
) -> Result<Json<Value>, Fault> {
    core.operator(&headers).await?;
    let records: Vec<(String, u64, KeyRecord)> =
        core.objects.system_list(KeyRecord::KIND, "").await?;
    let mine = |record: &KeyRecord| match &record.scope {
        KeyScope::Tenant(owner) => owner.as_str() == tenant,
        KeyScope::Operator => false,
    };
    let data: Vec<Value> = records
        .iter()
        .filter(|(_, _, record)| mine(record))
        .map(|(id, _, record)| {
            json!({"id": id, "prefix": record.prefix, "revoked": record.revoked,
                "created_at": record.created_at})
        })
        .collect();
    Ok(Json(json!({"data": data, "next_cursor": null})))
}

async fn revoke_key(
    State(core): State<Arc<Core>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<StatusCode, Fault> {
    core.operator(&headers).await?;
    if id.len() != 64 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Refusal::not_found("key").into());
    }
    let found: Option<(u64, KeyRecord)> = core.objects.system_get(KeyRecord::KIND, &id).await?;
    let Some((version, record)) = found else { return Err(Refusal::not_found("key").into()) };
    if !record.revoked {
        let revoked = KeyRecord { revoked: true, ..record };
        core.put_system(KeyRecord::KIND, &id, Some(version), &revoked).await?;
        tracing::info!(key = revoked.prefix, "API key revoked");
    }
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_share_no_lane_while_there_are_free_ones() {
        let mut used = Vec::new();
        for _ in 0..4 {
            used.push(least_used(used.iter().copied(), 4));
        }
        used.sort_unstable();
        assert_eq!(used, [0, 1, 2, 3]);
        assert_eq!(least_used([0, 1, 1].into_iter(), 2), 0);
    }
}
