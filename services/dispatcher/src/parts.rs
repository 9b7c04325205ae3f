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

/// What whoever steps a part believes to be stored of it. A wrong belief costs one more round.
#[derive(Debug)]
pub enum Seen {
    /// Nobody has looked.
    Unread,
    /// What was read a moment ago.
    Read(Option<String>),
    /// Nothing: it is the part's first step.
    Nothing,
    /// This part, of which it was the last to step it.
    Stored(Box<Part>),
}

impl Core {
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
        seen: Seen,
    ) -> Result<Step, Error> {
        let (id, run, part) = (&doc.job, doc.run, ready.part);
        let (mut stored, mut read) = match seen {
            Seen::Unread => (self.jobstore.part(id, run, part).await?, true),
            Seen::Read(stored) => (stored, true),
            Seen::Nothing => (None, false),
            Seen::Stored(part) => (Some(serde_json::to_string(&part)?), false),
        };
        for _ in 0..SWAPS_MAX {
            let state = known(stored.as_deref(), doc, job, ready)?;
            let ctx = Ctx {
                policy: self.part_policy(),
                jitter: photofinish_runtime::clock::jitter(),
            };
            let step = state.step(event, &ctx);
            let next = serde_json::to_string(&step.next)?;
            if stored.as_deref() == Some(next.as_str()) {
                if read {
                    return Ok(step);
                }
                (stored, read) = (self.jobstore.part(id, run, part).await?, true);
                continue;
            }
            let swap = self
                .jobstore
                .part_cas(id, run, part, stored.as_deref(), &next)
                .await?;
            match swap {
                Swap::Swapped => {
                    tracing::debug!(job = %id, part, note = ?step.note, "part stepped");
                    return Ok(step);
                }
                Swap::Lost(there) => (stored, read) = (there, true),
            }
        }
        Err(Error::Contended {
            job: id.clone(),
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

/// A part as it is stored. When it is not, be it that Redis was emptied: as its message knows it, else
/// as the plan makes it; without the items that are settled.
fn known(
    stored: Option<&str>,
    doc: &RunDoc,
    job: &JobSnapshot,
    ready: &PartReady,
) -> Result<Part, Error> {
    if let Some(text) = stored {
        return serde_json::from_str(text).map_err(Error::Record);
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
    Ok(part)
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
