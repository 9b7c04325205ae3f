//! The job behind an event.

use crate::core::Notifier;
use crate::error::Error;
use photofinish_contract::messages::JobEvent;
use photofinish_model::JobSnapshot;

impl Notifier {
    /// The job in the event's run: of a final event from the run's end alone; of any other from the job store, or,
    /// when it is away, does not know the job, or knows another run of it, from the bucket.
    pub(crate) async fn snapshot(&self, event: &JobEvent) -> Result<Option<JobSnapshot>, Error> {
        let (tenant, job, run) = (&event.tenant, &event.job, event.run);
        if event.event.is_final() {
            return Ok(self.objects.end(tenant, job, run).await?);
        }
        let restore = match self.jobstore.job(job).await {
            Ok(Some(found)) if found.run == run => return Ok(Some(found)),
            // A message ahead of the record moves the record forward.
            Ok(Some(found)) => found.run < run,
            Ok(None) => true,
            Err(error) => {
                tracing::warn!(%job, error = photofinish_runtime::error_chain(&error), "the job is read from the bucket");
                false
            }
        };
        let found = self.objects.snapshot(tenant, job, run).await?;
        if let Some(snapshot) = found.as_ref().filter(|_| restore) {
            // Whoever needs the record next restores it as well.
            if let Err(error) = self.jobstore.restore(snapshot).await {
                tracing::warn!(%job, error = photofinish_runtime::error_chain(&error), "restore a job");
            }
        }
        Ok(found)
    }
}
