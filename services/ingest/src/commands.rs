//! What a person wants of a run: one confirmed command message each.

use crate::core::Ingest;
use crate::error::Refusal;
use jiff::{SignedDuration, Timestamp};
use photofinish_contract::messages::{Command, JobCommand, PlanMessage};
use photofinish_model::run::retried;
use photofinish_model::{Code, JobSnapshot, Tenant};
use std::time::Duration;

/// A retry is answered when its run has begun, so that whoever looks then does not see the end of the last one; at the
/// latest after so long, as it will be.
const BEGUN_WITHIN: Duration = Duration::from_secs(1);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

impl Ingest {
    /// Asks for a run to be stopped.
    pub(crate) async fn cancel(&self, tenant: &Tenant, id: &str) -> Result<JobSnapshot, Refusal> {
        let job = self.find(tenant, id).await?;
        if job.status.is_final() {
            let detail = format!(
                "the job is {}; there is nothing to stop",
                job.status.as_str()
            );
            return Err(Refusal::new(409, Code::JobFinished, detail));
        }
        self.command(&job, Command::Cancel, "cancel").await?;
        Ok(job)
    }

    /// Asks for a new run for what did not succeed; gives the job as it is in that run.
    pub(crate) async fn retry(&self, tenant: &Tenant, id: &str) -> Result<JobSnapshot, Refusal> {
        let job = self.find(tenant, id).await?;
        if !job.status.is_final() {
            let detail = "the job has not ended; wait for its end, or cancel it";
            return Err(Refusal::new(409, Code::JobNotFinished, detail));
        }
        if let Some(at) = job.outputs_deleted_at {
            let detail = format!("the job's outputs were deleted at {at}; submit a new job");
            return Err(Refusal::new(409, Code::OutputDeleted, detail));
        }
        let counts = job.counts();
        if counts.stored == counts.total {
            let detail = "every item has succeeded";
            return Err(Refusal::new(409, Code::NothingToRetry, detail));
        }
        let accepted_at = self.now();
        let command = Command::Retry { accepted_at };
        let placed = self.take_place(tenant, &job.job, job.items.len()).await?;
        if let Err(refusal) = self.command(&job, command, "retry").await {
            if placed {
                self.give_up_place(tenant, &job.job).await;
            }
            return Err(refusal);
        }
        let next = self.next_run(job, accepted_at).await;
        let begun = tokio::time::timeout(BEGUN_WITHIN, self.begun(&next)).await;
        Ok(begun.ok().flatten().unwrap_or(next))
    }

    /// The run once the dispatcher has begun it; nothing when that cannot be seen.
    async fn begun(&self, next: &JobSnapshot) -> Option<JobSnapshot> {
        loop {
            let there = self.jobstore.job(&next.job).await.ok()??;
            if there.run >= next.run {
                return Some(there);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// An ended job in its next run, as the dispatcher will plan it.
    async fn next_run(&self, ended: JobSnapshot, accepted_at: Timestamp) -> JobSnapshot {
        let last = self.objects.run(&ended.tenant, &ended.job, ended.run).await;
        let allowed = match last {
            Ok(Some(last)) => SignedDuration::from_secs(i64::from(last.request.deadline_s)),
            Ok(None) | Err(_) => ended.deadline_at.duration_since(ended.created_at),
        };
        let deadline_at = accepted_at
            .saturating_add(allowed)
            .unwrap_or(Timestamp::MAX);
        retried(&ended, accepted_at, deadline_at).unwrap_or(ended)
    }

    async fn command(
        &self,
        job: &JobSnapshot,
        command: Command,
        name: &str,
    ) -> Result<(), Refusal> {
        let message = PlanMessage::JobCommand(JobCommand {
            job: job.job.clone(),
            tenant: job.tenant.clone(),
            run: job.run,
            command,
        });
        let message_id = format!("{}/{}/{name}", job.job, job.run);
        Ok(self.tell_dispatcher(&message, message_id).await?)
    }
}
