//! A job as it is known: from Redis, else rebuilt from the bucket and put back.

use crate::core::Ingest;
use crate::error::{Error, Refusal};
use photofinish_model::{JobId, JobSnapshot, Tenant};

impl Ingest {
    /// A tenant's job by the id that a client wrote; another tenant's is not found.
    pub(crate) async fn find(&self, tenant: &Tenant, id: &str) -> Result<JobSnapshot, Refusal> {
        let job: JobId = id.parse().map_err(|_| Refusal::not_found("job"))?;
        photofinish_runtime::trace::about(tenant, &job);
        let known = match self.jobstore.job(&job).await {
            Ok(known) => known,
            Err(error) => {
                tracing::warn!(
                    error = photofinish_runtime::error_chain(&error),
                    "Redis is away: asking the bucket"
                );
                None
            }
        };
        let found = match known {
            Some(known) => Some(known),
            None => self.rebuilt(tenant, &job).await?,
        };
        found
            .filter(|found| found.tenant == *tenant)
            .ok_or_else(|| Refusal::not_found("job"))
    }

    /// The newest run of a job as the bucket knows it, put back into Redis as far as it is there.
    pub(crate) async fn rebuilt(
        &self,
        tenant: &Tenant,
        job: &JobId,
    ) -> Result<Option<JobSnapshot>, Error> {
        let Some(run) = self.objects.latest_run(tenant, job).await? else {
            return Ok(None);
        };
        let Some(snapshot) = self.objects.snapshot(tenant, job, run).await? else {
            return Ok(None);
        };
        match self.jobstore.restore(&snapshot).await {
            Ok(restored) => tracing::info!(%job, run, ?restored, "rebuilt from the bucket"),
            Err(error) => tracing::debug!(
                error = photofinish_runtime::error_chain(&error),
                "not put back"
            ),
        }
        Ok(Some(snapshot))
    }
}
