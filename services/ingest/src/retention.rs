//! What is not kept any longer: now and then, by one of the processes, and on request.
//!
//! An index in Redis says which ended jobs are due; nothing is scanned. After Redis was emptied, or when a tenant gets
//! a retention, the bucket is walked once for that tenant. Everything may be cut short and is done again.

use crate::core::Ingest;
use crate::error::{Error, Refusal};
use jiff::{SignedDuration, Timestamp};
use photofinish_contract::job::Job;
use photofinish_jobstore::{Finished, KeptOf};
use photofinish_model::quota::Retention;
use photofinish_model::{Code, JobId, JobSnapshot, Tenant};
use photofinish_objects::TenantRecord;
use photofinish_runtime::{Shutdown, error_chain};
use std::sync::Arc;
use std::time::Duration;

/// A process asks at least so often whether it is its turn.
const LOOK_MAX: Duration = Duration::from_secs(60);
/// Jobs that are looked at in one go.
const BATCH: usize = 100;

/// Looks for what is kept too long, for as long as the process lives.
pub(crate) async fn run(ingest: Arc<Ingest>, shutdown: Shutdown) {
    let every = ingest.config.sweep_every;
    while !shutdown.stopping() {
        tokio::select! {
            () = tokio::time::sleep(every.min(LOOK_MAX)) => {}
            () = shutdown.wait() => return,
        }
        // Without Redis nobody knows whose turn it is, and nothing is that urgent.
        if ingest
            .jobstore
            .take_sweep_turn(every)
            .await
            .unwrap_or(false)
        {
            tokio::select! {
                swept = ingest.sweep() => {
                    if let Err(error) = swept {
                        tracing::warn!(error = error_chain(&error), "look for what is kept too long");
                    }
                }
                () = shutdown.wait() => return,
            }
        }
    }
}

/// So long ago; nothing for more than there are years.
fn before(now: Timestamp, seconds: u64) -> Option<Timestamp> {
    let ago = SignedDuration::try_from(Duration::from_secs(seconds)).ok()?;
    now.checked_sub(ago).ok()
}

impl Ingest {
    /// Deletes what no tenant's retention keeps; how many jobs lost something.
    pub(crate) async fn sweep(&self) -> Result<u64, Error> {
        let mut swept = 0;
        let limited = |record: &TenantRecord| record.retention.is_limited();
        for record in self.tenants().await?.into_iter().filter(limited) {
            let tenant = &record.tenant;
            match self.sweep_tenant(tenant, record.retention).await {
                Ok(of_tenant) => swept += of_tenant,
                // One tenant's trouble is no other's; what was not done is due again.
                Err(error) => tracing::warn!(
                    %tenant,
                    error = error_chain(&error),
                    "delete what is not kept any longer"
                ),
            }
        }
        Ok(swept)
    }

    async fn sweep_tenant(&self, tenant: &Tenant, retention: Retention) -> Result<u64, Error> {
        if !self.jobstore.ended_is_whole(tenant).await? {
            self.walk(tenant).await?;
        }
        let mut swept = 0;
        // Jobs first: what goes as a whole need not lose its outputs before.
        for (list, limit) in [
            (KeptOf::Jobs, retention.jobs_s),
            (KeptOf::Outputs, retention.outputs_s),
        ] {
            let Some(due) = limit.and_then(|limit| before(self.now(), limit)) else {
                continue;
            };
            loop {
                let jobs = self.jobstore.ended_before(tenant, list, due, BATCH).await?;
                for job in &jobs {
                    swept += u64::from(self.expire(tenant, job, list).await?);
                }
                if jobs.len() < BATCH {
                    break;
                }
            }
        }
        if swept > 0 {
            tracing::info!(%tenant, swept, "deleted what is not kept any longer");
        }
        Ok(swept)
    }

    /// Puts every ended job of a tenant into the index.
    async fn walk(&self, tenant: &Tenant) -> Result<(), Error> {
        let jobs = self.objects.jobs_of(tenant).await?;
        tracing::info!(%tenant, jobs = jobs.len(), "the bucket is walked for ended jobs");
        for job in &jobs {
            if let Some(at) = self.objects.ended_at(tenant, job).await? {
                self.jobstore.note_ended(tenant, job, at).await?;
            }
        }
        Ok(self.jobstore.set_ended_whole(tenant, true).await?)
    }

    /// A job's time is over. A newer run of it that goes on strikes it from the list: its end puts it there again.
    async fn expire(&self, tenant: &Tenant, job: &JobId, list: KeptOf) -> Result<bool, Error> {
        let found = self.find(tenant, job.as_str()).await;
        let expired = match (found, list) {
            (Ok(snapshot), KeptOf::Jobs) => self.remove_job(&snapshot).await,
            (Ok(snapshot), KeptOf::Outputs) => self.expire_outputs(&snapshot).await,
            (Err(refusal), _) => Err(refusal),
        };
        match expired {
            Ok(()) => {}
            Err(Refusal::Fault(error)) if error.is_transient() => return Err(error),
            Err(Refusal::Fault(error)) => {
                // For good: left in the list it would keep all that is due after it.
                let error = error_chain(&error);
                tracing::error!(%tenant, %job, error, "a job's files cannot be deleted");
                self.jobstore.strike_ended(tenant, list, job).await?;
                return Ok(false);
            }
            Err(Refusal::Problem(_) | Refusal::Over(_)) => {
                self.jobstore.strike_ended(tenant, list, job).await?;
                return Ok(false);
            }
        }
        self.jobstore.strike_ended(tenant, list, job).await?;
        Ok(true)
    }

    /// Deletes the outputs of a finished job; the job stays. First nobody is promised any more what goes: not by the
    /// job, not by its manifest.
    pub(crate) async fn remove_outputs(&self, job: &JobSnapshot) -> Result<(), Refusal> {
        let (tenant, id, objects) = (&job.tenant, &job.job, &self.objects);
        let at = objects.mark_outputs_deleted(tenant, id, self.now()).await?;
        let gone = JobSnapshot {
            outputs_deleted_at: Some(at),
            ..job.clone()
        };
        let manifest = Job::without_outputs(&gone, self.view_settings());
        objects.put_manifest(tenant, &manifest).await?;
        objects.delete_outputs(tenant, id).await?;
        let (Finished::Recorded | Finished::Newer) = self.jobstore.finish(&gone).await?;
        Ok(())
    }

    async fn expire_outputs(&self, job: &JobSnapshot) -> Result<(), Refusal> {
        self.refuse_running(job).await?;
        self.remove_outputs(job).await
    }

    /// Deletes everything of a finished job, its record and its idempotency key included.
    pub(crate) async fn remove_job(&self, job: &JobSnapshot) -> Result<(), Refusal> {
        self.refuse_running(job).await?;
        let (tenant, id) = (&job.tenant, &job.job);
        // First and last: nobody may use the id in between, nor be told of half a job afterwards.
        self.jobstore.mark_gone(id).await?;
        self.objects.delete_job(tenant, id).await?;
        self.jobstore.forget_job(tenant, id).await?;
        Ok(())
    }

    pub(crate) async fn refuse_running(&self, job: &JobSnapshot) -> Result<(), Refusal> {
        let (tenant, id) = (&job.tenant, &job.job);
        if job.status.is_final() && !self.objects.is_open(tenant, id, job.run).await? {
            return Ok(());
        }
        let detail = "the job has not ended; cancel it first, or wait for its end";
        Err(Refusal::new(409, Code::JobNotFinished, detail))
    }
}
