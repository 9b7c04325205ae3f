//! `dispatcher.outcome`: attempts that are over.

use crate::core::Core;
use crate::error::Error;
use crate::parts::settled;
use crate::planning::part_ready;
use photofinish_broker::{Disposition, Incoming};
use photofinish_contract::messages::{AttemptEnd, PartFinished};
use photofinish_model::part::{Command, Event, Step};
use photofinish_model::{Fault, ItemIndex, JobSnapshot, SlotName, Usage};
use photofinish_objects::{ItemFault, PartRecord, RunDoc};
use photofinish_runtime::error_chain;
use std::collections::BTreeMap;

impl Core {
    /// Handles one message.
    pub async fn on_outcome(&self, incoming: Incoming) -> Disposition {
        let finished: PartFinished = match incoming.json() {
            Ok(finished) => finished,
            Err(error) => {
                return Disposition::DeadLetter {
                    code: "malformed",
                    reason: error.to_string(),
                };
            }
        };
        self.part_finished(&finished).await.unwrap_or_else(|error| {
            tracing::warn!(attempt = %finished.attempt, error = error_chain(&error), "outcome");
            error.disposition(incoming.attempt)
        })
    }

    async fn part_finished(&self, finished: &PartFinished) -> Result<Disposition, Error> {
        let attempt = &finished.attempt;
        let (tenant, job_id, run) = (&attempt.tenant, &attempt.job, attempt.run);
        let doc = self.objects.run(tenant, job_id, run).await?;
        let job = self.load(tenant, job_id, run).await?;
        let (Some(doc), Some(job)) = (doc, job) else {
            return Err(Error::Missing {
                what: "the run",
                job: job_id.clone(),
            });
        };
        if job.run > run || job.status.is_final() {
            self.free_slot(&SlotName::from(attempt)).await?;
            if let Some(end) = self.objects.end(tenant, job_id, run).await? {
                self.close_run(&end).await?;
            }
            return Ok(Disposition::Ack);
        }
        self.jobstore
            .add_usage(job_id, run, attempt.nonce.as_str(), usage(finished))
            .await?;
        let step = self.judge(&doc, &job, finished).await?;
        self.carry_out(&doc, &job, finished, step).await?;
        if let Some(job) = self.load(tenant, job_id, run).await?
            && job.run == run
        {
            self.end_if_due(&job, None).await?;
        }
        Ok(Disposition::Ack)
    }

    async fn judge(
        &self,
        doc: &RunDoc,
        job: &JobSnapshot,
        finished: &PartFinished,
    ) -> Result<Step, Error> {
        let faults: BTreeMap<ItemIndex, (Fault, bool)> = finished
            .errors
            .iter()
            .map(|error| (error.index, (error.fault.clone(), error.permanent)))
            .collect();
        let event = Event::Ended {
            attempt: finished.attempt.attempt,
            nonce: finished.attempt.nonce.clone(),
            spent: spent(&finished.end),
            settled: settled(job),
            faults,
        };
        self.step_part(
            doc,
            job,
            finished.attempt.part,
            finished.attempt.attempt,
            &event,
        )
        .await
    }

    /// What failed is written down with its evidence before it is counted.
    async fn carry_out(
        &self,
        doc: &RunDoc,
        job: &JobSnapshot,
        finished: &PartFinished,
        step: Step,
    ) -> Result<(), Error> {
        let attempt = &finished.attempt;
        let evidence = format!(
            "{} (nonce {}): {}",
            attempt,
            attempt.nonce,
            said(&finished.end)
        );
        let errors: Vec<ItemFault> = step
            .commands
            .iter()
            .filter_map(|command| match command {
                Command::FailItem { index, fault } => Some(ItemFault {
                    index: *index,
                    fault: fault.clone(),
                    evidence: evidence.clone(),
                }),
                Command::Post { .. }
                | Command::Watch { .. }
                | Command::Queue { .. }
                | Command::FreeSlot { .. }
                | Command::ReturnGrant
                | Command::CancelAttempt { .. } => None,
            })
            .collect();
        if !errors.is_empty() {
            self.record_faults(doc, attempt.part, attempt.attempt, errors)
                .await?;
        }
        let ready = part_ready(doc, attempt.part, attempt.attempt);
        for command in step.commands {
            self.perform(doc, job, &ready, command).await?;
        }
        Ok(())
    }

    /// Adds to the part's record; what an earlier attempt left there stays.
    async fn record_faults(
        &self,
        doc: &RunDoc,
        part: u16,
        attempt: u16,
        errors: Vec<ItemFault>,
    ) -> Result<(), Error> {
        let records = self
            .objects
            .part_records(&doc.tenant, &doc.job, doc.run)
            .await?;
        let earlier = records.into_iter().find(|record| record.part == part);
        let mut all = earlier.map(|record| record.errors).unwrap_or_default();
        all.retain(|old| !errors.iter().any(|new| new.index == old.index));
        all.extend(errors);
        let record = PartRecord {
            run: doc.run,
            part,
            attempt,
            errors: all,
        };
        Ok(self
            .objects
            .put_part_record(&doc.tenant, &doc.job, &record)
            .await?)
    }
}

fn usage(finished: &PartFinished) -> Usage {
    Usage {
        gpu_seconds: finished.usage.gpu_seconds,
        linger_s: finished.usage.linger_s,
        attempts: 1,
        rescued: finished.usage.rescued,
    }
}

/// Whether an attempt that ended so counts against its items.
fn spent(end: &AttemptEnd) -> bool {
    match end {
        AttemptEnd::Completed | AttemptEnd::Failed { .. } | AttemptEnd::Lost { .. } => true,
        AttemptEnd::NeverStarted | AttemptEnd::Unknown | AttemptEnd::RunOver => false,
    }
}

fn said(end: &AttemptEnd) -> String {
    match end {
        AttemptEnd::Completed => "the worker returned".to_owned(),
        AttemptEnd::Failed { reason } => format!("failed: {reason}"),
        AttemptEnd::Lost { reason } => format!("lost: {reason}"),
        AttemptEnd::NeverStarted => "never started".to_owned(),
        AttemptEnd::Unknown => "its submit was never answered".to_owned(),
        AttemptEnd::RunOver => "its run is over".to_owned(),
    }
}
