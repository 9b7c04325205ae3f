//! What was learned of how long work takes, for each operation: read whole, swapped only against
//! what was read. Lost with Redis; then the settings count until it is learned again.

use crate::keys::Key;
use crate::parts::CAS;
use crate::{JobStore, JobStoreError};
use photofinish_model::Operation;
use photofinish_model::estimate::Learned;
use std::collections::HashMap;

/// What is kept for each operation.
#[derive(Debug, Clone, Default)]
pub struct Estimates(HashMap<String, String>);

impl Estimates {
    /// What was learned of an operation; nothing when there is nothing that can be read.
    pub fn learned(&self, operation: Operation) -> Option<Learned> {
        serde_json::from_str(self.0.get(operation.as_str())?).ok()
    }
}

impl JobStore {
    /// All that was learned.
    pub async fn estimates(&self) -> Result<Estimates, JobStoreError> {
        let mut pipe = redis::pipe();
        pipe.hgetall(self.key(Key::Estimates));
        let (kept,) = self.pipe("read the estimates", &pipe).await?;
        Ok(Estimates(kept))
    }

    /// Keeps what is known of an operation now, unless it has changed since `read`; then false.
    pub async fn learn(
        &self,
        operation: Operation,
        read: &Estimates,
        now: Learned,
    ) -> Result<bool, JobStoreError> {
        let before = read.0.get(operation.as_str());
        let text = serde_json::to_string(&now).map_err(JobStoreError::value("an estimate"))?;
        let ttl = self.ttl_ms(&Key::Estimates);
        let answer: Vec<redis::Value> = self
            .script("keep an estimate", &CAS, &[Key::Estimates], |call| {
                call.arg(operation.as_str())
                    .arg(before.map_or("", String::as_str))
                    .arg(text)
                    .arg(ttl);
            })
            .await?;
        Ok(answer.first() == Some(&redis::Value::Int(1)))
    }
}
