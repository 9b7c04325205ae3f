//! A planned run goes live: its record with its deadline, the event, and its first parts.
//!
//! A part need not wait for anything where a slot is free and nothing waits in any lane: then it is
//! submitted here, and the message that is being handled stands for it until its attempt is the
//! fetcher's. All others are queued in their tenant's lane.

use crate::core::Core;
use crate::ending::Leftovers;
use crate::endpoints::Endpoint;
use crate::error::Error;
use crate::parts::Seen;
use crate::posting::{Posted, Slot, ready_in};
use photofinish_contract::event::EventType;
use photofinish_contract::messages::PartReady;
use photofinish_jobstore::{RunBegun, SlotFor, Swap};
use photofinish_model::part::{Command, Part};
use photofinish_model::plan::PartPlan;
use photofinish_model::sequence::Moment;
use photofinish_model::{JobSnapshot, Nonce, SlotName};
use photofinish_objects::RunDoc;
use std::sync::PoisonError;
use std::time::{Duration, Instant};
use tokio::sync::OwnedSemaphorePermit;

/// How long a part waits for the right to a submit, lest a moment's stall sends it, and all that
/// come after it, into the lanes.
const PERMITS_WAIT: Duration = Duration::from_millis(250);
/// Once one has waited for it in vain, nobody does for so long: RunPod is slow, and commands are behind.
const CROWDED: Duration = Duration::from_secs(1);

/// A slot for a part that does not wait.
#[derive(Debug)]
struct AtOnce {
    /// The attempt's fencing token.
    nonce: Nonce,
    /// Under what the attempt holds the slot.
    name: String,
    endpoint: Endpoint,
    /// The right to a submit, and to one out of a handler's hand.
    _permits: [OwnedSemaphorePermit; 2],
}

impl Core {
    /// Makes a planned run live. May be repeated. `mine`: its plan was put by this very call.
    pub async fn start_run(&self, doc: &RunDoc, mine: bool) -> Result<(), Error> {
        let (tenant, id, run) = (&doc.tenant, &doc.job, doc.run);
        let fresh = doc.initial_snapshot();
        let begun = self.jobstore.begin(&fresh).await?;
        // A run without a plan is ended by a parked message alone, and then its record says so.
        let surely_goes_on = mine && begun == RunBegun::Before;
        if !surely_goes_on && let Some(end) = self.objects.end(tenant, id, run).await? {
            // An earlier receipt may have come to its end before this was told.
            self.tell(&fresh, EventType::JobAccepted, Moment::Accepted)
                .await?;
            return self.close_run(&end).await;
        }
        let job = match begun {
            RunBegun::Now | RunBegun::Before => fresh,
            RunBegun::Over => return Ok(()),
            RunBegun::UnderWay => {
                let Some(job) = self.load(tenant, id, run).await? else {
                    return Err(Error::Missing {
                        what: "the record",
                        job: id.clone(),
                    });
                };
                if job.run != run || job.status.is_final() {
                    return Ok(());
                }
                job
            }
        };
        let parts = doc
            .plan
            .iter()
            .map(|planned| self.start_part(doc, &job, planned));
        // All to their end: a submit is not broken off for what another one came to.
        let (told, parts) = tokio::join!(
            self.tell(&job, EventType::JobAccepted, Moment::Accepted),
            futures_util::future::join_all(parts)
        );
        told?;
        parts.into_iter().collect()
    }

    async fn start_part(
        &self,
        doc: &RunDoc,
        job: &JobSnapshot,
        planned: &PartPlan,
    ) -> Result<(), Error> {
        let ready = part_ready(doc, planned.part, 1);
        match self.slot_at_once(&ready).await? {
            Some(slot) => self.submit_at_once(doc, job, &ready, &slot).await,
            None => self.queue_first(doc, job, &ready, planned).await,
        }
    }

    /// A slot, if the part passes nobody by.
    async fn slot_at_once(&self, ready: &PartReady) -> Result<Option<AtOnce>, Error> {
        if self.pauses.is_paused(&ready.tenant) {
            return Ok(None);
        }
        let Some(permits) = self.submit_permits().await else {
            return Ok(None);
        };
        let nonce = Nonce::from_random(uuid::Uuid::new_v4().as_u128());
        let name = SlotName::from(&ready.with_nonce(nonce.clone())).to_string();
        let slot_for = SlotFor::Unawaited(ready.priority, self.lane(&ready.tenant).await?);
        let granted = self.next_slot(&name, slot_for).await?;
        Ok(granted.map(|granted| AtOnce {
            nonce,
            name,
            endpoint: granted.endpoint,
            _permits: permits,
        }))
    }

    /// The right to a submit out of a handler's hand, if there is one or will be in a moment.
    async fn submit_permits(&self) -> Option<[OwnedSemaphorePermit; 2]> {
        let crowded = || self.crowded.lock().unwrap_or_else(PoisonError::into_inner);
        let patience = match *crowded() {
            Some(at) if at.elapsed() < CROWDED => Duration::ZERO,
            Some(_) | None => PERMITS_WAIT,
        };
        let both = async {
            let at_once = self.at_once.clone().acquire_owned().await.ok()?;
            Some([at_once, self.submits.clone().acquire_owned().await.ok()?])
        };
        if let Ok(permits) = tokio::time::timeout(patience, both).await {
            return permits;
        }
        if !patience.is_zero() {
            *crowded() = Some(Instant::now());
        }
        None
    }

    /// Submits a first attempt. One that another receipt of the same message has begun is carried on.
    async fn submit_at_once(
        &self,
        doc: &RunDoc,
        job: &JobSnapshot,
        ready: &PartReady,
        at_once: &AtOnce,
    ) -> Result<(), Error> {
        let slot = Slot {
            endpoint: &at_once.endpoint,
            nonce: &at_once.nonce,
            bound: true,
        };
        let submitted = self
            .grant_part(doc, job, ready, slot, Seen::Nothing, 0)
            .await;
        // What failed later keeps its slot until that is asked after: it may be RunPod's.
        if let Ok(None) = submitted {
            self.give_back(&slot.endpoint.id, &at_once.name).await;
        }
        match submitted? {
            Some(Posted::Taken) => Ok(()),
            Some(Posted::Refused(pause)) => self.queue_part_after(ready, pause).await,
            // What an earlier receipt's attempt stored may have been the last.
            None => self.end_when_told(job, Leftovers::Possible).await,
        }
    }

    /// Queues a first attempt in its lane.
    async fn queue_first(
        &self,
        doc: &RunDoc,
        job: &JobSnapshot,
        ready: &PartReady,
        planned: &PartPlan,
    ) -> Result<(), Error> {
        let first = Part::new(planned.items.iter().copied());
        let text = serde_json::to_string(&first)?;
        let swap = self
            .jobstore
            .part_cas(&doc.job, doc.run, planned.part, None, &text)
            .await?;
        let part: Part = match swap {
            Swap::Lost(Some(there)) => serde_json::from_str(&there).map_err(Error::Record)?,
            Swap::Swapped | Swap::Lost(None) => first,
        };
        match part.owed() {
            Some(Command::Queue { attempt: 1, .. }) => self.queue_part(ready).await,
            // An earlier receipt may have submitted it and not come to hand it on.
            Some(watch @ Command::Watch { .. }) if part.attempt == 1 => {
                let ready = ready_in(ready, &part);
                self.perform(doc, job, &ready, watch).await
            }
            // A part that has moved on has a message of its own.
            Some(
                Command::Queue { .. }
                | Command::Watch { .. }
                | Command::Post { .. }
                | Command::FailItem { .. }
                | Command::FreeSlot { .. }
                | Command::ReturnGrant
                | Command::CancelAttempt { .. },
            )
            | None => Ok(()),
        }
    }
}

/// The message of a part's attempt.
pub fn part_ready(doc: &RunDoc, part: u16, attempt: u16) -> PartReady {
    PartReady {
        job: doc.job.clone(),
        tenant: doc.tenant.clone(),
        run: doc.run,
        part,
        attempt,
        priority: doc.request.priority,
        state: None,
    }
}
