//! Readiness: named checks that say whether the process should get work, and why not.
//!
//! Guarantee: a registered check counts as failing until it was set; `/readyz` names every failing one.
//! Not for liveness: `/healthz` answers 200 as long as the process answers at all.

use std::collections::BTreeMap;
use std::error::Error;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::{Tasks, error_chain};

/// How often [`Health::watch`] asks.
pub const WATCH_PERIOD: Duration = Duration::from_secs(5);

type States = BTreeMap<&'static str, Option<String>>;

/// All checks of the process. Clones share one state.
#[derive(Debug, Clone, Default)]
pub struct Health {
    /// `None` is ready, else the reason.
    states: Arc<Mutex<States>>,
}

/// One check: set it whenever what it watches changes. Clones share one state.
#[derive(Debug, Clone)]
pub struct Check {
    name: &'static str,
    health: Health,
}

impl Health {
    /// No checks: ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a check that fails with "starting" until it is set. The same name twice is the same check.
    pub fn register(&self, name: &'static str) -> Check {
        self.lock()
            .entry(name)
            .or_insert_with(|| Some("starting".to_owned()));
        Check {
            name,
            health: self.clone(),
        }
    }

    /// Adds a check that follows `probe`, which is asked at once and then every [`WATCH_PERIOD`] until the shutdown.
    pub fn watch<P, F, E>(&self, tasks: &Tasks, name: &'static str, probe: P)
    where
        P: Fn() -> F + Send + 'static,
        F: Future<Output = Result<(), E>> + Send,
        E: Error + Send,
    {
        let check = self.register(name);
        let shutdown = tasks.shutdown().clone();
        tasks.spawn_critical("health.watch", async move {
            while !shutdown.stopping() {
                match probe().await {
                    Ok(()) => check.ok(),
                    Err(error) => check.failing(error_chain(&error)),
                }
                tokio::select! {
                    () = tokio::time::sleep(WATCH_PERIOD) => {}
                    () = shutdown.wait() => {}
                }
            }
        });
    }

    /// The failing checks with their reasons, by name; empty when ready.
    pub fn failing(&self) -> Vec<(&'static str, String)> {
        self.lock()
            .iter()
            .filter_map(|(name, why)| Some((*name, why.clone()?)))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, States> {
        // A panic between lock and unlock cannot leave a half-written entry behind.
        self.states
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Check {
    /// Ready, or not and why. The reason is dropped when ready.
    pub fn set_ready(&self, ready: bool, why: impl Into<String>) {
        let state = (!ready).then(|| why.into());
        metrics::gauge!("photofinish_ready", "check" => self.name).set(if ready {
            1.0
        } else {
            0.0
        });
        let before = self.health.lock().insert(self.name, state.clone());
        if before.as_ref() != Some(&state) {
            match state {
                None => tracing::info!(check = self.name, "ready"),
                Some(why) => tracing::warn!(check = self.name, why, "not ready"),
            }
        }
    }

    /// Ready.
    pub fn ok(&self) {
        self.set_ready(true, "");
    }

    /// Not ready, and why.
    pub fn failing(&self, why: impl Into<String>) {
        self.set_ready(false, why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Shutdown;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[tokio::test(start_paused = true)]
    async fn a_watched_check_follows_its_probe() {
        let (health, tasks) = (Health::new(), Tasks::new(Shutdown::new()));
        let there = Arc::new(AtomicBool::new(false));
        let seen = there.clone();
        health.watch(&tasks, "store", move || {
            let there = seen.load(Ordering::Relaxed);
            async move {
                if there {
                    Ok(())
                } else {
                    Err(std::io::Error::other("away"))
                }
            }
        });
        assert_eq!(health.failing(), [("store", "starting".to_owned())]);
        tokio::time::sleep(WATCH_PERIOD / 2).await; // paced: the clock is paused
        assert_eq!(health.failing(), [("store", "away".to_owned())]);
        there.store(true, Ordering::Relaxed);
        tokio::time::sleep(WATCH_PERIOD).await; // paced: the clock is paused
        assert!(health.failing().is_empty());
        assert_eq!(tasks.drain(Duration::from_secs(5)).await, 0);
    }
}
