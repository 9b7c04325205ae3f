//! Copies of the operator's records, so that a request costs no read of the bucket. A copy is
//! trusted for 30 s after it was read, and never replaced by an older version.

use crate::keys::Key;
use crate::store::millis;
use crate::{JobStore, JobStoreError};
use redis::Script;
use serde::Serialize;
use serde::de::DeserializeOwned;
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

    /// Throws a copy away, so that one with a lower version can take its place.
    pub async fn forget_system_copy(&self, kind: &str, id: &str) {
        let mut pipe = redis::pipe();
        pipe.cmd("UNLINK")
            .arg(self.key(Key::System(kind, id)))
            .ignore();
        let forgotten: Result<(), JobStoreError> = self.pipe("forget a copy", &pipe).await;
        if let Err(error) = forgotten {
            tracing::debug!(kind, id, %error, "forget a copy");
        }
    }

    /// A record through its copy; `read` gives it with its version from the bucket, and is asked
    /// when no fresh copy is there, when this version of us cannot read it, or when Redis is away.
    pub async fn system_through_copy<T, E>(
        &self,
        kind: &str,
        id: &str,
        read: impl AsyncFnOnce() -> Result<Option<(u64, T)>, E>,
    ) -> Result<Option<T>, E>
    where
        T: Serialize + DeserializeOwned,
    {
        let copied = match self.cached_system(kind, id).await {
            Ok(copied) => copied,
            Err(error) => {
                tracing::debug!(kind, id, %error, "no copies: the bucket is read");
                return Ok(read().await?.map(|(_, record)| record));
            }
        };
        match copied.map(|copy| copy.json.map(|json| serde_json::from_str(&json))) {
            Some(None) => return Ok(None),
            Some(Some(Ok(record))) => return Ok(Some(record)),
            Some(Some(Err(_))) | None => {}
        }
        let found = read().await?;
        let (version, record) = found.map_or((0, None), |(version, one)| (version, Some(one)));
        self.keep_system_copy(kind, id, version, record.as_ref())
            .await;
        Ok(record)
    }

    /// Keeps a copy, if it can: without it the bucket is read again.
    pub async fn keep_system_copy<T: Serialize>(
        &self,
        kind: &str,
        id: &str,
        version: u64,
        record: Option<&T>,
    ) {
        let Ok(json) = record.map(serde_json::to_string).transpose() else {
            return;
        };
        let kept = self.cache_system(kind, id, version, json.as_deref()).await;
        if let Err(error) = kept {
            tracing::debug!(kind, id, %error, "keep a copy");
        }
    }
}
