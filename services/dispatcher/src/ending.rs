//! How a run ends: `end-{run}`, manifest, event, sweep, marker, Redis, in this order.
//!
//! Everything after the put-if-absent of the end is a function of the document that won, so a
//! loser and a redelivery only repeat what the winner owes.

use crate::core::Core;
use crate::error::Error;
use crate::telemetry;
use photofinish_contract::event::EventType;
use photofinish_contract::job::{Job, ViewSettings};
use photofinish_jobstore::{Finished, Settle};
use photofinish_model::part::Phase;
use photofinish_model::run::{Stop, Verdict, ended, verdict};
use photofinish_model::sequence::Moment;
use photofinish_model::{Fault, ItemIndex, ItemState, JobSnapshot, OutputSource};
use std::time::Duration;

/// A run whose outputs are all stored waits so long for what its attempts cost.
const COSTS_WAIT: Duration = Duration::from_secs(5);

/// Whether anything of a run can lie in the bucket that its end does not list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leftovers {
    /// Nothing can: one attempt was made, its worker pushed nothing, and everything it made is
    /// stored and listed.
    None,
    /// Something may, as far as anybody knows: it is looked for.
    Possible,
}

impl Core {
    /// Ends the run if its items, or the reason given, say so. True: it is over.
    pub async fn end_if_due(&self, job: &JobSnapshot, stop: Option<&Stop>) -> Result<bool, Error> {
        self.end_leaving(job, stop, Leftovers::Possible).await
    }

    async fn end_leaving(
        &self,
        job: &JobSnapshot,
        stop: Option<&Stop>,
        leftovers: Leftovers,
    ) -> Result<bool, Error> {
        match verdict(job, stop) {
            // Somebody may have ended it for another reason and died before Redis knew.
            Verdict::GoesOn | Verdict::AlreadyFinal => {
                let Some(end) = self.objects.end(&job.tenant, &job.job, job.run).await? else {
                    return Ok(false);
                };
                self.close_run(&end).await?;
                Ok(true)
            }
            Verdict::Ends { status, error } => {
                if job.counts().settled() as usize != job.items.len() {
                    self.jobstore.begin_end(&job.job, job.run).await?;
                }
                let proposal = ended(job, status, error, self.clock.now());
                let (end, mine) = self.objects.put_end(&proposal).await?;
                tracing::info!(job = %end.job, run = end.run, status = end.status.as_str(), mine,
                    "run ended");
                // Who has just ended it need not ask whether it is closed.
                if mine {
                    self.settle_end(&end, leftovers).await?;
                    self.forget_run(&end).await?;
                } else {
                    self.close_run(&end).await?;
                }
                Ok(true)
            }
        }
    }

    /// Ends the run if its items say so. When all of them are stored and attempts of other parts
    /// are about to tell what they cost, the end waits for that, though not for long: its deadline
    /// is brought near, and whoever comes first ends it.
    pub async fn end_when_told(
        &self,
        job: &JobSnapshot,
        leftovers: Leftovers,
    ) -> Result<(), Error> {
        let done = job.counts().stored as usize == job.items.len();
        if done && self.is_under_way(job).await? {
            let at = self.clock.now() + COSTS_WAIT;
            let (id, tenant) = (&job.job, &job.tenant);
            let at = at.min(job.deadline_at);
            return Ok(self.jobstore.deadline_set(id, tenant, job.run, at).await?);
        }
        let leftovers = match leftovers {
            Leftovers::None if done && by_first_attempt(job) => Leftovers::None,
            Leftovers::None | Leftovers::Possible => Leftovers::Possible,
        };
        self.end_leaving(job, None, leftovers).await.map(drop)
    }

    async fn is_under_way(&self, job: &JobSnapshot) -> Result<bool, Error> {
        if job.parts < 2 {
            return Ok(false);
        }
        let parts = self.stored_parts(&job.job, job.run, job.parts).await?;
        Ok(parts.iter().any(|part| match &part.phase {
            Phase::Submitting { .. } | Phase::InFlight { .. } => true,
            Phase::Waiting | Phase::Done => false,
        }))
    }

    /// Does what an ended run still owes; nothing when it is closed already.
    pub async fn close_run(&self, end: &JobSnapshot) -> Result<(), Error> {
        if self.objects.is_open(&end.tenant, &end.job, end.run).await? {
            self.settle_end(end, Leftovers::Possible).await?;
        }
        self.forget_run(end).await
    }

    /// What follows from an end, in its order; the marker last.
    async fn settle_end(&self, end: &JobSnapshot, leftovers: Leftovers) -> Result<(), Error> {
        self.stop_attempts(end).await?;
        self.write_manifest(end).await?;
        if let Some(event) = EventType::for_final(end.status) {
            self.tell(end, event, Moment::Final).await?;
        }
        self.abort_uploads(end).await?;
        match leftovers {
            Leftovers::None => {}
            Leftovers::Possible => self.objects.sweep(end).await?,
        }
        self.objects.close(&end.tenant, &end.job, end.run).await?;
        telemetry::run_ended(end);
        Ok(())
    }

    async fn forget_run(&self, end: &JobSnapshot) -> Result<(), Error> {
        self.note_end(end).await?;
        // A newer run may have taken the record: this one's end lies in the bucket all the same.
        let (Finished::Recorded | Finished::Newer) = self.jobstore.finish_closed(end).await?;
        Ok(())
    }

    /// A retry's manifest replaces that of an earlier run, never the other way round.
    async fn write_manifest(&self, end: &JobSnapshot) -> Result<(), Error> {
        let settings = ViewSettings {
            public_url: self.config.public_url.as_deref().unwrap_or_default(),
            // Each attempt has its own price on it.
            usd_per_gpu_second: None,
            now: None,
        };
        let manifest = Job::with_outputs(end, settings, |_| None);
        Ok(self.objects.put_manifest(&end.tenant, &manifest).await?)
    }

    /// Nothing of an ended run runs on. The watches do the same for what is missed here.
    async fn stop_attempts(&self, end: &JobSnapshot) -> Result<(), Error> {
        for part in self.stored_parts(&end.job, end.run, end.parts).await? {
            if let Phase::InFlight {
                runpod_id: Some(runpod_id),
                ..
            } = part.phase
            {
                // Best effort: an attempt's own watch cancels what this does not reach.
                let endpoint = self.endpoint_or_first(part.endpoint.as_deref());
                let _stopped = self.cancel_attempt(endpoint, &runpod_id).await;
            }
        }
        Ok(())
    }

    /// Settles an item as failed for good.
    pub async fn fail_item(
        &self,
        job: &JobSnapshot,
        index: ItemIndex,
        fault: Fault,
    ) -> Result<(), Error> {
        tracing::info!(job = %job.job, index, code = fault.code.as_str(), "item failed");
        let code = fault.code.as_str();
        let state = ItemState::Failed(fault);
        match self
            .jobstore
            .settle_item(&job.job, job.run, index, &state)
            .await?
        {
            // What is settled stays as it is; what is missing is rebuilt from the part's record.
            Settle::First(_) => {
                telemetry::item_failed(code);
                Ok(())
            }
            Settle::Already(..) | Settle::Missing | Settle::RunOver => Ok(()),
        }
    }
}

/// Whether every output of this run was made by its part's first attempt and came off its worker.
fn by_first_attempt(job: &JobSnapshot) -> bool {
    job.items.iter().all(|row| match &row.state {
        ItemState::Stored(output) => {
            output.run < job.run
                || (output.attempt == 1
                    && match output.source {
                        OutputSource::PulledInProgress | OutputSource::PulledLate => true,
                        OutputSource::Rescued => false,
                    })
        }
        ItemState::Pending | ItemState::Rendering | ItemState::Ready | ItemState::Failed(_) => {
            false
        }
    })
}
