//! `dispatcher.plan`: admitted jobs and commands about runs.

use crate::core::Core;
use crate::error::Error;
use photofinish_broker::{Disposition, Incoming};
use photofinish_contract::messages::{Command, JobAccepted, JobCommand, PlanMessage};
use photofinish_model::JobSnapshot;
use photofinish_model::run::Stop;
use photofinish_runtime::{error_chain, trace};
use std::time::Duration;

/// A retry waits for its run to be closed; so long at a time.
const UNTIL_CLOSED: Duration = Duration::from_secs(1);

impl Core {
    /// Handles one message.
    pub async fn on_plan(&self, incoming: Incoming) -> Disposition {
        let message: PlanMessage = match incoming.json() {
            Ok(message) => message,
            Err(error) => {
                return Disposition::DeadLetter {
                    code: "malformed",
                    reason: error.to_string(),
                };
            }
        };
        match &message {
            PlanMessage::JobAccepted(about) => trace::about(&about.tenant, &about.job),
            PlanMessage::JobCommand(about) => trace::about(&about.tenant, &about.job),
        }
        let result = match &message {
            PlanMessage::JobAccepted(accepted) => self.on_accepted(accepted).await,
            PlanMessage::JobCommand(command) => self.on_command(command).await,
        };
        result.unwrap_or_else(|error| {
            tracing::warn!(error = error_chain(&error), "plan");
            error.disposition(incoming.attempt)
        })
    }

    async fn on_accepted(&self, accepted: &JobAccepted) -> Result<Disposition, Error> {
        let (doc, mine) = self.plan_first_run(accepted).await?;
        if doc.body_sha256 != accepted.body_sha256 {
            // Two bodies under one idempotency key, admitted while the record was lost.
            tracing::warn!(job = %doc.job, "another body came first under this key");
        }
        self.start_run(&doc, mine).await?;
        tracing::info!(job = %doc.job, operation = %doc.request.operation(),
            parts = doc.plan.len(), "planned");
        Ok(Disposition::Ack)
    }

    async fn on_command(&self, message: &JobCommand) -> Result<Disposition, Error> {
        let Some(job) = self
            .load(&message.tenant, &message.job, message.run)
            .await?
        else {
            return Err(Error::Missing {
                what: "the run",
                job: message.job.clone(),
            });
        };
        match &message.command {
            // Its effects may be owed although the record has moved on: they are done again.
            Command::Retry { accepted_at } => self.retry(message, *accepted_at).await,
            Command::Cancel
            | Command::Deadline
            | Command::Abandon { .. }
            | Command::ItemsFailed { .. }
                if job.run > message.run =>
            {
                Ok(Disposition::Ack)
            }
            Command::Cancel => self.stop(&job, &Stop::Cancel).await,
            // Redis' clock has compared it; ours may be another.
            Command::Deadline => self.stop(&job, &Stop::Deadline).await,
            Command::Abandon { fault } => self.stop(&job, &Stop::Abandon(fault.clone())).await,
            Command::ItemsFailed { attempt, errors } => {
                self.items_failed(&job, attempt, errors).await
            }
        }
    }

    /// Ends a run for a reason from outside. One that was not planned yet is planned first, so
    /// that its end finds its receivers; a run that cannot be planned is opened to be ended.
    async fn stop(&self, job: &JobSnapshot, stop: &Stop) -> Result<Disposition, Error> {
        let (tenant, id, run) = (&job.tenant, &job.job, job.run);
        let ended = self.objects.end(tenant, id, run).await?.is_some();
        if !ended && self.objects.run(tenant, id, run).await?.is_none() {
            match stop {
                Stop::Cancel | Stop::Deadline => {
                    return Err(Error::Missing {
                        what: "the plan",
                        job: id.clone(),
                    });
                }
                Stop::Abandon(_) => self.objects.open(tenant, id, run).await?,
            }
        }
        self.end_if_due(job, Some(stop)).await?;
        Ok(Disposition::Ack)
    }

    async fn retry(
        &self,
        message: &JobCommand,
        accepted_at: jiff::Timestamp,
    ) -> Result<Disposition, Error> {
        let (tenant, job, run) = (&message.tenant, &message.job, message.run);
        if self.objects.is_open(tenant, job, run).await? {
            return Ok(Disposition::RetryLater(UNTIL_CLOSED));
        }
        let Some(end) = self.objects.end(tenant, job, run).await? else {
            return Err(Error::Missing {
                what: "the end of the run",
                job: job.clone(),
            });
        };
        if let Some(doc) = self.plan_retry(&end, accepted_at).await? {
            self.start_run(&doc, false).await?;
            tracing::info!(%job, run = doc.run, "planned again");
        }
        Ok(Disposition::Ack)
    }
}
