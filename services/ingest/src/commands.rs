//! What a person wants of a run: one confirmed command message each.

use crate::core::Ingest;
use crate::error::Refusal;
use photofinish_contract::messages::{Command, JobCommand, PlanMessage};
use photofinish_model::{Code, JobSnapshot, Tenant};

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

    /// Asks for a new run for what did not succeed.
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
        let command = Command::Retry {
            accepted_at: self.now(),
        };
        let placed = self.take_place(tenant, &job.job, job.items.len()).await?;
        if let Err(refusal) = self.command(&job, command, "retry").await {
            if placed {
                self.give_up_place(tenant, &job.job).await;
            }
            return Err(refusal);
        }
        Ok(job)
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
