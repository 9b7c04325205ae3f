//! Copies of the operator's records, so that a request costs no read of the bucket. A copy is
//! trusted for 30 s after it was read, and never replaced by an older version.

use crate::keys::Key;
use crate::store::millis;
use crate::{JobStore, JobStoreError};
use redis::Script;
use std::sync::LazyLock;
use std::time::Duration;

static CACHE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/cache.lua")));
static CACHED: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/cached.lua")));

/// A copy is trusted for so long: the time within which a revocation is seen at the latest.
const TRUSTED: Duration = Duration::from_secs(30);

/// A copy of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedRecord {
    /// Its version; 0: the bucket had none.
    pub version: u64,
    /// The record as JSON; nothing when the bucket had none.
    pub json: Option<String>,
}

impl JobStore {
    /// A copy that was read less than 30 s ago.
    pub async fn cached_system(
        &self,
        kind: &str,
        id: &str,
    ) -> Result<Option<CachedRecord>, JobStoreError> {
        let copy: Vec<String> = self
            .script("read a copy", &CACHED, &[Key::System(kind, id)], |call| {
                call.arg(millis(TRUSTED));
            })
            .await?;
        let [version, json] = copy.as_slice() else {
            return Ok(None);
        };
        let version = version
            .parse()
            .map_err(|_| JobStoreError::answer("read a copy", version))?;
        Ok(Some(CachedRecord {
            version,
            json: (version > 0).then(|| json.clone()),
        }))
    }

    /// Keeps a copy as it was just read or written, unless a newer one is there (then false).
    /// Version 0 without JSON notes that there is none.
    pub async fn cache_system(
        &self,
        kind: &str,
        id: &str,
        version: u64,
        json: Option<&str>,
    ) -> Result<bool, JobStoreError> {
        let key = Key::System(kind, id);
        let ttl = self.ttl_ms(&key);
        self.script("keep a copy", &CACHE, &[key], |call| {
            call.arg(version).arg(json.unwrap_or_default()).arg(ttl);
        })
        .await
    }
}
