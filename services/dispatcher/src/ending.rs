//! How a run ends: `end-{run}`, manifest, event, sweep, marker, Redis, in this order.
//!
//! Everything after the put-if-absent of the end is a function of the document that won, so a
//! loser and a redelivery only repeat what the winner owes.

use crate::core::Core;
use crate::error::Error;
use photofinish_contract::event::EventType;
use photofinish_contract::job::{Job, ViewSettings};
use photofinish_jobstore::{Finished, Settle};
use photofinish_model::part::Phase;
use photofinish_model::run::{Stop, Verdict, ended, verdict};
use photofinish_model::sequence::Moment;
use photofinish_model::{Fault, ItemIndex, ItemState, JobSnapshot};

impl Core {
    /// Ends the run if its items, or the reason given, say so. True: it is over.
    pub async fn end_if_due(&self, job: &JobSnapshot, stop: Option<&Stop>) -> Result<bool, Error> {
        if let Some(end) = self.objects.end(&job.tenant, &job.job, job.run).await? {
            self.close_run(&end).await?;
            return Ok(true);
        }
        match verdict(job, stop) {
            Verdict::GoesOn => Ok(false),
            Verdict::AlreadyFinal => Ok(true),
            Verdict::Ends { status, error } => {
                let proposal = ended(job, status, error, self.clock.now());
                let (end, mine) = self.objects.put_end(&proposal).await?;
                tracing::info!(job = %end.job, run = end.run, status = end.status.as_str(), mine,
                    "run ended");
                self.close_run(&end).await?;
                Ok(true)
            }
        }
    }

    /// Does what an ended run still owes; nothing when it is closed already.
    pub async fn close_run(&self, end: &JobSnapshot) -> Result<(), Error> {
        if self.objects.is_open(&end.tenant, &end.job, end.run).await? {
            self.stop_attempts(end).await?;
            self.write_manifest(end).await?;
            if let Some(event) = EventType::for_final(end.status) {
                self.tell(end, event, Moment::Final).await?;
            }
            self.objects.sweep(end).await?;
            self.objects.close(&end.tenant, &end.job, end.run).await?;
            metrics::counter!("photofinish_runs_ended_total",
                "status" => end.status.as_str(), "operation" => end.operation.as_str())
            .increment(1);
        }
        // A newer run may have taken the record: this one's end lies in the bucket all the same.
        let (Finished::Recorded | Finished::Newer) = self.jobstore.finish(end).await?;
        self.jobstore
            .deadline_clear(&end.job, &end.tenant, end.run)
            .await?;
        Ok(())
    }

    /// A retry's manifest replaces that of an earlier run, never the other way round.
    async fn write_manifest(&self, end: &JobSnapshot) -> Result<(), Error> {
        let there = self.objects.manifest(&end.tenant, &end.job).await?;
        if there.is_some_and(|manifest| manifest.run > end.run) {
            return Ok(());
        }
        let settings = ViewSettings {
            public_url: self.config.public_url.as_deref().unwrap_or_default(),
            usd_per_gpu_second: self.config.usd_per_gpu_second,
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
                let _stopped = self.cancel_attempt(&runpod_id).await;
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
        let state = ItemState::Failed(fault);
        match self
            .jobstore
            .settle_item(&job.job, job.run, index, &state)
            .await?
        {
            // What is settled stays as it is; what is missing is rebuilt from the part's record.
            Settle::First(_) | Settle::Already(..) | Settle::Missing | Settle::RunOver => Ok(()),
        }
    }
}
