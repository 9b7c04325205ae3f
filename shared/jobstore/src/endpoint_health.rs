//! Streaks of failed calls of webhook endpoints, as they stand now; a streak that lasts is kept in the endpoint's
//! record in the bucket as well.

use crate::keys::Key;
use crate::{JobStore, JobStoreError};
use photofinish_model::webhook::Failing;

impl JobStore {
    /// The streak of a webhook endpoint; nothing when it is well, or when Redis was emptied.
    pub async fn endpoint_failing(&self, endpoint: &str) -> Result<Option<Failing>, JobStoreError> {
        let mut pipe = redis::pipe();
        pipe.get(self.key(Key::Failing(endpoint)));
        let (kept,): (Option<String>,) = self.pipe("read a streak", &pipe).await?;
        let read = |text: String| serde_json::from_str(&text);
        kept.map(read)
            .transpose()
            .map_err(JobStoreError::value("a streak"))
    }

    /// Keeps a streak; nothing ends it.
    pub async fn keep_endpoint_failing(
        &self,
        endpoint: &str,
        failing: Option<Failing>,
    ) -> Result<(), JobStoreError> {
        let key = Key::Failing(endpoint);
        let mut pipe = redis::pipe();
        match failing {
            Some(streak) => {
                let doc =
                    serde_json::to_string(&streak).map_err(JobStoreError::value("a streak"))?;
                let ttl = self.ttl_ms(&key);
                pipe.pset_ex(self.key(key), doc, ttl).ignore();
            }
            None => {
                pipe.del(self.key(key)).ignore();
            }
        }
        self.pipe("keep a streak", &pipe).await
    }
}
