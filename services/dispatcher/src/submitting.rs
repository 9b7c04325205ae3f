//! The submit loop: a slot first, then a message, then the one POST (`posting`).

use crate::core::{Core, broker_priority};
use crate::ending::Leftovers;
use crate::endpoints::Endpoint;
use crate::error::Error;
use crate::lanes::whole_seconds;
use crate::parts::{Seen, settled};
use crate::posting::{Posted, Posting, Slot, ready_in};
use photofinish_broker::{Disposition, Held, WorkQueue};
use photofinish_contract::messages::PartReady;
use photofinish_jobstore::{LaneGrant, SlotFor};
use photofinish_model::part::{Command, Event, Phase};
use photofinish_model::{JobSnapshot, Nonce, SlotName};
use photofinish_objects::RunDoc;
use photofinish_runtime::{Shutdown, Tasks, error_chain, trace};
use std::sync::Arc;
use std::time::Duration;
use tracing::Instrument as _;

/// The loop looks for work at least so often, also when nobody rings.
const LOOK: Duration = Duration::from_secs(1);

/// A part of a paused tenant that shares its lane comes up again after this.
const PAUSED_WAIT: Duration = Duration::from_secs(30);

/// A message to submit, and the slot that is held for it.
struct Next {
    held: Held,
    /// Who holds the slot; the attempt's fencing token from now on.
    nonce: Nonce,
    endpoint: Endpoint,
    lane: LaneGrant,
}

/// Submits parts for as long as the process lives; several may run side by side.
pub async fn run(core: Arc<Core>, tasks: Tasks, shutdown: Shutdown) {
    while !shutdown.stopping() {
        let Ok(permit) = core.submits.clone().acquire_owned().await else {
            return;
        };
        match core.next_part().await {
            Ok(Some(next)) => {
                let core = core.clone();
                let span = next.held.span();
                let submitting = async move {
                    let lane = next.lane;
                    let mut disposition = core.submit(&next).await;
                    if let Disposition::RetryLater(wait) | Disposition::Snooze { wait, .. } =
                        &mut disposition
                    {
                        *wait = whole_seconds(*wait);
                        core.expected.after(lane.priority, lane.lane, *wait);
                    }
                    next.held.settle(disposition).await;
                    drop(permit);
                };
                tasks.spawn("submit", submitting.instrument(span));
            }
            Ok(None) => {
                drop(permit);
                tokio::select! {
                    () = core.work.notified() => {}
                    () = tokio::time::sleep(LOOK) => {}
                    () = shutdown.wait() => {}
                }
            }
            Err(error) => {
                drop(permit);
                tracing::warn!(error = error_chain(&error), "look for a part to submit");
                tokio::select! {
                    () = tokio::time::sleep(LOOK) => {}
                    () = shutdown.wait() => {}
                }
            }
        }
    }
}

impl Core {
    async fn next_part(&self) -> Result<Option<Next>, Error> {
        loop {
            let nonce = Nonce::from_random(uuid::Uuid::new_v4().as_u128());
            // While no endpoint takes any, parts stay in their lanes, in order, rather than go
            // round the tiers one by one.
            let Some(granted) = self.next_slot(nonce.as_str(), SlotFor::Next).await? else {
                return Ok(None);
            };
            let Some(lane) = granted.lane else {
                return Ok(None);
            };
            let endpoint = granted.endpoint;
            let queue = WorkQueue::Submit {
                priority: broker_priority(lane.priority),
                lane: lane.lane,
            };
            match self.broker.get(queue).await {
                Ok(Some(held)) => {
                    // Marked again since by whoever has published: then the mark stays. One that is
                    // not cleared costs an empty look.
                    if held.left() == 0 {
                        let _cleared = self.jobstore.clear_lane(&endpoint.id, lane).await;
                    }
                    return Ok(Some(Next {
                        held,
                        nonce,
                        endpoint,
                        lane,
                    }));
                }
                Ok(None) => {
                    self.jobstore.free(&endpoint.id, nonce.as_str()).await?;
                    self.jobstore.clear_lane(&endpoint.id, lane).await?;
                }
                Err(error) => {
                    self.jobstore.free(&endpoint.id, nonce.as_str()).await?;
                    return Err(error.into());
                }
            }
        }
    }

    async fn submit(&self, next: &Next) -> Disposition {
        let incoming = next.held.incoming();
        let ready: PartReady = match incoming.json() {
            Ok(ready) => ready,
            Err(error) => {
                self.give_back(&next.endpoint.id, next.nonce.as_str()).await;
                return Disposition::DeadLetter {
                    code: "malformed",
                    reason: error.to_string(),
                };
            }
        };
        trace::about(&ready.tenant, &ready.job);
        // Its lane holds others as well, or it would have been passed over.
        if self.pauses.is_paused(&ready.tenant) {
            self.give_back(&next.endpoint.id, next.nonce.as_str()).await;
            return Disposition::Snooze {
                wait: PAUSED_WAIT,
                mark: None,
            };
        }
        match self.submit_part(&ready, next, incoming.attempt).await {
            Ok(disposition) => disposition,
            Err(error) => {
                // The grant alone: an attempt that was bound keeps its slot until it is over.
                self.give_back(&next.endpoint.id, next.nonce.as_str()).await;
                tracing::warn!(job = %ready.job, part = ready.part,
                    error = error_chain(&error), "submit");
                error.disposition(incoming.attempt)
            }
        }
    }

    /// Best effort: a grant that nobody uses expires by itself.
    pub async fn give_back(&self, endpoint: &str, holder: &str) {
        if let Err(error) = self.jobstore.free(endpoint, holder).await {
            tracing::warn!(error = error_chain(&error), "free a slot");
        }
    }

    async fn submit_part(
        &self,
        ready: &PartReady,
        next: &Next,
        tries: u32,
    ) -> Result<Disposition, Error> {
        let (tenant, job_id, run) = (&ready.tenant, &ready.job, ready.run);
        let doc = self.objects.run(tenant, job_id, run).await?;
        let loaded = self.load_with_part(tenant, job_id, run, ready.part);
        let (job, seen) = loaded.await?;
        let (Some(doc), Some(job)) = (doc, job) else {
            return Err(Error::Missing {
                what: "the run",
                job: job_id.clone(),
            });
        };
        // Of an end that Redis does not know yet it is told in a moment: then the watch cancels.
        let over = job.run > run || job.status.is_final();
        let nonce = &next.nonce;
        if over {
            self.give_back(&next.endpoint.id, nonce.as_str()).await;
            self.step_and_perform(&doc, &job, ready, &Event::RunOver, seen)
                .await?;
            return Ok(Disposition::Ack);
        }
        let failed_on = self.last_endpoint(ready).await?;
        let endpoint = next.endpoint.clone();
        let endpoint = self
            .prefer_another(endpoint, failed_on.as_deref(), next.lane.lane, nonce)
            .await?;
        let slot = Slot {
            endpoint: &endpoint,
            nonce,
            bound: false,
        };
        let submitted = self.grant_part(&doc, &job, ready, slot, seen, tries).await;
        if !matches!(submitted, Ok(Some(_))) {
            // A slot that came in the place of the one that the loop gives back.
            self.give_back(&endpoint.id, nonce.as_str()).await;
        }
        match submitted? {
            Some(Posted::Taken) => Ok(Disposition::Ack),
            Some(Posted::Refused(pause)) => Ok(Disposition::RetryLater(pause)),
            None => {
                // Nothing to post: what an earlier attempt stored late may have been the last.
                self.end_when_told(&job, Leftovers::Possible).await?;
                Ok(Disposition::Ack)
            }
        }
    }

    /// Posts what is due of a part on a slot; nothing if nothing is.
    pub async fn grant_part(
        &self,
        doc: &RunDoc,
        job: &JobSnapshot,
        ready: &PartReady,
        slot: Slot<'_>,
        seen: Seen,
        tries: u32,
    ) -> Result<Option<Posted>, Error> {
        let event = Event::Granted {
            attempt: ready.attempt,
            nonce: slot.nonce.clone(),
            endpoint: slot.endpoint.id.clone(),
            settled: settled(job),
        };
        let step = self.step_part(doc, job, ready, &event, seen).await;
        if step.is_err() && slot.bound {
            let name = SlotName::from(&ready.with_nonce(slot.nonce.clone()));
            self.give_back(&slot.endpoint.id, &name.to_string()).await;
        }
        let step = step?;
        let ready = ready_in(ready, &step.next);
        let mut posted = None;
        for command in step.commands {
            if let Command::Post { nonce, items } = command {
                let posting = Posting {
                    doc,
                    job,
                    ready: &ready,
                    part: &step.next,
                    attempt: ready.with_nonce(nonce),
                    endpoint: &slot.endpoint.id,
                    bound: slot.bound,
                    items: &items,
                };
                posted = Some(self.post(&posting, tries).await?);
            } else {
                self.perform(doc, job, &ready, command).await?;
            }
        }
        Ok(posted)
    }

    /// Where the last attempt of a part was, if another one could be preferred now.
    async fn last_endpoint(&self, ready: &PartReady) -> Result<Option<String>, Error> {
        if self.config.endpoints.len() < 2 {
            return Ok(None);
        }
        let stored = self.stored_part(&ready.job, ready.run, ready.part).await?;
        let part = stored.or_else(|| ready.state.as_deref().cloned());
        Ok(part
            .filter(|part| part.phase == Phase::Waiting)
            .and_then(|part| part.endpoint))
    }
}
