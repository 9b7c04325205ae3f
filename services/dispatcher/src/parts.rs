//! A stored part: read, stepped, swapped; then its commands are carried out by the caller.

use crate::core::Core;
use crate::error::Error;
use photofinish_contract::messages::PartReady;
use photofinish_jobstore::Swap;
use photofinish_model::part::{Ctx, Event, Part, PartPolicy, Phase, Step};
use photofinish_model::{ItemState, JobId, JobSnapshot};
use photofinish_objects::RunDoc;

/// Steps are taken again so often when another process was faster.
const SWAPS_MAX: usize = 8;

impl Core {
    /// A part as it is stored. When Redis was emptied: as its message knows it, else as the plan
    /// makes it; without the items that are settled.
    async fn load_part(
        &self,
        doc: &RunDoc,
        job: &JobSnapshot,
        ready: &PartReady,
    ) -> Result<(Option<String>, Part), Error> {
        if let Some(text) = self.jobstore.part(&doc.job, doc.run, ready.part).await? {
            let part = serde_json::from_str(&text).map_err(Error::Record)?;
            return Ok((Some(text), part));
        }
        let mut part = ready.state.as_deref().cloned().unwrap_or_else(|| {
            let planned = doc.plan.iter().find(|plan| plan.part == ready.part);
            Part::new(planned.map(|plan| plan.items.clone()).unwrap_or_default())
        });
        let settled = settled(job);
        part.open.retain(|index, _| !settled.contains(index));
        part.alone.retain(|index| !settled.contains(index));
        part.attempt = part.attempt.max(ready.attempt);
        if part.open.is_empty() {
            part.phase = Phase::Done;
        }
        Ok((None, part))
    }

    /// A part as it is stored, if it is.
    pub async fn stored_part(
        &self,
        job: &JobId,
        run: u32,
        part: u16,
    ) -> Result<Option<Part>, Error> {
        let stored = self.jobstore.part(job, run, part).await?;
        let part = stored.map(|text| serde_json::from_str(&text).map_err(Error::Record));
        part.transpose()
    }

    /// Decides what an event means for a part and stores it; the commands are the caller's to do.
    pub async fn step_part(
        &self,
        doc: &RunDoc,
        job: &JobSnapshot,
        ready: &PartReady,
        event: &Event,
    ) -> Result<Step, Error> {
        let part = ready.part;
        for _ in 0..SWAPS_MAX {
            let (stored, state) = self.load_part(doc, job, ready).await?;
            let ctx = Ctx {
                policy: self.part_policy(),
                jitter: photofinish_runtime::clock::jitter(),
            };
            let step = state.step(event, &ctx);
            let next = serde_json::to_string(&step.next)?;
            if stored.as_deref() == Some(next.as_str()) {
                return Ok(step);
            }
            let swap = self
                .jobstore
                .part_cas(&doc.job, doc.run, part, stored.as_deref(), &next)
                .await?;
            match swap {
                Swap::Swapped => {
                    tracing::debug!(job = %doc.job, part, note = ?step.note, "part stepped");
                    return Ok(step);
                }
                Swap::Lost(_) => {}
            }
        }
        Err(Error::Contended {
            job: doc.job.clone(),
            part,
        })
    }

    /// Every part as it is stored now; parts that are not stored are left out.
    pub async fn stored_parts(
        &self,
        job: &JobId,
        run: u32,
        count: u16,
    ) -> Result<Vec<Part>, Error> {
        let stored = self.jobstore.parts(job, run, count).await?;
        let parts = stored.into_iter().flatten();
        parts
            .map(|text| serde_json::from_str(&text).map_err(Error::Record))
            .collect()
    }

    fn part_policy(&self) -> PartPolicy {
        PartPolicy {
            attempts_per_item_max: self.config.attempts_per_item_max,
            ..PartPolicy::default()
        }
    }
}

/// Items of a job to which nothing more happens.
pub fn settled(job: &JobSnapshot) -> std::collections::BTreeSet<u16> {
    let settled = |state: &ItemState| state.is_settled();
    job.items
        .iter()
        .filter(|row| settled(&row.state))
        .map(|row| row.index)
        .collect()
}
