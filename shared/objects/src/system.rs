//! The operator's records: tenants, API keys, webhook endpoints. Each is a row of versions, put if
//! absent; the highest one counts, a revocation is a version.

use crate::store::PARALLEL_MAX;
use crate::{Objects, ObjectsError};
use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use object_store::path::Path;
use photofinish_contract::event::EventType;
use photofinish_contract::webhook::{EndpointDisabled, WebhookEndpoint};
use photofinish_model::Tenant;
use photofinish_model::quota::{Quotas, Retention};
use photofinish_model::webhook::{Cause, Failing, Former};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A tenant; the record's id is the tenant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TenantRecord {
    /// The tenant.
    pub tenant: Tenant,
    /// The lane in which its parts wait for slots.
    pub lane: u16,
    /// The secret that signs the webhooks of its jobs' own `webhook_url`, sealed.
    pub secret_sealed: String,
    /// Those before it that still sign.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former_secrets: Vec<Former>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Its limits.
    #[serde(default)]
    pub quotas: Quotas,
    /// How long its files are kept.
    #[serde(default)]
    pub retention: Retention,
}

/// An API key; the record's id is the key's hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// SHA-256 of the key, 64 hexadecimal digits; the key itself is kept nowhere.
    pub key_hash: String,
    /// What it opens.
    pub scope: KeyScope,
    /// True: it opens nothing any more.
    pub revoked: bool,
    /// The key's first characters, for people.
    pub prefix: String,
    /// What it is for, in the operator's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What an API key opens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyScope {
    /// The jobs of one tenant.
    Tenant(Tenant),
    /// `/v1/admin`.
    Operator,
}

/// A webhook endpoint of a tenant; the record's id is `{tenant}/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookEndpointRecord {
    /// `whe_…`
    pub id: String,
    /// Whose it is.
    pub tenant: Tenant,
    /// What is called.
    pub url: String,
    /// The event types it wants; empty: all but the opt-in ones.
    pub event_types: Vec<String>,
    /// The client's own words.
    pub description: Option<String>,
    /// Calls a second at most, if it is not the deployment's limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls_per_s: Option<u32>,
    /// False: nothing is sent.
    pub enabled: bool,
    /// Its signing secret, sealed.
    pub secret_sealed: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// True: gone for the client.
    pub deleted: bool,
    /// Secrets before this one that still sign.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former_secrets: Vec<Former>,
    /// A streak of failed calls that has lasted for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<Failing>,
    /// When and why we disabled it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<Disabled>,
    /// When its owner deleted it; records from before this was kept have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<Timestamp>,
    /// When its owner last enabled it: what was decided before is void.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled_at: Option<Timestamp>,
}

/// That a webhook endpoint was disabled by us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disabled {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub cause: Cause,
}

impl Disabled {
    /// As the endpoint's owner reads it.
    pub fn shown(self) -> EndpointDisabled {
        EndpointDisabled {
            at: self.at,
            cause: self.cause,
            detail: self.cause.detail().to_owned(),
        }
    }
}

impl TenantRecord {
    /// The kind of record.
    pub const KIND: &'static str = "tenant";

    /// A new one.
    pub fn new(tenant: Tenant, lane: u16, secret_sealed: String, created_at: Timestamp) -> Self {
        Self {
            tenant,
            lane,
            secret_sealed,
            former_secrets: Vec::new(),
            created_at,
            quotas: Quotas::default(),
            retention: Retention::default(),
        }
    }
}

impl KeyRecord {
    /// The kind of record.
    pub const KIND: &'static str = "key";
}

impl WebhookEndpointRecord {
    /// The kind of record.
    pub const KIND: &'static str = "webhook_endpoint";

    /// A new one, enabled, for all events but the opt-in ones.
    pub fn new(
        id: String,
        tenant: Tenant,
        url: String,
        secret_sealed: String,
        created_at: Timestamp,
    ) -> Self {
        Self {
            id,
            tenant,
            url,
            event_types: Vec::new(),
            description: None,
            calls_per_s: None,
            enabled: true,
            secret_sealed,
            created_at,
            deleted: false,
            deleted_at: None,
            former_secrets: Vec::new(),
            failing: None,
            disabled: None,
            enabled_at: None,
        }
    }

    /// As its owner reads it.
    pub fn shown(&self) -> WebhookEndpoint {
        let known = |name: &String| EventType::ALL.iter().find(|known| known.as_str() == name);
        WebhookEndpoint {
            id: self.id.clone(),
            url: self.url.clone(),
            event_types: self.event_types.iter().filter_map(known).copied().collect(),
            description: self.description.clone(),
            calls_per_s: self.calls_per_s,
            enabled: self.enabled,
            created_at: self.created_at,
            disabled: self.disabled.map(Disabled::shown),
            failing_since: self.failing.map(|failing| failing.since),
            secret: None,
            old_secret_until: None,
            replayed: None,
        }
    }

    /// The record's id: `{tenant}/{id}`.
    pub fn record_id(tenant: &Tenant, id: &str) -> String {
        format!("{tenant}/{id}")
    }
}

impl Objects {
    /// Writes the version after `expected` (nothing: the first one); gives its number. When
    /// somebody else wrote it: [`ObjectsError::Conflict`], read again and redo.
    pub async fn system_put<T: Serialize>(
        &self,
        kind: &str,
        id: &str,
        expected: Option<u64>,
        record: &T,
    ) -> Result<u64, ObjectsError> {
        let version = expected.unwrap_or(0) + 1;
        let key = self.keys.system_version(kind, id, version)?;
        let body = serde_json::to_vec(record).map_err(|source| ObjectsError::Document {
            key: key.to_string(),
            source,
        })?;
        if self.try_create(&key, body).await? {
            Ok(version)
        } else {
            Err(ObjectsError::Conflict {
                key: format!("{kind}/{id}"),
                version,
            })
        }
    }

    /// Deletes every version of a record, the newest last: cut short, it is still what it was. Only for a record that
    /// nobody writes any more.
    pub async fn system_remove(&self, kind: &str, id: &str) -> Result<(), ObjectsError> {
        let list = self.list_here(&self.keys.system(kind, id)?).await?;
        let mut versions: Vec<(u64, Path)> = list
            .objects
            .into_iter()
            .filter_map(|meta| Some((version_of(meta.location.filename()?)?, meta.location)))
            .collect();
        versions.sort();
        for (_, key) in versions {
            self.delete(&key).await?;
        }
        Ok(())
    }

    /// The highest version of a record, with its number.
    pub async fn system_get<T: DeserializeOwned>(
        &self,
        kind: &str,
        id: &str,
    ) -> Result<Option<(u64, T)>, ObjectsError> {
        let list = self.list_here(&self.keys.system(kind, id)?).await?;
        let versions = list
            .objects
            .iter()
            .filter_map(|meta| version_of(meta.location.filename()?));
        let Some(version) = versions.max() else {
            return Ok(None);
        };
        let key = self.keys.system_version(kind, id, version)?;
        Ok(self.document(&key).await?.map(|record| (version, record)))
    }

    /// The highest version of every record of a kind whose id begins with the parts of `under`
    /// (empty: all), by id.
    pub async fn system_list<T: DeserializeOwned>(
        &self,
        kind: &str,
        under: &str,
    ) -> Result<Vec<(String, u64, T)>, ObjectsError> {
        let root = self.keys.system(kind, "")?;
        let mut newest = BTreeMap::<String, u64>::new();
        for meta in self.list_below(&self.keys.system(kind, under)?).await? {
            let Some(rest) = meta.location.prefix_match(&root) else {
                continue;
            };
            let parts: Vec<_> = rest.map(|part| part.as_ref().to_owned()).collect();
            let Some((name, id)) = parts.split_last() else {
                continue;
            };
            if let Some(version) = version_of(name) {
                let entry = newest.entry(id.join("/")).or_default();
                *entry = version.max(*entry);
            }
        }
        futures_util::stream::iter(newest)
            .map(|(id, version)| async move {
                let key = self.keys.system_version(kind, &id, version)?;
                Ok(self
                    .document(&key)
                    .await?
                    .map(|record| (id, version, record)))
            })
            .buffered(PARALLEL_MAX)
            .try_filter_map(|record| async move { Ok(record) })
            .try_collect()
            .await
    }
}

fn version_of(name: &str) -> Option<u64> {
    name.strip_suffix(".json")?.parse().ok()
}
