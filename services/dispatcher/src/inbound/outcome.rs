//! `dispatcher.outcome`: attempts that are over.

use crate::core::Core;
use crate::ending::Leftovers;
use crate::error::Error;
use crate::parts::{Seen, settled};
use crate::posting::ready_in;
use crate::starting::part_ready;
use photofinish_broker::{Disposition, Incoming};
use photofinish_contract::announcement::ItemError;
use photofinish_contract::messages::{AttemptEnd, PartFinished, PartReady};
use photofinish_model::part::{Command, Event, Outcome, Phase, Step};
use photofinish_model::{AttemptRef, Fault, ItemIndex, JobSnapshot, OnItemError, SlotName, Usage};
use photofinish_objects::{ItemFault, PartRecord, RunDoc};
use photofinish_runtime::{error_chain, trace};
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
        let attempt = &finished.attempt;
        trace::about(&attempt.tenant, &attempt.job);
        match self.part_finished(&finished).await {
            Ok(disposition) => {
                self.count_attempt(&finished);
                disposition
            }
            Err(error) => {
                tracing::warn!(%attempt, error = error_chain(&error), "outcome");
                error.disposition(incoming.attempt)
            }
        }
    }

    async fn part_finished(&self, finished: &PartFinished) -> Result<Disposition, Error> {
        let attempt = &finished.attempt;
        let (tenant, job_id, run) = (&attempt.tenant, &attempt.job, attempt.run);
        self.count_for_tenant(attempt, self.usage(finished)).await;
        let doc = self.objects.run(tenant, job_id, run).await?;
        let loaded = self.load_with_part(tenant, job_id, run, attempt.part);
        let (job, seen) = loaded.await?;
        let (Some(doc), Some(job)) = (doc, job) else {
            return Err(Error::Missing {
                what: "the run",
                job: job_id.clone(),
            });
        };
        if job.run > run || job.status.is_final() {
            self.free_slot(&finished.endpoint, &SlotName::from(attempt))
                .await?;
            if let Some(end) = self.objects.end(tenant, job_id, run).await? {
                self.close_run(&end).await?;
            }
            return Ok(Disposition::Ack);
        }
        let first = self
            .jobstore
            .add_usage(job_id, run, attempt.nonce.as_str(), self.usage(finished))
            .await?;
        if first {
            self.learn(&doc, &job, finished).await;
        }
        let step = self.judge(&doc, &job, finished, seen).await?;
        let leftovers = leftovers(&doc, finished, &step);
        self.carry_out(&doc, &job, finished, step).await?;
        if let Some(job) = self.load(tenant, job_id, run).await?
            && job.run == run
        {
            self.end_when_told(&job, leftovers).await?;
        }
        Ok(Disposition::Ack)
    }

    async fn judge(
        &self,
        doc: &RunDoc,
        job: &JobSnapshot,
        finished: &PartFinished,
        seen: Seen,
    ) -> Result<Step, Error> {
        let faults: BTreeMap<ItemIndex, (Fault, bool)> = finished
            .errors
            .iter()
            .map(|error| (error.index, (error.fault.clone(), error.permanent)))
            .collect();
        let event = Event::Ended {
            attempt: finished.attempt.attempt,
            nonce: finished.attempt.nonce.clone(),
            endpoint: finished.endpoint.clone(),
            worker: finished.worker_id.clone(),
            said: said(&finished.end),
            outcome: outcome(finished),
            items: finished.items.iter().copied().collect(),
            settled: settled(job),
            faults,
        };
        let ready = ready_of(doc, finished);
        self.step_part(doc, job, &ready, &event, seen).await
    }

    /// Ends a job that fails as a whole as soon as one of its items has failed for good, while
    /// its attempt still goes on.
    pub async fn items_failed(
        &self,
        job: &JobSnapshot,
        attempt: &AttemptRef,
        errors: &[ItemError],
    ) -> Result<Disposition, Error> {
        let (tenant, id, run) = (&attempt.tenant, &attempt.job, attempt.run);
        let Some(doc) = self.objects.run(tenant, id, run).await? else {
            return Err(Error::Missing {
                what: "the run",
                job: id.clone(),
            });
        };
        if job.on_item_error == OnItemError::Fail && !job.status.is_final() {
            let settled = settled(job);
            let open = errors
                .iter()
                .filter(|error| error.permanent && !settled.contains(&error.index));
            let faults: Vec<ItemFault> = open
                .map(|error| ItemFault {
                    index: error.index,
                    fault: error.fault.clone(),
                    evidence: format!("{attempt} (nonce {}): its worker said so", attempt.nonce),
                })
                .collect();
            if !faults.is_empty() {
                self.record_faults(&doc, attempt.part, attempt.attempt, faults.clone())
                    .await?;
            }
            for failed in faults {
                self.fail_item(job, failed.index, failed.fault).await?;
            }
        }
        if let Some(job) = self.load(tenant, id, run).await?
            && job.run == run
        {
            self.end_if_due(&job, None).await?;
        }
        Ok(Disposition::Ack)
    }

    /// What an attempt cost, at the price that its endpoint has now.
    fn usage(&self, finished: &PartFinished) -> Usage {
        let gpu_seconds = finished.usage.gpu_seconds;
        let price = self.price_of(&finished.endpoint);
        Usage {
            gpu_seconds,
            linger_s: finished.usage.linger_s,
            attempts: 1,
            rescued: finished.usage.rescued,
            cost_usd: price.map_or(0.0, |price| price * gpu_seconds),
            priced_s: price.map_or(0.0, |_| gpu_seconds),
        }
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
        let last = format!(
            "{attempt} (nonce {}) on worker {} of endpoint {}: {}",
            attempt.nonce,
            finished.worker_id.as_deref().unwrap_or("unknown"),
            finished.endpoint,
            said(&finished.end)
        );
        let errors: Vec<ItemFault> = step
            .commands
            .iter()
            .filter_map(|command| match command {
                Command::FailItem { index, fault } => Some(ItemFault {
                    index: *index,
                    fault: fault.clone(),
                    evidence: format!("{last}{}", step.next.evidence(*index)),
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
        let ready = ready_in(&ready_of(doc, finished), &step.next);
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

/// What may be left in the bucket of a run whose last attempt has ended so: nothing, if it was the
/// only one of the only part and its worker has pushed nothing.
fn leftovers(doc: &RunDoc, finished: &PartFinished, step: &Step) -> Leftovers {
    let only = doc.plan.len() == 1 && finished.attempt.attempt == 1 && step.next.attempt == 1;
    let done = finished.end == AttemptEnd::Completed && step.next.phase == Phase::Done;
    if only && done && finished.nothing_pushed {
        Leftovers::None
    } else {
        Leftovers::Possible
    }
}

/// The message of the part that an attempt was of.
fn ready_of(doc: &RunDoc, finished: &PartFinished) -> PartReady {
    let attempt = &finished.attempt;
    PartReady {
        state: finished.state.clone(),
        ..part_ready(doc, attempt.part, attempt.attempt)
    }
}

/// What the end of an attempt means for its items.
fn outcome(finished: &PartFinished) -> Outcome {
    match &finished.end {
        AttemptEnd::Completed => Outcome::Returned,
        AttemptEnd::Failed { .. } | AttemptEnd::Lost { .. } => Outcome::Crashed {
            suspects: finished.suspects.iter().copied().collect(),
        },
        AttemptEnd::NeverStarted | AttemptEnd::Unknown | AttemptEnd::RunOver => Outcome::Void,
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
