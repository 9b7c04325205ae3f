//! What operators have paused: looked up once a second, so that a grant asks nobody.
//!
//! A lane in which nobody but paused tenants is, is passed over by the grant; a part of a paused
//! tenant that shares its lane is put off when it comes up. A paused endpoint counts as full. What
//! is in flight goes on.

use crate::core::Core;
use crate::error::Error;
use photofinish_model::Tenant;
use photofinish_objects::PausesRecord;
use photofinish_runtime::{Shutdown, error_chain};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often it is looked up.
const LOOK: Duration = Duration::from_secs(1);

/// What is paused, as of the last look.
#[derive(Debug, Default)]
pub struct Pauses(Mutex<Option<Arc<PausesRecord>>>);

impl Pauses {
    /// What is paused; nothing before the first look.
    pub fn known(&self) -> Option<Arc<PausesRecord>> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether a tenant is.
    pub fn is_paused(&self, tenant: &Tenant) -> bool {
        let known = self.known();
        known.is_some_and(|known| known.tenants.contains(tenant))
    }

    /// Keeps what was looked up; true when it changed.
    fn keep(&self, now: PausesRecord) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = known.as_deref() != Some(&now);
        if changed {
            *known = Some(Arc::new(now));
        }
        changed
    }
}

/// Looks it up for as long as the process lives. While it cannot be, what was known last counts.
pub async fn run(core: Arc<Core>, shutdown: Shutdown) {
    while !shutdown.stopping() {
        match core.read_pauses().await {
            Ok(pauses) => {
                if core.pauses.keep(pauses) {
                    core.work.notify_one();
                }
            }
            Err(error) => {
                tracing::warn!(error = error_chain(&error), "ask what is paused");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = shutdown.wait() => {}
        }
    }
}

impl Core {
    async fn read_pauses(&self) -> Result<PausesRecord, Error> {
        let (kind, id) = (PausesRecord::KIND, PausesRecord::ID);
        let found = self
            .jobstore
            .system_through_copy(kind, id, async || {
                Ok::<_, Error>(self.objects.system_get(kind, id).await?)
            })
            .await?;
        Ok(found.unwrap_or_default())
    }
}
