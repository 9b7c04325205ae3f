//! Who is asking.

use crate::core::Core;
use crate::error::Fault;
use crate::refusal::Refusal;
use axum::http::{HeaderMap, header};
use photofinish_model::{Code, Tenant};
use photofinish_objects::{KeyRecord, KeyScope};
use secrecy::ExposeSecret;
use sha2::{Digest as _, Sha256};

/// What every API key begins with.
pub const KEY_PREFIX: &str = "pf_";

/// The record id of an API key: its SHA-256.
pub fn key_hash(key: &str) -> String {
    hex::encode(Sha256::digest(key))
}

impl Core {
    /// The tenant of the request's API key.
    pub async fn tenant(&self, headers: &HeaderMap) -> Result<Tenant, Fault> {
        let Some(key) = bearer(headers) else {
            return Err(unauthorized("send the API key as `Authorization: Bearer …`").into());
        };
        let record: Option<KeyRecord> = self.system(KeyRecord::KIND, &key_hash(key)).await?;
        match record {
            Some(KeyRecord { revoked: false, scope: KeyScope::Tenant(tenant), .. }) => Ok(tenant),
            Some(KeyRecord { revoked: false, scope: KeyScope::Operator, .. }) => Err(Refusal::new(
                403,
                Code::Forbidden,
                "an operator key opens /v1/admin only; use a tenant's key",
            )
            .into()),
            Some(KeyRecord { revoked: true, .. }) | None => {
                Err(unauthorized("the API key is not known, or it was revoked").into())
            }
        }
    }

    /// Lets operators pass.
    pub async fn operator(&self, headers: &HeaderMap) -> Result<(), Fault> {
        let Some(key) = bearer(headers) else {
            return Err(unauthorized("send an operator key as `Authorization: Bearer …`").into());
        };
        let wanted = &self.config.operator_key;
        // Hashes are compared, so the time says nothing about the key.
        if wanted.as_ref().is_some_and(|wanted| key_hash(wanted.expose_secret()) == key_hash(key)) {
            return Ok(());
        }
        let record: Option<KeyRecord> = self.system(KeyRecord::KIND, &key_hash(key)).await?;
        match record {
            Some(KeyRecord { revoked: false, scope: KeyScope::Operator, .. }) => Ok(()),
            Some(KeyRecord { revoked: false, scope: KeyScope::Tenant(_), .. }) => {
                Err(Refusal::new(403, Code::Forbidden, "this needs an operator key").into())
            }
            Some(KeyRecord { revoked: true, .. }) | None => {
                Err(unauthorized("the operator key is not known, or it was revoked").into())
            }
        }
    }
}

fn unauthorized(detail: &str) -> Refusal {
    Refusal::new(401, Code::Unauthorized, detail)
}

/// The old system's clients send `X-API-Key`.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let key = match authorization {
        Some(text) => text.strip_prefix("Bearer ").map(str::trim),
        None => headers.get("x-api-key").and_then(|value| value.to_str().ok()),
    };
    key.filter(|key| !key.is_empty())
}
