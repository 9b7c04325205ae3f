//! `dispatcher.parked`: messages that failed too often. Their run ends first, then they lie in
//! the queue for people; so no job is without an end.

use crate::core::Core;
use crate::error::Error;
use photofinish_broker::{Disposition, Family, Incoming, Outgoing};
use photofinish_contract::messages::{
    Command, JobCommand, PartFinished, PartReady, PartSubmitted, PlanMessage,
};
use photofinish_model::{Code, Fault, JobId, Tenant};
use photofinish_runtime::{error_chain, trace};
use std::time::Duration;

const AGAIN: Duration = Duration::from_secs(5);

impl Core {
    /// Handles one message.
    pub async fn on_parked(&self, incoming: Incoming) -> Disposition {
        match self.park(&incoming).await {
            Ok(()) => Disposition::Ack,
            Err(error) => {
                tracing::error!(error = error_chain(&error), "park a message");
                Disposition::RetryLater(AGAIN)
            }
        }
    }

    async fn park(&self, incoming: &Incoming) -> Result<(), Error> {
        let Some(people) = Outgoing::for_people(incoming) else {
            tracing::error!("a message without an origin came to the parked queue");
            return Ok(());
        };
        if let (Some((tenant, job, run)), Some(parked)) = (run_of(incoming), incoming.parked()) {
            trace::about(&tenant, &job);
            tracing::error!(run, origin = parked.origin, code = parked.code, "parked");
            let fault = Fault::new(
                Code::InternalError,
                format!(
                    "a message of the job failed too often ({}); retry the job",
                    parked.code
                ),
            );
            // Also a job whose own first message failed: ingest has made its record.
            if self.load(&tenant, &job, run).await?.is_some() {
                self.command(JobCommand {
                    job,
                    tenant,
                    run,
                    command: Command::Abandon { fault },
                })
                .await?;
            }
        }
        self.publisher.publish(people).await?;
        Ok(())
    }
}

/// The run that a parked message belongs to, if it can be read. Events and deliveries are not
/// here: an ended job stays ended when nobody could be told.
fn run_of(incoming: &Incoming) -> Option<(Tenant, JobId, u32)> {
    // A stranger's words, whatever they look like.
    if incoming.parked()?.family == Family::Submissions {
        return None;
    }
    if let Ok(message) = incoming.json::<PlanMessage>() {
        return match message {
            PlanMessage::JobAccepted(accepted) => Some((accepted.tenant, accepted.job, 1)),
            PlanMessage::JobCommand(command) => Some((command.tenant, command.job, command.run)),
        };
    }
    if let Ok(ready) = incoming.json::<PartReady>() {
        return Some((ready.tenant, ready.job, ready.run));
    }
    let attempt = incoming
        .json::<PartSubmitted>()
        .map(|watch| watch.attempt)
        .or_else(|_| {
            incoming
                .json::<PartFinished>()
                .map(|finished| finished.attempt)
        })
        .ok()?;
    Some((attempt.tenant, attempt.job, attempt.run))
}
