//! An emptied Redis: the records and deadlines of all open runs are made again from the bucket.
//!
//! Nothing is queued here: what is in flight lies in RabbitMQ, each part's next message in its
//! lane or in hand, each attempt in its watch, which puts its part's record and its slot back. The
//! endpoint's new epoch holds all grants until they have had the time.

use crate::core::Core;
use crate::error::Error;
use futures_util::StreamExt as _;
use photofinish_jobstore::Grant;
use photofinish_model::{JobId, Tenant};
use photofinish_runtime::{Shutdown, error_chain};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// The pause before a rebuild is tried again that did not come through.
const AGAIN: Duration = Duration::from_secs(5);
/// Runs that are looked at side by side.
const PARALLEL_MAX: usize = 8;

/// Notices that Redis was emptied.
#[derive(Debug, Default)]
pub struct Rebuild {
    young: Mutex<HashSet<String>>,
    due: Notify,
}

impl Rebuild {
    /// Looks at the answer to an ask for a slot: the first of an endpoint that says *too young*
    /// rings.
    pub fn note(&self, endpoint: &str, grant: &Grant) {
        let mut young = self.young.lock().unwrap_or_else(PoisonError::into_inner);
        if *grant != Grant::TooYoung {
            young.remove(endpoint);
        } else if young.insert(endpoint.to_owned()) {
            tracing::info!(
                endpoint,
                "Redis began anew: records are made again from the bucket"
            );
            self.due.notify_one();
        }
    }
}

/// Rebuilds at start, because a rebuild may have been cut short by a crash, and whenever rung for.
pub async fn run(core: Arc<Core>, shutdown: Shutdown) {
    while !shutdown.stopping() {
        match core.rebuild_open_runs().await {
            Ok(runs) => {
                tracing::info!(runs, "every open run is known");
                tokio::select! {
                    () = core.rebuild.due.notified() => {}
                    () = shutdown.wait() => {}
                }
            }
            Err(error) => {
                tracing::warn!(error = error_chain(&error), "rebuild what Redis has lost");
                tokio::select! {
                    () = tokio::time::sleep(AGAIN) => {}
                    () = shutdown.wait() => {}
                }
            }
        }
    }
}

impl Core {
    /// Makes every open run known to Redis; gives how many are open.
    async fn rebuild_open_runs(&self) -> Result<usize, Error> {
        let open = self.objects.open_runs().await?;
        let runs = open.len();
        let mut known = futures_util::stream::iter(open)
            .map(|(tenant, job, run)| async move { self.rebuild_run(&tenant, &job, run).await })
            .buffer_unordered(PARALLEL_MAX);
        while let Some(run) = known.next().await {
            run?;
        }
        Ok(runs)
    }

    async fn rebuild_run(&self, tenant: &Tenant, job: &JobId, run: u32) -> Result<(), Error> {
        match self.load(tenant, job, run).await {
            Ok(Some(_known)) => {}
            // A crash between marker and plan: the job's message comes again and plans it.
            Ok(None) => tracing::debug!(%job, run, "open without a plan"),
            Err(error) if error.is_transient() => return Err(error),
            // What cannot be read must not keep the others from being known.
            Err(error) => tracing::error!(%tenant, %job, run, error = error_chain(&error),
                "make an open run's record again"),
        }
        Ok(())
    }
}
