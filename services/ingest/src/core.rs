//! What both doors work with.

use crate::config::Config;
use crate::error::Error;
use photofinish_broker::Publisher;
use photofinish_contract::token::TokenKeys;
use photofinish_jobstore::{Created, JobStore};
use photofinish_model::{JobId, JobSnapshot, Tenant};
use photofinish_objects::{Objects, Sealer};
use photofinish_outbound::Guard;
use photofinish_runtime::Clock;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The adapters and the settings, shared by all handlers.
pub struct Core {
    /// Validated settings.
    pub config: Config,
    /// Confirmed publishes.
    pub publisher: Publisher,
    /// Redis.
    pub jobstore: JobStore,
    /// S3.
    pub objects: Objects,
    /// Seals webhook secrets.
    pub sealer: Sealer,
    /// Which inputs may be named.
    pub inputs: Guard,
    /// Which receivers may be named.
    pub receivers: Guard,
    /// The wall clock.
    pub clock: Clock,
    /// For hook tokens.
    pub tokens: TokenKeys,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").finish_non_exhaustive()
    }
}

impl Core {
    /// A tenant's job in its newest run: from Redis, else from the bucket. Another tenant's is
    /// not there.
    pub async fn job(&self, tenant: &Tenant, job: &JobId) -> Result<Option<JobSnapshot>, Error> {
        match self.jobstore.job(job).await {
            Ok(Some(found)) => return Ok(Some(found).filter(|found| found.tenant == *tenant)),
            Ok(None) => {}
            Err(error) => tracing::warn!(error = crate::error::chain(&error), "ask Redis"),
        }
        let Some(run) = self.objects.latest_run(tenant, job).await? else { return Ok(None) };
        let Some(snapshot) = self.objects.snapshot(tenant, job, run).await? else {
            return Ok(None);
        };
        match self.jobstore.restore(&snapshot).await {
            Ok(Created::Created | Created::Exists) => {}
            Err(error) => tracing::warn!(error = crate::error::chain(&error), "restore a job"),
        }
        Ok(Some(snapshot))
    }

    /// A system record: the copy in Redis if it is fresh, else the bucket's, copied.
    pub async fn system<T: Serialize + DeserializeOwned>(
        &self,
        kind: &str,
        id: &str,
    ) -> Result<Option<T>, Error> {
        match self.jobstore.cached_system(kind, id).await {
            Ok(Some(copy)) => {
                return copy.json.map(|json| Ok(serde_json::from_str(&json)?)).transpose();
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(error = crate::error::chain(&error), "ask Redis"),
        }
        let found: Option<(u64, T)> = self.objects.system_get(kind, id).await?;
        let version = found.as_ref().map_or(0, |(version, _)| *version);
        let record = found.map(|(_, record)| record);
        self.copy_system(kind, id, version, record.as_ref()).await?;
        Ok(record)
    }

    /// Writes a new version of a system record and its copy; a revocation holds at once.
    pub async fn put_system<T: Serialize>(
        &self,
        kind: &str,
        id: &str,
        expected: Option<u64>,
        record: &T,
    ) -> Result<u64, Error> {
        let version = self.objects.system_put(kind, id, expected, record).await?;
        self.copy_system(kind, id, version, Some(record)).await?;
        Ok(version)
    }

    /// The copy lives 30 s at most, so one that cannot be written is no fault.
    async fn copy_system<T: Serialize>(
        &self,
        kind: &str,
        id: &str,
        version: u64,
        record: Option<&T>,
    ) -> Result<(), Error> {
        let json = record.map(serde_json::to_string).transpose()?;
        if let Err(error) =
            self.jobstore.cache_system(kind, id, version, json.as_deref()).await
        {
            tracing::warn!(error = crate::error::chain(&error), "copy a system record");
        }
        Ok(())
    }
}
