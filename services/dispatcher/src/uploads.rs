//! What pulls of an ended run have left behind in the bucket without anybody seeing it.

use crate::core::Core;
use crate::error::Error;
use photofinish_model::JobSnapshot;
use photofinish_runtime::error_chain;

impl Core {
    /// Aborts the run's uploads in parts that nobody finished: their fetcher died, or is at one that
    /// no longer counts. One that cannot be aborted stays kept: a bucket that is away stops the sweep,
    /// which follows, so this comes again; and one that refuses has its lifecycle rule.
    pub(crate) async fn abort_uploads(&self, end: &JobSnapshot) -> Result<(), Error> {
        for kept in self.jobstore.kept_uploads(&end.job).await? {
            if kept.run != end.run {
                continue;
            }
            match self.objects.abort_upload(&kept.key, &kept.id).await {
                Ok(()) => self.jobstore.forget_upload(&end.job, &kept.id).await?,
                Err(error) => {
                    tracing::warn!(job = %end.job, index = kept.index, error = error_chain(&error),
                        "abort an upload that was left behind");
                }
            }
        }
        Ok(())
    }
}
