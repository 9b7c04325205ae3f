//! Who calls: the tenant of an API key, or the operator.

use crate::core::Ingest;
use crate::error::Refusal;
use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use photofinish_model::{Code, Tenant};
use photofinish_objects::KeyScope;
use secrecy::ExposeSecret as _;
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// What every API key begins with.
const KEY_PREFIX: &str = "pf_";
/// Characters of a key that are kept for people.
pub(crate) const SHOWN_CHARS: usize = 8;

/// A caller with a tenant's key.
#[derive(Debug, Clone)]
pub(crate) struct AsTenant(pub(crate) Tenant);

/// A caller with the operator's key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AsOperator;

/// A new API key.
pub(crate) fn new_key() -> String {
    format!(
        "{KEY_PREFIX}{}",
        URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
    )
}

/// Under what a key is kept. Keys are 256 random bits, so a plain hash is enough.
pub(crate) fn key_hash(key: &str) -> String {
    hex::encode(Sha256::digest(key))
}

impl Ingest {
    async fn scope_of(&self, key: &str) -> Result<KeyScope, Refusal> {
        if let Some(operator) = &self.config.operator_key {
            // Hashes are compared, so the time it takes tells nothing about the key.
            if Sha256::digest(operator.expose_secret()) == Sha256::digest(key) {
                return Ok(KeyScope::Operator);
            }
        }
        if !key.starts_with(KEY_PREFIX) {
            return Err(unauthorized());
        }
        match self.key_record(&key_hash(key)).await? {
            Some(record) if !record.revoked => Ok(record.scope),
            Some(_) | None => Err(unauthorized()),
        }
    }
}

fn unauthorized() -> Refusal {
    let detail = "send a valid API key as `Authorization: Bearer <key>`";
    Refusal::new(401, Code::Unauthorized, detail)
}

/// The key of a call: a bearer token, or `X-API-Key` as the old system had it.
fn key_of(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
    });
    bearer.or_else(|| headers.get("x-api-key")?.to_str().ok())
}

impl FromRequestParts<Arc<Ingest>> for AsTenant {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, ingest: &Arc<Ingest>) -> Result<Self, Refusal> {
        let key = key_of(&parts.headers).ok_or_else(unauthorized)?;
        match ingest.scope_of(key).await? {
            KeyScope::Tenant(tenant) => Ok(Self(tenant)),
            KeyScope::Operator => {
                let detail = "this is the operator's key; use a key of the tenant";
                Err(Refusal::new(403, Code::Forbidden, detail))
            }
        }
    }
}

impl FromRequestParts<Arc<Ingest>> for AsOperator {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, ingest: &Arc<Ingest>) -> Result<Self, Refusal> {
        let key = key_of(&parts.headers).ok_or_else(unauthorized)?;
        match ingest.scope_of(key).await? {
            KeyScope::Operator => Ok(Self),
            KeyScope::Tenant(_) => Err(Refusal::new(
                403,
                Code::Forbidden,
                "only an operator's key may do this",
            )),
        }
    }
}
