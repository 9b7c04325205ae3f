//! What every watch and every pull works with.

use crate::config::Config;
use crate::error::Error;
use crate::hub::Hub;
use crate::permits::Permits;
use crate::routes::Routes;
use photofinish_broker::{Outgoing, Publisher, Route, Target};
use photofinish_contract::event::EventType;
use photofinish_contract::messages::JobEvent;
use photofinish_contract::token::TokenKeys;
use photofinish_jobstore::JobStore;
use photofinish_model::sequence::{Moment, sequence};
use photofinish_model::{AttemptRef, ItemIndex};
use photofinish_objects::Objects;
use photofinish_runpod::client::Client;
use photofinish_runtime::{Clock, Shutdown};

/// The adapters and the settings, shared by all watches.
pub struct Core {
    /// Validated settings.
    pub config: Config,
    /// Confirmed publishes.
    pub publisher: Publisher,
    /// Redis.
    pub jobstore: JobStore,
    /// S3.
    pub objects: Objects,
    /// RunPod.
    pub runpod: Client,
    /// The ways to workers.
    pub routes: Routes,
    /// The wall clock.
    pub clock: Clock,
    /// Told when the process ends.
    pub shutdown: Shutdown,
    /// For output tokens.
    pub tokens: TokenKeys,
    /// Signals on their way to watches.
    pub hub: Hub,
    /// Pulls at once.
    pub permits: Permits,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").finish_non_exhaustive()
    }
}

impl Core {
    /// Makes Redis know a job and its deadline again; false when the bucket does not know it either.
    pub async fn restore(&self, attempt: &AttemptRef) -> Result<bool, Error> {
        let found = self
            .objects
            .snapshot(&attempt.tenant, &attempt.job, attempt.run)
            .await?;
        let Some(snapshot) = found else {
            return Ok(false);
        };
        tracing::info!(job = %attempt.job, "record restored from the bucket");
        // Another process may have been faster: both wrote the same.
        let (photofinish_jobstore::Created::Created | photofinish_jobstore::Created::Exists) =
            self.jobstore.restore(&snapshot).await?;
        if !snapshot.status.is_final() {
            let (job, tenant) = (&snapshot.job, &snapshot.tenant);
            self.jobstore
                .deadline_set(job, tenant, snapshot.run, snapshot.deadline_at)
                .await?;
        }
        Ok(true)
    }

    /// Tells the notifier what happened to a job.
    pub async fn tell(
        &self,
        attempt: &AttemptRef,
        event: EventType,
        moment: Moment,
        changed: Vec<ItemIndex>,
    ) -> Result<(), Error> {
        let message = JobEvent {
            job: attempt.job.clone(),
            tenant: attempt.tenant.clone(),
            run: attempt.run,
            event,
            sequence: sequence(attempt.run, moment),
            at: self.clock.now(),
            changed,
        };
        let outgoing = Outgoing::json(Target::Pipeline(Route::JobEvent), &message)?
            .message_id(format!("{}.{}", attempt.job, message.sequence));
        Ok(self.publisher.publish(outgoing).await?)
    }
}
