//! Which ended jobs of a tenant are kept for a while only, and what goes with a job that is deleted.
//!
//! An index of two lists for each tenant whose files are not kept for ever, by the time of the end:
//! jobs with outputs, and jobs. Lost with Redis, and not there for jobs that ended before the
//! tenant had a retention: then the bucket is walked once, and the index says that it was.

use crate::keys::Key;
use crate::store::millis;
use crate::{JobStore, JobStoreError};
use jiff::Timestamp;
use photofinish_model::{JobId, Tenant};
use std::time::Duration;

/// The id of a deleted job is not used again for so long: processes trust plans that they have
/// read for ten minutes.
const GONE_TTL: Duration = Duration::from_mins(11);

/// One of the two lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeptOf {
    /// Jobs whose outputs are kept.
    Outputs,
    /// Jobs that are kept.
    Jobs,
}

impl KeptOf {
    fn key(self, tenant: &Tenant) -> Key<'_> {
        match self {
            Self::Outputs => Key::EndedOutputs(tenant),
            Self::Jobs => Key::EndedJobs(tenant),
        }
    }
}

impl JobStore {
    /// Notes that a job has ended; a later end of the same job counts.
    pub async fn note_ended(
        &self,
        tenant: &Tenant,
        job: &JobId,
        at: Timestamp,
    ) -> Result<(), JobStoreError> {
        let mut pipe = redis::pipe();
        for list in [KeptOf::Outputs, KeptOf::Jobs] {
            pipe.cmd("ZADD")
                .arg(self.key(list.key(tenant)))
                .arg("GT")
                .arg(at.as_millisecond())
                .arg(job.as_str())
                .ignore();
        }
        self.pipe("note an end", &pipe).await
    }

    /// Jobs that ended at or before an instant, the oldest first, with the instant of their end.
    pub async fn ended_before(
        &self,
        tenant: &Tenant,
        list: KeptOf,
        at: Timestamp,
        limit: usize,
    ) -> Result<Vec<JobId>, JobStoreError> {
        let mut pipe = redis::pipe();
        pipe.cmd("ZRANGEBYSCORE")
            .arg(self.key(list.key(tenant)))
            .arg("-inf")
            .arg(at.as_millisecond())
            .arg("LIMIT")
            .arg(0)
            .arg(limit);
        let (names,): (Vec<String>,) = self.pipe("list ended jobs", &pipe).await?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// A job need not be looked at again in a list; again is harmless.
    pub async fn strike_ended(
        &self,
        tenant: &Tenant,
        list: KeptOf,
        job: &JobId,
    ) -> Result<(), JobStoreError> {
        let mut pipe = redis::pipe();
        pipe.zrem(self.key(list.key(tenant)), job.as_str()).ignore();
        self.pipe("strike an ended job", &pipe).await
    }

    /// Whether the lists of a tenant hold all that the bucket holds.
    pub async fn ended_is_whole(&self, tenant: &Tenant) -> Result<bool, JobStoreError> {
        let mut pipe = redis::pipe();
        pipe.exists(self.key(Key::EndedWalked(tenant)));
        let (there,) = self.pipe("ask for ended jobs", &pipe).await?;
        Ok(there)
    }

    /// The bucket was walked for a tenant: its lists are whole; or they no longer are.
    pub async fn set_ended_whole(&self, tenant: &Tenant, whole: bool) -> Result<(), JobStoreError> {
        let key = self.key(Key::EndedWalked(tenant));
        let mut pipe = redis::pipe();
        if whole {
            pipe.set(key, 1).ignore();
        } else {
            let lists = [KeptOf::Outputs, KeptOf::Jobs].map(|list| self.key(list.key(tenant)));
            pipe.del(key).ignore().del(&lists[..]).ignore();
        }
        self.pipe("note a walk", &pipe).await
    }

    /// Takes the turn to look for what is kept too long: one process in each span of time.
    pub async fn take_sweep_turn(&self, every: Duration) -> Result<bool, JobStoreError> {
        let mut pipe = redis::pipe();
        pipe.cmd("SET")
            .arg(self.key(Key::SweepTurn))
            .arg(1)
            .arg("NX")
            .arg("PX")
            .arg(millis(every));
        let (taken,): (Option<String>,) = self.pipe("take the sweep's turn", &pipe).await?;
        Ok(taken.is_some())
    }

    /// Marks a job's data as being deleted; its id is not to be used again for eleven minutes.
    pub async fn mark_gone(&self, job: &JobId) -> Result<(), JobStoreError> {
        let mut pipe = redis::pipe();
        pipe.pset_ex(self.key(Key::Gone(job)), 1, millis(GONE_TTL))
            .ignore();
        self.pipe("mark a job gone", &pipe).await
    }

    /// Whether a job's data is being deleted, or was a moment ago.
    pub async fn is_gone(&self, job: &JobId) -> Result<bool, JobStoreError> {
        let mut pipe = redis::pipe();
        pipe.exists(self.key(Key::Gone(job)));
        let (there,) = self.pipe("ask for a deletion", &pipe).await?;
        Ok(there)
    }

    /// Deletes all that is known of a job, after its data; again is harmless.
    pub async fn forget_job(&self, tenant: &Tenant, job: &JobId) -> Result<(), JobStoreError> {
        let of_job = [
            Key::Head(job),
            Key::Items(job),
            Key::Stored(job),
            Key::Failed(job),
            Key::Usage(job),
            Key::Parts(job),
            Key::Uploads(job),
            Key::Events(job),
            Key::Pace(job),
        ];
        let of_tenant = [
            Key::JobsOf(tenant),
            Key::OpenJobs(tenant),
            Key::EndedOutputs(tenant),
            Key::EndedJobs(tenant),
        ];
        let mut pipe = redis::pipe();
        for key in of_job {
            pipe.del(self.key(key)).ignore();
        }
        for key in of_tenant {
            pipe.zrem(self.key(key), job.as_str()).ignore();
        }
        let () = self.pipe("forget a job", &pipe).await?;
        self.mark_gone(job).await
    }
}
