//! The submit loop: a slot first, then a message, then the one POST.

use crate::core::{Core, broker_priority};
use crate::error::Error;
use crate::lanes::whole_seconds;
use crate::planning::part_ready;
use photofinish_broker::{Disposition, Held, Outgoing, Route, Target, WorkQueue};
use photofinish_contract::messages::{PartReady, PartSubmitted, WatchState};
use photofinish_jobstore::{Grant, GrantAsk, LaneGrant};
use photofinish_model::part::{Command, Event};
use photofinish_model::{AttemptRef, ItemIndex, JobSnapshot, Nonce, RunPodId, SlotName};
use photofinish_objects::RunDoc;
use photofinish_runpod::client::{RunRequest, StatusError};
use photofinish_runtime::{Shutdown, Tasks, backoff, clock, error_chain};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// A slot whose holder has not posted within this is free again.
const GRANT_TTL: Duration = Duration::from_secs(60);
/// A slot of an attempt is asked after when nobody has renewed it for this long.
pub const SLOT_TTL: Duration = Duration::from_secs(60);
/// The loop looks for work at least so often, also when nobody rings.
const LOOK: Duration = Duration::from_secs(1);
/// The pause after a refused submit; doubled up to the longest.
const REFUSED_PAUSE: Duration = Duration::from_secs(2);
const REFUSED_PAUSE_MAX: Duration = Duration::from_secs(60);
/// The longest pause that RunPod may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);

/// Submits parts for as long as the process lives.
pub async fn run(core: Arc<Core>, tasks: Tasks, shutdown: Shutdown) {
    let permits = Arc::new(Semaphore::new(core.config.submits_max));
    while !shutdown.stopping() {
        let Ok(permit) = permits.clone().acquire_owned().await else {
            return;
        };
        match core.next_part().await {
            Ok(Some((held, nonce, lane))) => {
                let core = core.clone();
                tasks.spawn("submit", async move {
                    let mut disposition = core.submit(&held, &nonce).await;
                    if let Disposition::RetryLater(wait) = &mut disposition {
                        *wait = whole_seconds(*wait);
                        core.expected.after(lane.priority, lane.lane, *wait);
                    }
                    held.settle(disposition).await;
                    drop(permit);
                });
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
    /// A message to submit, the slot (its nonce) that is held for it, and its lane.
    async fn next_part(&self) -> Result<Option<(Held, Nonce, LaneGrant)>, Error> {
        let endpoint = &self.config.endpoint_id;
        if self.runpod.submits_refused_for(endpoint).is_some() {
            // Parts stay in their lanes, in order, rather than go round the tiers one by one.
            return Ok(None);
        }
        loop {
            let nonce = Nonce::from_random(uuid::Uuid::new_v4().as_u128());
            let ask = GrantAsk {
                capacity: self.config.capacity,
                reported: self.reported().await,
                holder: nonce.to_string(),
                ttl: GRANT_TTL,
                pick_lane: true,
            };
            let granted = self.jobstore.grant(endpoint, &ask).await?;
            self.rebuild.note(&granted);
            let lane: LaneGrant = match granted {
                Grant::Granted { lane: Some(lane) } => lane,
                Grant::Granted { lane: None } | Grant::NoLane | Grant::Full | Grant::TooYoung => {
                    return Ok(None);
                }
            };
            let queue = WorkQueue::Submit {
                priority: broker_priority(lane.priority),
                lane: lane.lane,
            };
            match self.broker.get(queue).await {
                Ok(Some(held)) => return Ok(Some((held, nonce, lane))),
                Ok(None) => {
                    self.jobstore.free(endpoint, nonce.as_str()).await?;
                    self.jobstore.clear_lane(endpoint, lane).await?;
                }
                Err(error) => {
                    self.jobstore.free(endpoint, nonce.as_str()).await?;
                    return Err(error.into());
                }
            }
        }
    }

    async fn submit(&self, held: &Held, nonce: &Nonce) -> Disposition {
        let incoming = held.incoming();
        let ready: PartReady = match incoming.json() {
            Ok(ready) => ready,
            Err(error) => {
                self.give_back(nonce).await;
                return Disposition::DeadLetter {
                    code: "malformed",
                    reason: error.to_string(),
                };
            }
        };
        match self.submit_part(&ready, nonce, incoming.attempt).await {
            Ok(disposition) => disposition,
            Err(error) => {
                // The grant alone: an attempt that was bound keeps its slot until it is over.
                self.give_back(nonce).await;
                tracing::warn!(job = %ready.job, part = ready.part,
                    error = error_chain(&error), "submit");
                error.disposition(incoming.attempt)
            }
        }
    }

    /// Best effort: a grant that nobody uses expires by itself.
    async fn give_back(&self, nonce: &Nonce) {
        if let Err(error) = self
            .jobstore
            .free(&self.config.endpoint_id, nonce.as_str())
            .await
        {
            tracing::warn!(error = error_chain(&error), "free a slot");
        }
    }

    async fn submit_part(
        &self,
        ready: &PartReady,
        nonce: &Nonce,
        tries: u32,
    ) -> Result<Disposition, Error> {
        let doc = self
            .objects
            .run(&ready.tenant, &ready.job, ready.run)
            .await?;
        let job = self.load(&ready.tenant, &ready.job, ready.run).await?;
        let (Some(doc), Some(job)) = (doc, job) else {
            return Err(Error::Missing {
                what: "the run",
                job: ready.job.clone(),
            });
        };
        let over = job.run > ready.run
            || job.status.is_final()
            || self
                .objects
                .end(&ready.tenant, &ready.job, ready.run)
                .await?
                .is_some();
        let event = if over {
            Event::RunOver
        } else {
            Event::Granted {
                attempt: ready.attempt,
                nonce: nonce.clone(),
            }
        };
        let step = self
            .step_part(&doc, &job, ready.part, ready.attempt, &event)
            .await?;
        let mut disposition = Disposition::Ack;
        let mut posted = false;
        for command in step.commands {
            match command {
                Command::Post { nonce, items } => {
                    posted = true;
                    let attempt = ready.with_nonce(nonce);
                    disposition = self.post(&doc, &job, &attempt, &items, tries).await?;
                }
                Command::ReturnGrant => self.give_back(nonce).await,
                other @ (Command::Watch { .. }
                | Command::Queue { .. }
                | Command::FailItem { .. }
                | Command::FreeSlot { .. }
                | Command::CancelAttempt { .. }) => {
                    self.perform(&doc, &job, ready, other).await?;
                }
            }
        }
        if !posted {
            self.give_back(nonce).await;
        }
        Ok(disposition)
    }

    /// The one POST of a nonce, and what its outcome means.
    async fn post(
        &self,
        doc: &RunDoc,
        job: &JobSnapshot,
        attempt: &AttemptRef,
        items: &[ItemIndex],
        tries: u32,
    ) -> Result<Disposition, Error> {
        let nonce = attempt.nonce.clone();
        let refused = Event::Refused {
            nonce: nonce.clone(),
        };
        let request = match self.prepare(doc, attempt, items).await {
            Ok(request) => request,
            Err(error) => {
                // Nothing was sent. Should this fail, too, the watch of the next receipt finds out.
                if let Err(error) = self.step_and_perform(doc, job, attempt, &refused).await {
                    tracing::warn!(%attempt, error = error_chain(&error), "take a submit back");
                }
                return Err(error);
            }
        };
        let runpod_id = match self.runpod.run(&self.config.endpoint_id, &request).await {
            Ok(accepted) => {
                tracing::info!(%attempt, runpod_id = accepted.id, items = items.len(), "submitted");
                RunPodId::try_from(accepted.id).ok()
            }
            Err(error) if error.is_refused() => {
                tracing::warn!(%attempt, error = error_chain(&error), "RunPod refused");
                let asked = error.retry_after().map(|pause| pause.min(RETRY_AFTER_MAX));
                self.step_and_perform(doc, job, attempt, &refused).await?;
                let pause = asked.unwrap_or_else(|| refused_pause(tries));
                return Ok(Disposition::RetryLater(pause));
            }
            Err(error) => {
                tracing::warn!(%attempt, error = error_chain(&error),
                    "what came of the submit is not known");
                None
            }
        };
        metrics::counter!("photofinish_attempts_submitted_total").increment(1);
        let event = Event::Submitted {
            nonce,
            runpod_id: runpod_id.clone(),
        };
        if let Err(error) = self.step_and_perform(doc, job, attempt, &event).await {
            // The attempt is RunPod's now. A watch needs only the broker, and it writes into the
            // record what could not be written here.
            tracing::warn!(%attempt, error = error_chain(&error), "record a submit");
            self.watch(doc, attempt, runpod_id, items).await?;
        }
        Ok(Disposition::Ack)
    }

    /// All that can fail before the POST: the slot and the input.
    async fn prepare(
        &self,
        doc: &RunDoc,
        attempt: &AttemptRef,
        items: &[ItemIndex],
    ) -> Result<RunRequest, Error> {
        let config = &self.config;
        let slot = SlotName::from(attempt).to_string();
        self.jobstore
            .bind(&config.endpoint_id, attempt.nonce.as_str(), &slot, SLOT_TTL)
            .await?;
        let input = self.attempt_input(doc, attempt, items).await?;
        Ok(RunRequest {
            input: serde_json::to_value(&input)?,
            webhook: self.hook_url(attempt),
            execution_timeout: config.execution_timeout,
            ttl: crate::config::ttl(config.execution_timeout, config.queue_wait_max),
        })
    }

    async fn step_and_perform(
        &self,
        doc: &RunDoc,
        job: &JobSnapshot,
        attempt: &AttemptRef,
        event: &Event,
    ) -> Result<(), Error> {
        let step = self
            .step_part(doc, job, attempt.part, attempt.attempt, event)
            .await?;
        let ready = part_ready(doc, attempt.part, attempt.attempt);
        for command in step.commands {
            self.perform(doc, job, &ready, command).await?;
        }
        Ok(())
    }

    /// Carries out one command of a part; every one may be repeated.
    pub async fn perform(
        &self,
        doc: &RunDoc,
        job: &JobSnapshot,
        ready: &PartReady,
        command: Command,
    ) -> Result<(), Error> {
        match command {
            Command::Watch {
                nonce,
                runpod_id,
                items,
            } => {
                self.watch(doc, &ready.with_nonce(nonce), runpod_id, &items)
                    .await
            }
            Command::Queue { attempt, after } => {
                let next = PartReady {
                    attempt,
                    ..ready.clone()
                };
                self.queue_part_after(&next, after).await
            }
            Command::FreeSlot { nonce } => {
                let slot = SlotName::from(&ready.with_nonce(nonce));
                self.free_slot(&slot).await
            }
            Command::CancelAttempt { runpod_id } => {
                // Best effort: an attempt's own watch cancels what this does not reach.
                let _stopped = self.cancel_attempt(&runpod_id).await;
                Ok(())
            }
            Command::FailItem { index, fault } => self.fail_item(job, index, fault).await,
            // A post needs its slot, and a grant its loop: both are the submit loop's alone.
            Command::Post { .. } | Command::ReturnGrant => Ok(()),
        }
    }

    /// Hands an attempt to the fetcher; again is harmless.
    pub async fn watch(
        &self,
        doc: &RunDoc,
        attempt: &AttemptRef,
        runpod_id: Option<RunPodId>,
        items: &[ItemIndex],
    ) -> Result<(), Error> {
        let message = PartSubmitted {
            attempt: attempt.clone(),
            endpoint: self.config.endpoint_id.clone(),
            runpod_id,
            operation: doc.request.operation(),
            items: items.to_vec(),
            submitted_at: self.clock.now(),
            budget_s: self.config.execution_timeout.as_secs_f64(),
            watch: WatchState::default(),
        };
        let outgoing = Outgoing::json(Target::Pipeline(Route::PartSubmitted), &message)?
            .message_id(attempt.nonce.to_string());
        Ok(self.publisher.publish(outgoing).await?)
    }

    /// Best effort, the watch cancels what this does not reach. True: nothing of it runs on.
    pub async fn cancel_attempt(&self, runpod_id: &RunPodId) -> bool {
        match self
            .runpod
            .cancel(&self.config.endpoint_id, runpod_id.as_str())
            .await
        {
            Ok(_) | Err(StatusError::NotFound { .. }) => true,
            Err(error) => {
                tracing::warn!(%runpod_id, error = error_chain(&error), "cancel");
                false
            }
        }
    }
}

fn refused_pause(tries: u32) -> Duration {
    backoff::delay(tries, REFUSED_PAUSE, REFUSED_PAUSE_MAX, clock::jitter())
}
