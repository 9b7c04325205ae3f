//! The jobs this worker holds, from the moment they are taken until their result is posted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

#[derive(Debug, Clone, Default)]
pub(super) struct Registry {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    jobs: Mutex<BTreeMap<String, CancellationToken>>,
    /// Told at each change, for the take loop.
    changed: Notify,
}

impl Registry {
    fn jobs(&self) -> MutexGuard<'_, BTreeMap<String, CancellationToken>> {
        self.inner
            .jobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a job; `None` if it is here already (RunPod hands jobs out twice at times).
    pub(super) fn enter(&self, job_id: &str) -> Option<Held> {
        let cancelled = CancellationToken::new();
        {
            let mut jobs = self.jobs();
            if jobs.contains_key(job_id) {
                return None;
            }
            jobs.insert(job_id.to_owned(), cancelled.clone());
        }
        self.inner.changed.notify_waiters();
        Some(Held {
            registry: self.clone(),
            job_id: job_id.to_owned(),
            cancelled,
        })
    }

    /// Cancels a job's token; false if the job is not here, or was cancelled before.
    pub(super) fn cancel(&self, job_id: &str) -> bool {
        let jobs = self.jobs();
        let Some(token) = jobs.get(job_id).filter(|token| !token.is_cancelled()) else {
            return false;
        };
        token.cancel();
        true
    }

    pub(super) fn ids(&self) -> Vec<String> {
        self.jobs().keys().cloned().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.jobs().len()
    }

    /// Waits until fewer than `limit` jobs are held.
    pub(super) async fn below(&self, limit: usize) {
        loop {
            let changed = self.inner.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.len() < limit {
                return;
            }
            changed.await;
        }
    }
}

/// A job's place in the registry; it leaves when this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    registry: Registry,
    pub(super) job_id: String,
    pub(super) cancelled: CancellationToken,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.registry.jobs().remove(&self.job_id);
        self.registry.inner.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_job_is_held_once_and_leaves_with_its_guard() {
        let registry = Registry::default();
        let held = registry.enter("a").unwrap();
        assert!(registry.enter("a").is_none());
        assert!(registry.cancel("a") && held.cancelled.is_cancelled());
        assert!(!registry.cancel("b") && !registry.cancel("a"));
        let waiting = registry.below(1);
        tokio::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(held);
        waiting.await;
        assert!(registry.ids().is_empty());
    }
}
