//! `/v1/admin`: tenants and their API keys, for operators.

use crate::auth::{AsOperator, SHOWN_CHARS, key_hash, new_key};
use crate::core::Ingest;
use crate::error::Refusal;
use crate::problems::{JsonBody, Path};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use photofinish_contract::problem::{Problem, ProblemError};
use photofinish_model::{Code, Tenant};
use photofinish_objects::{KeyRecord, KeyScope, TenantRecord};
use serde_json::{Map, Value, json};
use std::sync::Arc;

type App = State<Arc<Ingest>>;

/// A small body: each field known, each fault named.
#[derive(Debug)]
pub(super) struct Body {
    fields: Map<String, Value>,
    errors: Vec<ProblemError>,
}

impl Body {
    pub(super) fn of(body: &Value, known: &[&str]) -> Result<Self, Refusal> {
        let Some(fields) = body.as_object() else {
            return Err(Refusal::new(
                422,
                Code::InvalidRequest,
                "the body must be an object",
            ));
        };
        let mut body = Self {
            fields: fields.clone(),
            errors: Vec::new(),
        };
        for name in fields.keys().filter(|name| !known.contains(&name.as_str())) {
            let detail = format!("no such field here; known are {}", known.join(", "));
            body.fault(name, Code::UnknownField, detail);
        }
        Ok(body)
    }

    /// A field; null counts as not given.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.fields.remove(name).filter(|value| !value.is_null())
    }

    pub(super) fn text(&mut self, name: &str, required: bool) -> Option<String> {
        match self.take(name) {
            Some(Value::String(text)) => return Some(text),
            Some(_) => self.fault(name, Code::WrongType, "must be a text".to_owned()),
            None if required => self.fault(name, Code::Required, "missing".to_owned()),
            None => {}
        }
        None
    }

    pub(super) fn fault(&mut self, name: &str, code: Code, detail: String) {
        self.errors.push(ProblemError {
            pointer: format!("/{name}"),
            code,
            detail,
        });
    }

    /// Every fault at once.
    pub(super) fn done(self) -> Result<(), Refusal> {
        if self.errors.is_empty() {
            return Ok(());
        }
        let problem = Problem::new(422, Code::InvalidRequest, "`errors` names each field");
        Err(Refusal::Problem(problem.with_errors(self.errors)))
    }
}

fn tenant_view(record: &TenantRecord) -> Value {
    json!({"id": record.tenant, "lane": record.lane, "created_at": record.created_at})
}

fn key_view(record: &KeyRecord) -> Value {
    json!({"id": record.key_hash, "prefix": record.prefix, "revoked": record.revoked,
        "created_at": record.created_at})
}

/// `POST /v1/admin/tenants`: 201 with its webhook secret, which is never shown again; 200 without it when the tenant
/// is there already.
pub(super) async fn create_tenant(
    State(ingest): App,
    AsOperator: AsOperator,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let mut body = Body::of(&body, &["id"])?;
    let name = body.text("id", true);
    let tenant: Option<Tenant> = name.and_then(|name| {
        let tenant = name.parse().ok();
        if tenant.is_none() {
            body.fault(
                "id",
                Code::NotAllowed,
                "must be 1 to 63 of a-z, 0-9 and -".to_owned(),
            );
        }
        tenant
    });
    body.done()?;
    let tenant = tenant.ok_or_else(|| Refusal::not_found("tenant"))?;
    if let Some((record, secret)) = ingest.make_tenant(&tenant).await? {
        let mut shown = tenant_view(&record);
        shown["webhook_secret"] = secret.into();
        return Ok((StatusCode::CREATED, Json(shown)));
    }
    let record = ingest.tenant_record(&tenant).await?;
    let record = record.ok_or_else(|| Refusal::not_found("tenant"))?;
    Ok((StatusCode::OK, Json(tenant_view(&record))))
}

/// `GET /v1/admin/tenants`
pub(super) async fn list_tenants(
    State(ingest): App,
    AsOperator: AsOperator,
) -> Result<Json<Value>, Refusal> {
    let rows: Vec<(String, u64, TenantRecord)> =
        ingest.objects.system_list(TenantRecord::KIND, "").await?;
    let rows: Vec<Value> = rows
        .iter()
        .map(|(_, _, record)| tenant_view(record))
        .collect();
    Ok(Json(json!({"data": rows, "next_cursor": null})))
}

async fn known_tenant(ingest: &Ingest, name: &str) -> Result<Tenant, Refusal> {
    let tenant: Tenant = name.parse().map_err(|_| Refusal::not_found("tenant"))?;
    match ingest.tenant_record(&tenant).await? {
        Some(_) => Ok(tenant),
        None => Err(Refusal::not_found("tenant")),
    }
}

/// `POST /v1/admin/tenants/{tenant}/keys`: 201 with the key, which is never shown again.
pub(super) async fn create_key(
    State(ingest): App,
    AsOperator: AsOperator,
    Path(tenant): Path<String>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let tenant = known_tenant(&ingest, &tenant).await?;
    let key = new_key();
    let record = KeyRecord {
        key_hash: key_hash(&key),
        scope: KeyScope::Tenant(tenant.clone()),
        revoked: false,
        prefix: key.chars().take(SHOWN_CHARS).collect(),
        created_at: ingest.now(),
    };
    ingest
        .make_record(KeyRecord::KIND, &record.key_hash, &record)
        .await?;
    let mut shown = key_view(&record);
    shown["tenant"] = tenant.as_str().into();
    shown["key"] = key.into();
    Ok((StatusCode::CREATED, Json(shown)))
}

/// `GET /v1/admin/tenants/{tenant}/keys`
pub(super) async fn list_keys(
    State(ingest): App,
    AsOperator: AsOperator,
    Path(tenant): Path<String>,
) -> Result<Json<Value>, Refusal> {
    let scope = KeyScope::Tenant(known_tenant(&ingest, &tenant).await?);
    let rows: Vec<(String, u64, KeyRecord)> =
        ingest.objects.system_list(KeyRecord::KIND, "").await?;
    let own = rows
        .iter()
        .map(|(_, _, record)| record)
        .filter(|record| record.scope == scope);
    let own: Vec<Value> = own.map(key_view).collect();
    Ok(Json(json!({"data": own, "next_cursor": null})))
}

/// `DELETE /v1/admin/tenants/{tenant}/keys/{key}`: refused from now on; again is harmless.
pub(super) async fn revoke_key(
    State(ingest): App,
    AsOperator: AsOperator,
    Path((tenant, id)): Path<(String, String)>,
) -> Result<StatusCode, Refusal> {
    let unknown = || Refusal::not_found("key");
    if id.len() != 64 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(unknown());
    }
    let scope = KeyScope::Tenant(tenant.parse().map_err(|_| unknown())?);
    let revoke = |record: KeyRecord| {
        if record.scope == scope {
            Ok(KeyRecord {
                revoked: true,
                ..record
            })
        } else {
            Err(unknown())
        }
    };
    let changed = ingest.change_record(KeyRecord::KIND, &id, revoke).await?;
    changed.map(|_| StatusCode::NO_CONTENT).ok_or_else(unknown)
}
