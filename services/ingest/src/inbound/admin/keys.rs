//! API keys, of tenants and of operators: made and shown once, listed, revoked.

use super::Body;
use crate::auth::{AsOperator, SHOWN_CHARS, key_hash};
use crate::core::Ingest;
use crate::error::Refusal;
use crate::inbound::Routes;
use crate::inbound::query::{Page, PageParams, Params, RawQuery};
use crate::problems::{MaybeJsonBody, Path};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use photofinish_model::{Code, Tenant};
use photofinish_objects::{KeyRecord, KeyScope};
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::routes;

/// Characters of a description at most.
const DESCRIPTION_CHARS_MAX: usize = 200;

type App = State<Arc<Ingest>>;

pub(super) fn routes() -> Routes {
    Routes::default()
        .routes(routes!(create_key, list_keys))
        .routes(routes!(revoke_key))
        .routes(routes!(create_operator_key, list_operator_keys))
        .routes(routes!(revoke_operator_key))
}

/// An API key.
#[derive(Debug, Serialize, ToSchema)]
struct KeyShown {
    /// Its id: a hash, which opens nothing.
    id: String,
    /// Whose it is; null: an operator's.
    #[schema(required = true)]
    tenant: Option<Tenant>,
    /// Its first characters.
    prefix: String,
    /// What it is for.
    #[schema(required = true)]
    description: Option<String>,
    /// The key itself; shown when it is made, and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    created_at: Timestamp,
    /// When it was last used, to the minute; null: never, or not known any more.
    #[schema(required = true)]
    last_used_at: Option<Timestamp>,
    /// True: it opens nothing any more.
    revoked: bool,
}

#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes the body, which is read by hand")]
struct KeyWish {
    /// What it is for.
    #[schema(max_length = 200)]
    description: Option<String>,
}

fn shown(record: KeyRecord, last_used_at: Option<Timestamp>) -> KeyShown {
    KeyShown {
        id: record.key_hash,
        tenant: match record.scope {
            KeyScope::Tenant(tenant) => Some(tenant),
            KeyScope::Operator => None,
        },
        prefix: record.prefix,
        description: record.description,
        key: None,
        created_at: record.created_at,
        last_used_at,
        revoked: record.revoked,
    }
}

fn description(body: Option<&Value>) -> Result<Option<String>, Refusal> {
    let Some(body) = body else {
        return Ok(None);
    };
    let mut body = Body::of(body, &["description"])?;
    let description = body.text("description", false);
    let chars = description.as_ref().map_or(0, |text| text.chars().count());
    if chars > DESCRIPTION_CHARS_MAX {
        let detail = format!("has at most {DESCRIPTION_CHARS_MAX} characters");
        body.fault("description", Code::OutOfRange, detail);
    }
    body.done()?;
    Ok(description)
}

/// The word of a key's owner in the log of acts.
fn owner(scope: &KeyScope) -> String {
    match scope {
        KeyScope::Tenant(tenant) => tenant.to_string(),
        KeyScope::Operator => "operators".to_owned(),
    }
}

impl Ingest {
    async fn make_key(
        &self,
        operator: &AsOperator,
        scope: KeyScope,
        description: Option<String>,
    ) -> Result<(StatusCode, Json<KeyShown>), Refusal> {
        let key = self.config.key_tags.new_key();
        let record = KeyRecord {
            key_hash: key_hash(&key),
            scope,
            revoked: false,
            prefix: key.chars().take(SHOWN_CHARS).collect(),
            description,
            created_at: self.now(),
        };
        let detail = json!({"id": record.key_hash, "description": record.description});
        self.audit(operator, "key.create", &owner(&record.scope), detail)
            .await?;
        self.make_record(KeyRecord::KIND, &record.key_hash, &record)
            .await?;
        let mut shown = shown(record, None);
        shown.key = Some(key);
        Ok((StatusCode::CREATED, Json(shown)))
    }

    async fn keys_of(
        &self,
        scope: &KeyScope,
        query: RawQuery,
    ) -> Result<Json<Page<KeyShown>>, Refusal> {
        let mut params = Params::of(query)?;
        let (limit, cursor) = (params.limit(), params.cursor());
        params.done()?;
        let rows: Vec<(String, u64, KeyRecord)> =
            self.objects.system_list(KeyRecord::KIND, "").await?;
        let own: Vec<KeyRecord> = rows
            .into_iter()
            .map(|(_, _, record)| record)
            .filter(|record| record.scope == *scope)
            .collect();
        let hashes: Vec<&str> = own.iter().map(|record| record.key_hash.as_str()).collect();
        // Without Redis nobody knows when; the list is worth more than that.
        let used = self.jobstore.keys_used(&hashes).await.unwrap_or_default();
        let used = used.into_iter().chain(std::iter::repeat(None));
        // In the order in which they were made.
        let mut rows: Vec<(String, KeyShown)> = own
            .into_iter()
            .zip(used)
            .map(|(record, used)| {
                let order = format!("{}.{}", record.created_at, record.key_hash);
                (order, shown(record, used))
            })
            .collect();
        rows.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(Json(Page::cut(rows, limit, cursor.as_deref())))
    }

    async fn revoke(
        &self,
        operator: &AsOperator,
        scope: &KeyScope,
        id: &str,
    ) -> Result<StatusCode, Refusal> {
        let unknown = || Refusal::new(404, Code::NotFound, "there is no such key");
        if id.len() != 64 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(unknown());
        }
        let kind = KeyRecord::KIND;
        let there: Option<(u64, KeyRecord)> = self.objects.system_get(kind, id).await?;
        there
            .filter(|(_, record)| record.scope == *scope)
            .ok_or_else(unknown)?;
        self.audit(operator, "key.revoke", &owner(scope), json!({"id": id}))
            .await?;
        let revoke = |record: KeyRecord| {
            Ok(KeyRecord {
                revoked: true,
                ..record
            })
        };
        let changed = self.change_record(kind, id, revoke).await?;
        changed.map(|_| StatusCode::NO_CONTENT).ok_or_else(unknown)
    }

    async fn tenant_scope(&self, name: &str) -> Result<KeyScope, Refusal> {
        Ok(KeyScope::Tenant(self.known_tenant(name).await?.tenant))
    }
}

/// A new API key of a tenant, shown once.
#[utoipa::path(post, path = "/v1/admin/tenants/{tenant}/keys", tag = "admin",
    params(("tenant" = Tenant, Path, description = "The tenant")),
    request_body = Option<KeyWish>,
    responses((status = 201, body = KeyShown, description = "The key")))]
async fn create_key(
    State(ingest): App,
    operator: AsOperator,
    Path(tenant): Path<String>,
    MaybeJsonBody(body): MaybeJsonBody,
) -> Result<(StatusCode, Json<KeyShown>), Refusal> {
    let description = description(body.as_ref())?;
    let scope = ingest.tenant_scope(&tenant).await?;
    ingest.make_key(&operator, scope, description).await
}

/// The API keys of a tenant.
#[utoipa::path(get, path = "/v1/admin/tenants/{tenant}/keys", tag = "admin",
    params(("tenant" = Tenant, Path, description = "The tenant"), PageParams),
    responses((status = 200, body = Page<KeyShown>, description = "A page of them, the oldest first")))]
async fn list_keys(
    State(ingest): App,
    _: AsOperator,
    Path(tenant): Path<String>,
    query: RawQuery,
) -> Result<Json<Page<KeyShown>>, Refusal> {
    let scope = ingest.tenant_scope(&tenant).await?;
    ingest.keys_of(&scope, query).await
}

/// Revoke an API key of a tenant; again is harmless.
#[utoipa::path(delete, path = "/v1/admin/tenants/{tenant}/keys/{key}", tag = "admin",
    params(("tenant" = Tenant, Path, description = "The tenant"),
        ("key" = String, Path, description = "The key's id")),
    responses((status = 204, description = "It is refused from now on, everywhere within 30 s")))]
async fn revoke_key(
    State(ingest): App,
    operator: AsOperator,
    Path((tenant, id)): Path<(String, String)>,
) -> Result<StatusCode, Refusal> {
    let scope = ingest.tenant_scope(&tenant).await?;
    ingest.revoke(&operator, &scope, &id).await
}

/// A new operator's key, shown once.
#[utoipa::path(post, path = "/v1/admin/operator-keys", tag = "admin",
    request_body = Option<KeyWish>,
    responses((status = 201, body = KeyShown, description = "The key")))]
async fn create_operator_key(
    State(ingest): App,
    operator: AsOperator,
    MaybeJsonBody(body): MaybeJsonBody,
) -> Result<(StatusCode, Json<KeyShown>), Refusal> {
    let description = description(body.as_ref())?;
    ingest
        .make_key(&operator, KeyScope::Operator, description)
        .await
}

/// The operators' keys; the one of the configuration is none of them.
#[utoipa::path(get, path = "/v1/admin/operator-keys", tag = "admin", params(PageParams),
    responses((status = 200, body = Page<KeyShown>, description = "A page of them, the oldest first")))]
async fn list_operator_keys(
    State(ingest): App,
    _: AsOperator,
    query: RawQuery,
) -> Result<Json<Page<KeyShown>>, Refusal> {
    ingest.keys_of(&KeyScope::Operator, query).await
}

/// Revoke an operator's key; again is harmless.
#[utoipa::path(delete, path = "/v1/admin/operator-keys/{key}", tag = "admin",
    params(("key" = String, Path, description = "The key's id")),
    responses((status = 204, description = "It is refused from now on, everywhere within 30 s")))]
async fn revoke_operator_key(
    State(ingest): App,
    operator: AsOperator,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    ingest.revoke(&operator, &KeyScope::Operator, &id).await
}
