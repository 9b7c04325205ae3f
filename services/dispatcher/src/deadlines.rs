//! Deadlines: when one has passed, a command says so. The entry goes when its run is closed; until
//! then the store names it again every 30 s.

use crate::core::Core;
use crate::error::Error;
use photofinish_contract::messages::{Command, JobCommand};
use photofinish_runtime::{Shutdown, error_chain};
use std::sync::Arc;
use std::time::Duration;

/// How often deadlines are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Deadlines that are taken up at once.
const DUE_MAX: u32 = 200;

/// Looks for deadlines for as long as the process lives.
pub async fn run(core: Arc<Core>, shutdown: Shutdown) {
    while !shutdown.stopping() {
        if let Err(error) = core.send_due().await {
            tracing::warn!(error = error_chain(&error), "look for passed deadlines");
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = shutdown.wait() => {}
        }
    }
}

impl Core {
    async fn send_due(&self) -> Result<(), Error> {
        for (tenant, job, run) in self.jobstore.deadlines_due(DUE_MAX).await? {
            self.command(JobCommand {
                job,
                tenant,
                run,
                command: Command::Deadline,
            })
            .await?;
        }
        Ok(())
    }
}
