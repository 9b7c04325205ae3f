//! Uploads in parts that are neither finished nor aborted, so that whoever comes after a process
//! that died can abort them.

use crate::keys::Key;
use crate::{JobStore, JobStoreError};
use photofinish_model::{ItemIndex, JobId, Nonce};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// An upload in parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptUpload {
    /// The bucket's id of it.
    pub id: String,
    /// The object that it is to become.
    pub key: String,
    /// The run.
    pub run: u32,
    /// The item's place in the request.
    pub index: ItemIndex,
    /// The attempt whose output it is; one process at a time pulls it.
    pub nonce: Nonce,
}

impl JobStore {
    /// Keeps an upload, before its first part is sent.
    pub async fn keep_upload(&self, job: &JobId, upload: &KeptUpload) -> Result<(), JobStoreError> {
        let key = Key::Uploads(job);
        let ttl = i64::try_from(self.ttl_ms(&key)).unwrap_or(i64::MAX);
        let text = serde_json::to_string(upload).map_err(|source| JobStoreError::Value {
            what: "an upload",
            source,
        })?;
        let mut pipe = redis::pipe();
        pipe.atomic()
            .hset(self.key(key), &upload.id, text)
            .ignore()
            .pexpire(self.key(key), ttl)
            .ignore();
        self.pipe("keep an upload", &pipe).await
    }

    /// Forgets an upload that is finished or aborted; again is harmless.
    pub async fn forget_upload(&self, job: &JobId, id: &str) -> Result<(), JobStoreError> {
        let mut pipe = redis::pipe();
        pipe.hdel(self.key(Key::Uploads(job)), id).ignore();
        self.pipe("forget an upload", &pipe).await
    }

    /// The uploads of a job that are neither finished nor aborted, as far as Redis knows.
    pub async fn kept_uploads(&self, job: &JobId) -> Result<Vec<KeptUpload>, JobStoreError> {
        let mut pipe = redis::pipe();
        pipe.hgetall(self.key(Key::Uploads(job)));
        let (kept,): (HashMap<String, String>,) = self.pipe("read uploads", &pipe).await?;
        let mut kept: Vec<KeptUpload> = kept
            .values()
            .filter_map(|text| serde_json::from_str(text).ok())
            .collect();
        kept.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(kept)
    }
}
