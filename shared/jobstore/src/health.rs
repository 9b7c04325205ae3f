//! How Redis itself stands, when keys were last used, and what the dispatcher tells of endpoints.

use crate::keys::Key;
use crate::{JobStore, JobStoreError};
use jiff::Timestamp;
use std::collections::HashMap;

/// What Redis says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RedisHealth {
    /// Its version; empty when it does not say.
    pub version: String,
    /// What it does when its memory is full: only `noeviction` loses nothing.
    pub eviction: String,
    /// Whether it writes an append-only file.
    pub append_only: bool,
    /// Whether it writes snapshots: a save is configured or was made.
    pub snapshots: bool,
    /// Bytes used.
    pub memory_used: u64,
    /// Bytes that it may use; 0: as many as there are.
    pub memory_max: u64,
    /// Its time of day.
    pub now: Timestamp,
}

impl JobStore {
    /// Asks Redis how it stands.
    pub async fn health(&self) -> Result<RedisHealth, JobStoreError> {
        let mut pipe = redis::pipe();
        pipe.cmd("TIME");
        pipe.cmd("INFO").arg("server");
        pipe.cmd("INFO").arg("memory");
        pipe.cmd("INFO").arg("persistence");
        let ((s, us), server, memory, persistence): ((i64, i64), String, String, String) =
            self.pipe("ask how Redis stands", &pipe).await?;
        let text = [server, memory, persistence].join("\n");
        let fields: HashMap<&str, &str> = text
            .lines()
            .filter_map(|line| line.trim().split_once(':'))
            .collect();
        let word = |name: &str| fields.get(name).copied().unwrap_or_default();
        let number = |name: &str| word(name).parse().unwrap_or(0);
        Ok(RedisHealth {
            version: word("redis_version").to_owned(),
            eviction: word("maxmemory_policy").to_owned(),
            append_only: word("aof_enabled") == "1",
            snapshots: number("rdb_saves") > 0,
            memory_used: number("used_memory"),
            memory_max: number("maxmemory"),
            now: Timestamp::from_microsecond(s * 1_000_000 + us).unwrap_or_default(),
        })
    }

    /// Notes when an API key was used.
    pub async fn key_used(&self, hash: &str, at: Timestamp) -> Result<(), JobStoreError> {
        let mut pipe = redis::pipe();
        pipe.hset(self.key(Key::KeysUsed), hash, at.as_millisecond())
            .ignore();
        self.pipe("note a key's use", &pipe).await
    }

    /// A key is not used any more: forgets when it was.
    pub async fn key_revoked(&self, hash: &str) -> Result<(), JobStoreError> {
        let mut pipe = redis::pipe();
        pipe.hdel(self.key(Key::KeysUsed), hash).ignore();
        self.pipe("forget a key's use", &pipe).await
    }

    /// When keys were last used, as far as it is known; in the order of `hashes`.
    pub async fn keys_used(
        &self,
        hashes: &[&str],
    ) -> Result<Vec<Option<Timestamp>>, JobStoreError> {
        if hashes.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipe = redis::pipe();
        pipe.cmd("HMGET").arg(self.key(Key::KeysUsed)).arg(hashes);
        let (used,): (Vec<Option<i64>>,) = self.pipe("ask for keys' uses", &pipe).await?;
        let instant = |ms| Timestamp::from_millisecond(ms).ok();
        Ok(used.into_iter().map(|ms| ms.and_then(instant)).collect())
    }

    /// Keeps what the dispatcher tells of one of RunPod's endpoints, as JSON.
    pub async fn note_endpoint(&self, id: &str, json: &str) -> Result<(), JobStoreError> {
        let mut pipe = redis::pipe();
        pipe.hset(self.key(Key::Endpoints), id, json).ignore();
        self.pipe("note an endpoint", &pipe).await
    }

    /// What dispatchers have told of endpoints, by id; also of some that are configured no more.
    pub async fn endpoints_noted(&self) -> Result<Vec<(String, String)>, JobStoreError> {
        let mut pipe = redis::pipe();
        pipe.hgetall(self.key(Key::Endpoints));
        let (noted,): (HashMap<String, String>,) = self.pipe("list endpoints", &pipe).await?;
        let mut noted: Vec<_> = noted.into_iter().collect();
        noted.sort();
        Ok(noted)
    }
}
