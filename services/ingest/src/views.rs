//! Jobs as clients read them.

use crate::core::Core;
use crate::error::Error;
use jiff::Timestamp;
use photofinish_contract::job::{Job, ViewSettings};
use photofinish_model::{ItemState, JobSnapshot};
use std::collections::HashMap;

impl Core {
    pub(crate) fn view_settings(&self) -> ViewSettings<'_> {
        ViewSettings {
            public_url: &self.config.public_url,
            usd_per_gpu_second: self.config.usd_per_gpu_second,
        }
    }

    /// The job with a row for each item, its URLs signed now.
    pub async fn view(&self, job: &JobSnapshot) -> Result<Job, Error> {
        let signed = self.signed(job).await?;
        Ok(Job::with_outputs(job, self.view_settings(), |key| signed.get(key).cloned()))
    }

    /// Presigned URLs of all stored outputs, by key.
    pub async fn signed(
        &self,
        job: &JobSnapshot,
    ) -> Result<HashMap<String, (String, Timestamp)>, Error> {
        let mut signed = HashMap::new();
        for row in &job.items {
            if let ItemState::Stored(output) = &row.state {
                signed.insert(output.key.clone(), self.sign(&output.key).await?);
            }
        }
        Ok(signed)
    }

    /// A presigned URL of one output, and its end.
    pub async fn sign(&self, key: &str) -> Result<(String, Timestamp), Error> {
        let now = self.clock.now();
        Ok(self.objects.presign_get(key, self.config.output_url, now).await?)
    }
}
