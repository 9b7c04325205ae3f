//! What operators do and decide beside the records of tenants and keys: the log of their acts, what
//! is paused, which lane a tenant takes, and what tenants used in a day as it was last written down.
//!
//! The guarantee: an entry of the log is put once and never changed; the newest is listed first
//! without a look at the older ones.

use crate::store::encode;
use crate::{Objects, ObjectsError};
use futures_util::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use object_store::ObjectStore as _;
use object_store::path::Path;
use photofinish_model::Tenant;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;

/// Milliseconds from which an entry's are taken, so that the newest comes first in a LIST.
const LAST_MS: i64 = 9_999_999_999_999;

/// An act of an operator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// The operator: the prefix of the key, or `configured` for the one of the configuration.
    pub operator: String,
    /// What was done, such as `tenant.create`.
    pub act: String,
    /// To what: a tenant, a key's id, an endpoint.
    pub target: String,
    /// How, without any secret.
    #[serde(default)]
    pub detail: Value,
    /// The request.
    #[serde(default)]
    pub request_id: Option<String>,
}

/// What is paused; one record, `pauses/all`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PausesRecord {
    /// Tenants: nothing of theirs is granted a slot.
    pub tenants: BTreeSet<Tenant>,
    /// Lanes in which nobody but paused tenants is.
    pub lanes: BTreeSet<u16>,
    /// RunPod's endpoints: they are given no new attempts.
    pub endpoints: BTreeSet<String>,
}

impl PausesRecord {
    /// The kind of record.
    pub const KIND: &'static str = "pauses";
    /// Its only id.
    pub const ID: &'static str = "all";
}

/// A tenant's claim on a lane; the record's id is the lane. Its version is how many have claimed it,
/// so of two tenants that are made at once each sees the other's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneClaim {
    /// Who claimed it last.
    pub tenant: Tenant,
}

impl LaneClaim {
    /// The kind of record.
    pub const KIND: &'static str = "lane";
}

/// What a tenant used in a day, as it was last written down.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct DayUsage {
    /// Seconds of GPU.
    pub gpu_seconds: f64,
    /// US dollars.
    pub cost_usd: f64,
}

impl Objects {
    /// Puts an entry into the log; its name.
    pub async fn audit_put(&self, entry: &AuditEntry, unique: u64) -> Result<String, ObjectsError> {
        let before = LAST_MS.saturating_sub(entry.at.as_millisecond());
        let name = format!("{before:013}-{unique:016x}.json");
        let key = self.keys.audit().join(name.as_str());
        let body = encode(&key, entry)?;
        if self.try_create(&key, body).await? {
            return Ok(name);
        }
        Err(ObjectsError::Conflict {
            key: key.to_string(),
            version: 1,
        })
    }

    /// Entries of the log with their names, the newest first, from behind one of them on.
    pub async fn audit_list(
        &self,
        limit: usize,
        after: Option<&str>,
    ) -> Result<Vec<(String, AuditEntry)>, ObjectsError> {
        let prefix = self.keys.audit();
        let list = match after {
            Some(name) if is_audit_name(name) => {
                let offset = prefix.clone().join(name);
                self.streams.list_with_offset(Some(&prefix), &offset)
            }
            Some(name) => return Err(ObjectsError::Name(name.to_owned())),
            None => self.streams.list(Some(&prefix)),
        };
        let keys: Vec<Path> = list
            .map_ok(|meta| meta.location)
            .take(limit)
            .try_collect()
            .await
            .map_err(|source| ObjectsError::store("list", prefix.as_ref(), source))?;
        futures_util::stream::iter(keys)
            .map(|key| async move {
                let entry = self.document(&key).await?;
                let name = key.filename().unwrap_or_default().to_owned();
                Ok(entry.map(|entry| (name, entry)))
            })
            .buffered(crate::store::PARALLEL_MAX)
            .try_filter_map(|entry| async move { Ok(entry) })
            .try_collect()
            .await
    }

    /// What a tenant used in a day, as it was last written down.
    pub async fn usage_of_day(
        &self,
        tenant: &Tenant,
        day: &str,
    ) -> Result<Option<DayUsage>, ObjectsError> {
        self.document(&self.keys.usage(tenant, day)).await
    }

    /// Writes down what a tenant used in a day so far.
    pub async fn put_usage_of_day(
        &self,
        tenant: &Tenant,
        day: &str,
        usage: &DayUsage,
    ) -> Result<(), ObjectsError> {
        self.put_document(&self.keys.usage(tenant, day), usage)
            .await
    }
}

fn is_audit_name(name: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
    name.strip_suffix(".json")
        .is_some_and(|stem| stem.len() == 30 && stem.bytes().all(known))
}
