//! What every handler of the dispatcher works with.

use crate::config::Config;
use crate::error::Error;
use crate::parts::Seen;
use photofinish_broker::{Broker, Outgoing, Publisher, Route, Target, WorkQueue};
use photofinish_contract::event::EventType;
use photofinish_contract::messages::{JobCommand, JobEvent, PartReady, PlanMessage};
use photofinish_contract::token::TokenKeys;
use photofinish_jobstore::{Created, JobStore};
use photofinish_model::sequence::{Moment, sequence};
use photofinish_model::{JobId, JobSnapshot, SlotName, Tenant};
use photofinish_objects::Objects;
use photofinish_runpod::client::Client;
use photofinish_runtime::Clock;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore};

/// The adapters and the settings, shared by all handlers.
pub struct Core {
    /// Validated settings.
    pub config: Config,
    /// For `basic.get` and queue depths.
    pub broker: Broker,
    /// Confirmed publishes.
    pub publisher: Publisher,
    /// Redis.
    pub jobstore: JobStore,
    /// S3.
    pub objects: Objects,
    /// RunPod.
    pub runpod: Client,
    /// The wall clock.
    pub clock: Clock,
    /// For hook and output tokens.
    pub tokens: TokenKeys,
    /// RunPod's own count of attempts.
    pub reported: crate::reported::Reported,
    /// Lanes in which something comes up out of the tiers.
    pub expected: crate::lanes::Expected,
    /// What operators have paused.
    pub pauses: crate::pauses::Pauses,
    /// Seconds of GPU, for operators.
    pub spent: crate::telemetry::Spent,
    /// Rung when Redis was found to be emptied.
    pub rebuild: crate::rebuild::Rebuild,
    /// Rung when a part was queued or a slot became free.
    pub work: Arc<Notify>,
    /// Submits under way at once.
    pub submits: Arc<Semaphore>,
    /// Of those, the ones for which a handler of `dispatcher.plan` waits: the others have commands to
    /// carry out meanwhile.
    pub at_once: Arc<Semaphore>,
    /// When one of those was last waited for in vain.
    pub crowded: Mutex<Option<Instant>>,
    /// Tenants' lanes, as far as they were looked up.
    pub tenant_lanes: crate::lanes::TenantLanes,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").finish_non_exhaustive()
    }
}

impl Core {
    /// A job in the run that a message means, rebuilt from the bucket with its deadline when Redis
    /// does not know it. `None`: neither knows it.
    pub async fn load(
        &self,
        tenant: &Tenant,
        job: &JobId,
        run: u32,
    ) -> Result<Option<JobSnapshot>, Error> {
        if let Some(found) = self.jobstore.job(job).await?
            && found.run >= run
        {
            return Ok(Some(found));
        }
        let Some(snapshot) = self.objects.snapshot(tenant, job, run).await? else {
            return Ok(None);
        };
        // Another process may have been faster: both wrote the same.
        let (Created::Created | Created::Exists) = self.jobstore.restore(&snapshot).await?;
        if !snapshot.status.is_final() {
            self.jobstore
                .deadline_set(job, tenant, snapshot.run, snapshot.deadline_at)
                .await?;
        }
        Ok(self.jobstore.job(job).await?.or(Some(snapshot)))
    }

    /// The same, and what is stored of one of its parts.
    pub async fn load_with_part(
        &self,
        tenant: &Tenant,
        job: &JobId,
        run: u32,
        part: u16,
    ) -> Result<(Option<JobSnapshot>, Seen), Error> {
        let (found, stored) = self.jobstore.job_and_part(job, run, part).await?;
        if found.as_ref().is_some_and(|found| found.run >= run) {
            return Ok((found, Seen::Read(stored)));
        }
        Ok((self.load(tenant, job, run).await?, Seen::Unread))
    }

    /// Tells the notifier what happened.
    pub async fn tell(
        &self,
        job: &JobSnapshot,
        event: EventType,
        moment: Moment,
    ) -> Result<(), Error> {
        let at = match moment {
            Moment::Accepted => job.created_at,
            Moment::Started => job.started_at.unwrap_or(job.created_at),
            Moment::Progress(_) | Moment::Final => {
                job.finished_at.unwrap_or_else(|| self.clock.now())
            }
        };
        let message = JobEvent {
            job: job.job.clone(),
            tenant: job.tenant.clone(),
            run: job.run,
            event,
            sequence: sequence(job.run, moment),
            at,
            changed: Vec::new(),
        };
        let outgoing = Outgoing::json(Target::Pipeline(Route::JobEvent), &message)?
            .message_id(format!("{}.{}", job.job, message.sequence));
        Ok(self.publisher.publish(outgoing).await?)
    }

    /// Queues a part in its tenant's lane.
    pub async fn queue_part(&self, ready: &PartReady) -> Result<(), Error> {
        let lane = self.lane(&ready.tenant).await?;
        let priority = broker_priority(ready.priority);
        let target = Target::Pipeline(Route::PartReady { priority, lane });
        let id = format!("{}.{}", ready.part_key(), ready.attempt);
        self.publisher
            .publish(Outgoing::json(target, ready)?.message_id(id))
            .await?;
        self.mark(ready.priority, lane).await
    }

    /// Queues a part again after a failed attempt, not before `wait` is over. The lane is marked
    /// when it comes up.
    pub async fn queue_part_after(&self, ready: &PartReady, wait: Duration) -> Result<(), Error> {
        if wait.is_zero() {
            return self.queue_part(ready).await;
        }
        let wait = crate::lanes::whole_seconds(wait);
        let lane = self.lane(&ready.tenant).await?;
        let priority = broker_priority(ready.priority);
        let queue = WorkQueue::Submit { priority, lane };
        let id = format!("{}.{}", ready.part_key(), ready.attempt);
        let outgoing = Outgoing::json(Target::Later { queue, wait }, ready)?.message_id(id);
        self.publisher.publish(outgoing).await?;
        self.expected.after(ready.priority, lane, wait);
        Ok(())
    }

    /// Frees the slot of a part's submission.
    pub async fn free_slot(&self, endpoint: &str, slot: &SlotName) -> Result<(), Error> {
        self.jobstore.free(endpoint, &slot.to_string()).await?;
        self.work.notify_one();
        Ok(())
    }

    /// Sends a command about a run to ourselves.
    pub async fn command(&self, command: JobCommand) -> Result<(), Error> {
        let target = Target::Pipeline(Route::JobCommand);
        let outgoing = Outgoing::json(target, &PlanMessage::JobCommand(command))?;
        Ok(self.publisher.publish(outgoing).await?)
    }

    /// The tenant's lane, from its record.
    pub async fn lane(&self, tenant: &Tenant) -> Result<u16, Error> {
        let lane = match self.tenant_lanes.get(tenant) {
            Some(lane) => lane,
            None => match self.tenant_record(tenant).await? {
                Some(record) => self.tenant_lanes.keep(tenant, record.lane),
                None => hash_lane(tenant),
            },
        };
        Ok(lane % self.config.lanes.max(1))
    }
}

/// A lane for a tenant without a record: the deployment's default tenant may have none.
fn hash_lane(tenant: &Tenant) -> u16 {
    tenant.as_str().bytes().fold(7u16, |hash, byte| {
        hash.wrapping_mul(31).wrapping_add(byte.into())
    })
}

/// The broker's word for a priority.
pub fn broker_priority(priority: photofinish_model::Priority) -> photofinish_broker::Priority {
    match priority {
        photofinish_model::Priority::High => photofinish_broker::Priority::High,
        photofinish_model::Priority::Normal => photofinish_broker::Priority::Normal,
        photofinish_model::Priority::Low => photofinish_broker::Priority::Low,
    }
}
