//! What work takes, learned from attempts that are over, for the plans that follow.
//!
//! One attempt is one sample: what it executed, less its waiting to be fetched from, for the
//! outputs that count as its own. Best effort: without Redis nothing is learned, and plans are
//! made with the settings.

use crate::core::Core;
use photofinish_contract::messages::{AttemptEnd, PartFinished};
use photofinish_jobstore::{Estimates, JobStoreError};
use photofinish_model::estimate::{Learned, Rate, Sample};
use photofinish_model::{ItemState, JobSnapshot, Operation};
use photofinish_objects::RunDoc;
use photofinish_runtime::error_chain;

/// Another process may learn at the same moment; what is then not learned does not matter.
const TRIES: usize = 3;

impl Core {
    /// What an operation's work takes, as far as it is known.
    pub async fn rate(&self, operation: Operation) -> Rate {
        match self.jobstore.estimates().await {
            Ok(estimates) => self.known(&estimates, operation).rate,
            Err(error) => {
                tracing::debug!(error = error_chain(&error), "look up what work takes");
                self.config.prior.rate(operation)
            }
        }
    }

    /// Learns from an attempt that is over, once for each attempt: the caller sees to that.
    pub async fn learn(&self, doc: &RunDoc, job: &JobSnapshot, finished: &PartFinished) {
        let Some(sample) = sample(doc, job, finished) else {
            return;
        };
        if let Err(error) = self.keep(job.operation, &sample).await {
            tracing::debug!(error = error_chain(&error), "learn what work takes");
        }
    }

    async fn keep(&self, operation: Operation, sample: &Sample) -> Result<(), JobStoreError> {
        for _ in 0..TRIES {
            let read = self.jobstore.estimates().await?;
            let Some(now) = self.known(&read, operation).with(sample) else {
                return Ok(());
            };
            if self.jobstore.learn(operation, &read, now).await? {
                let labels = [("operation", operation.as_str())];
                let rate = now.rate;
                metrics::gauge!("photofinish_item_estimate_seconds", &labels)
                    .set(rate.item_us as f64 / 1e6);
                metrics::gauge!("photofinish_megapixel_estimate_seconds", &labels)
                    .set(rate.megapixel_ns as f64 / 1e9);
                return Ok(());
            }
        }
        Ok(())
    }

    fn known(&self, estimates: &Estimates, operation: Operation) -> Learned {
        let prior = || Learned::nothing(self.config.prior.rate(operation));
        estimates.learned(operation).unwrap_or_else(prior)
    }
}

/// What an attempt took. Nothing for one whose time went into other things, too: into items that
/// failed, or into ones that another attempt was faster with.
fn sample(doc: &RunDoc, job: &JobSnapshot, finished: &PartFinished) -> Option<Sample> {
    let attempt = &finished.attempt;
    if finished.end != AttemptEnd::Completed || !finished.errors.is_empty() {
        return None;
    }
    let part = doc.plan.iter().find(|plan| plan.part == attempt.part)?;
    let maker = |index: &u16| match &job.items.get(usize::from(*index))?.state {
        ItemState::Stored(output) => Some((output.run, output.attempt)),
        ItemState::Pending | ItemState::Rendering | ItemState::Ready | ItemState::Failed(_) => None,
    };
    let this = (attempt.run, attempt.attempt);
    let by_others = |index| maker(index).is_some_and(|maker| maker != this);
    if finished.items.iter().any(by_others) {
        return None;
    }
    let made = |index: &&u16| maker(index) == Some(this);
    let items: Vec<u16> = part.items.iter().filter(made).copied().collect();
    let works = doc.request.works();
    let work_of = |index: &u16| {
        works
            .get(usize::from(*index))
            .map_or(0, photofinish_model::plan::ItemWork::pixels)
    };
    let usage = &finished.usage;
    Some(Sample {
        items: items.len() as u32,
        pixels: items.iter().map(work_of).fold(0, u64::saturating_add),
        seconds: usage.gpu_seconds - usage.linger_s,
    })
}
