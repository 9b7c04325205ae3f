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
        let mut pipe = redis::pipe();
        self.ask_copy(&mut pipe, kind, id);
        Ok(read_copy(self.pipe("read a copy", &pipe).await?))
    }

    /// Asks for a copy, and what time it is.
    pub(crate) fn ask_copy(&self, pipe: &mut redis::Pipeline, kind: &str, id: &str) {
        pipe.cmd("TIME");
        let key = self.key(Key::System(kind, id));
        pipe.cmd("HMGET").arg(key).arg(&["v", "j", "at"]);
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
        let copied = self.cached_system(kind, id).await;
        self.system_through(copied, kind, id, read).await
    }

    /// The same through a copy that was asked for already.
    pub async fn system_through<T, E>(
        &self,
        copied: Result<Option<CachedRecord>, JobStoreError>,
        kind: &str,
        id: &str,
        read: impl AsyncFnOnce() -> Result<Option<(u64, T)>, E>,
    ) -> Result<Option<T>, E>
    where
        T: Serialize + DeserializeOwned,
    {
        let copied = match copied {
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

/// Answers to [`JobStore::ask_copy`].
pub(crate) const COPY_ANSWERS: usize = 2;

/// The time in seconds and microseconds; version, JSON, and when it was read in milliseconds.
pub(crate) type CopyFields = ((u64, u64), (Option<u64>, Option<String>, Option<u64>));

/// The copy, if it was read a moment ago.
pub(crate) fn read_copy(fields: CopyFields) -> Option<CachedRecord> {
    let ((seconds, micros), (version, json, at)) = fields;
    let (version, at) = (version?, at?);
    let now = seconds * 1000 + micros / 1000;
    let fresh = now.saturating_sub(at) < millis(TRUSTED);
    fresh.then(|| CachedRecord {
        version,
        json: json.filter(|_| version > 0),
    })
}
