//! The submit loop: a slot first, then a message, then the one POST.

use crate::core::{Core, broker_priority};
use crate::error::Error;
use crate::planning::part_ready;
use photofinish_broker::{Disposition, Held, Outgoing, Route, Target, WorkQueue};
use photofinish_contract::messages::{ItemRef, PartReady, PartSubmitted, WatchState};
use photofinish_jobstore::{Grant, GrantAsk, LaneGrant};
use photofinish_model::part::{Command, Event};
use photofinish_model::{AttemptRef, ItemIndex, JobSnapshot, Nonce, Priority, RunPodId};
use photofinish_objects::RunDoc;
use photofinish_runpod::client::{RunRequest, StatusError};
use photofinish_runtime::{Shutdown, Tasks};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// A slot whose holder has not posted within this is free again.
const GRANT_TTL: Duration = Duration::from_secs(60);
/// A slot of an attempt is asked after when nobody has renewed it for this long.
pub const SLOT_TTL: Duration = Duration::from_secs(60);
/// The loop looks for work at least so often, also when nobody rings.
const LOOK: Duration = Duration::from_secs(1);
/// Lanes are marked anew from the queues' depths so often.
const REMARK: Duration = Duration::from_secs(10);
/// RunPod keeps an attempt for its queue wait, its execution and this.
const TTL_GRACE: Duration = Duration::from_secs(600);
/// The pause after a refused submit; doubled up to the longest.
const REFUSED_PAUSE: Duration = Duration::from_secs(2);
const REFUSED_PAUSE_MAX: Duration = Duration::from_secs(60);

/// Submits parts for as long as the process lives.
pub async fn run(core: Arc<Core>, tasks: Tasks, shutdown: Shutdown) {
    let permits = Arc::new(Semaphore::new(core.config.submits_max));
    while !shutdown.stopping() {
        let Ok(permit) = permits.clone().acquire_owned().await else {
            return;
        };
        match core.next_part().await {
            Ok(Some((held, nonce))) => {
                let core = core.clone();
                tasks.spawn("submit", async move {
                    let disposition = core.submit(&held, &nonce).await;
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
                tracing::warn!(
                    error = crate::error::chain(&error),
                    "look for a part to submit"
                );
                tokio::select! {
                    () = tokio::time::sleep(LOOK) => {}
                    () = shutdown.wait() => {}
                }
            }
        }
    }
}

/// Marks the lanes in which messages wait: a mark may have been lost with Redis.
pub async fn remark_lanes(core: Arc<Core>, shutdown: Shutdown) {
    while !shutdown.stopping() {
        if let Err(error) = core.remark().await {
            tracing::warn!(error = crate::error::chain(&error), "mark waiting lanes");
        }
        tokio::select! {
            () = tokio::time::sleep(REMARK) => {}
            () = shutdown.wait() => {}
        }
    }
}

impl Core {
    async fn remark(&self) -> Result<(), Error> {
        let mut found = false;
        for priority in Priority::ALL {
            for lane in 0..self.config.lanes {
                let queue = WorkQueue::Submit {
                    priority: broker_priority(priority),
                    lane,
                };
                if self.broker.depth(queue).await? > 0 {
                    self.jobstore
                        .mark_lane(&self.config.endpoint_id, priority, lane)
                        .await?;
                    found = true;
                }
            }
        }
        if found {
            self.work.notify_one();
        }
        Ok(())
    }

    /// A message to submit and the slot (its nonce) that is held for it.
    async fn next_part(&self) -> Result<Option<(Held, Nonce)>, Error> {
        let endpoint = &self.config.endpoint_id;
        loop {
            let nonce = Nonce::from_random(uuid::Uuid::new_v4().as_u128());
            let ask = GrantAsk {
                capacity: self.config.capacity,
                reported: self.reported().await,
                holder: nonce.to_string(),
                ttl: GRANT_TTL,
                pick_lane: true,
            };
            let lane: LaneGrant = match self.jobstore.grant(endpoint, &ask).await? {
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
                Ok(Some(held)) => return Ok(Some((held, nonce))),
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
                self.give_back(nonce).await;
                tracing::warn!(job = %ready.job, part = ready.part,
                    error = crate::error::chain(&error), "submit");
                error.disposition(incoming.attempt)
            }
        }
    }

    /// Best effort: a slot that nobody holds expires by itself.
    async fn give_back(&self, nonce: &Nonce) {
        if let Err(error) = self
            .jobstore
            .free(&self.config.endpoint_id, nonce.as_str())
            .await
        {
            tracing::warn!(error = crate::error::chain(&error), "free a slot");
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
        let config = &self.config;
        let slot = attempt.nonce.as_str();
        self.jobstore
            .bind(&config.endpoint_id, slot, slot, SLOT_TTL)
            .await?;
        let input = self.attempt_input(doc, attempt, items).await?;
        let request = RunRequest {
            input: serde_json::to_value(&input)?,
            webhook: self.hook_url(attempt),
            execution_timeout: config.execution_timeout,
            ttl: config.queue_wait_max + config.execution_timeout + TTL_GRACE,
        };
        let nonce = attempt.nonce.clone();
        let event = match self.runpod.run(&config.endpoint_id, &request).await {
            Ok(accepted) => {
                tracing::info!(%attempt, runpod_id = accepted.id, items = items.len(), "submitted");
                Event::Submitted {
                    nonce,
                    runpod_id: RunPodId::try_from(accepted.id).ok(),
                }
            }
            Err(error) if error.is_refused() => {
                tracing::warn!(%attempt, error = crate::error::chain(&error), "RunPod refused");
                let pause = error.retry_after().unwrap_or_else(|| refused_pause(tries));
                let event = Event::Refused { nonce };
                self.step_and_perform(doc, job, attempt, &event).await?;
                return Ok(Disposition::RetryLater(pause));
            }
            Err(error) => {
                tracing::warn!(%attempt, error = crate::error::chain(&error),
                    "what came of the submit is not known");
                Event::Submitted {
                    nonce,
                    runpod_id: None,
                }
            }
        };
        metrics::counter!("photofinish_attempts_submitted_total").increment(1);
        self.step_and_perform(doc, job, attempt, &event).await?;
        Ok(Disposition::Ack)
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
                self.jobstore
                    .free(&self.config.endpoint_id, nonce.as_str())
                    .await?;
                self.work.notify_one();
                Ok(())
            }
            Command::CancelAttempt { runpod_id } => {
                self.cancel_attempt(&runpod_id).await;
                Ok(())
            }
            Command::FailItem { index, fault } => self.fail_item(job, index, fault).await,
            // A post needs its slot, and a grant its loop: both are the submit loop's alone.
            Command::Post { .. } | Command::ReturnGrant => Ok(()),
        }
    }

    async fn watch(
        &self,
        doc: &RunDoc,
        attempt: &AttemptRef,
        runpod_id: Option<RunPodId>,
        items: &[ItemIndex],
    ) -> Result<(), Error> {
        let ids = doc.request.item_ids();
        let items = items
            .iter()
            .filter_map(|index| {
                let item = ids.get(usize::from(*index))?.clone();
                Some(ItemRef {
                    index: *index,
                    item,
                })
            })
            .collect();
        let message = PartSubmitted {
            attempt: attempt.clone(),
            endpoint: self.config.endpoint_id.clone(),
            runpod_id,
            operation: doc.request.operation(),
            items,
            submitted_at: self.clock.now(),
            budget_s: self.config.execution_timeout.as_secs_f64(),
            watch: WatchState::default(),
        };
        let outgoing = Outgoing::json(Target::Pipeline(Route::PartSubmitted), &message)?
            .message_id(attempt.nonce.to_string());
        Ok(self.publisher.publish(outgoing).await?)
    }

    /// Best effort: the watch cancels what this does not reach.
    pub async fn cancel_attempt(&self, runpod_id: &RunPodId) {
        match self
            .runpod
            .cancel(&self.config.endpoint_id, runpod_id.as_str())
            .await
        {
            Ok(_) | Err(StatusError::NotFound { .. }) => {}
            Err(error) => {
                tracing::warn!(%runpod_id, error = crate::error::chain(&error), "cancel");
            }
        }
    }
}

fn refused_pause(tries: u32) -> Duration {
    REFUSED_PAUSE
        .saturating_mul(1 << tries.min(5))
        .min(REFUSED_PAUSE_MAX)
}

/// RunPod's own count of what is queued and running, asked for at most so often.
const HEALTH_AGE_MAX: Duration = Duration::from_secs(5);

/// RunPod's own count, and when it was asked for.
#[derive(Debug, Default)]
pub struct Reported(tokio::sync::Mutex<Option<(std::time::Instant, u32)>>);

impl Core {
    /// Attempts in flight by RunPod's own count; 0 while it cannot be had (then ours counts alone).
    async fn reported(&self) -> u32 {
        let mut last = self.reported.0.lock().await;
        if let Some((at, count)) = *last
            && at.elapsed() < HEALTH_AGE_MAX
        {
            return count;
        }
        let count = match self.runpod.health(&self.config.endpoint_id).await {
            Ok(health) => {
                let count = health.jobs.in_queue.saturating_add(health.jobs.in_progress);
                u32::try_from(count).unwrap_or(u32::MAX)
            }
            Err(error) => {
                tracing::warn!(
                    error = crate::error::chain(&error),
                    "ask RunPod for its counts"
                );
                0
            }
        };
        *last = Some((std::time::Instant::now(), count));
        count
    }
}
