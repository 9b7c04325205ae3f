//! Giving this worker up for a fresh one: after so many jobs, or because a handler asks for it.
//!
//! From then on no job is taken; those in hand are done; the last result carries `stopPod`, so
//! that RunPod does not stop the worker under the others; then the loop ends.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio_util::sync::CancellationToken;

/// A turn to post a result; kept for its guard alone.
#[derive(Debug)]
#[expect(dead_code, reason = "what they hold is the guard")]
pub(super) enum Turn<'a> {
    /// No refresh is due: beside others.
    Together(RwLockReadGuard<'a, ()>),
    /// A refresh is due: nobody else posts.
    Alone(RwLockWriteGuard<'a, ()>),
}

#[derive(Debug, Default)]
pub(super) struct Refresh {
    /// Jobs until it is due; 0: never by itself.
    after_jobs: u32,
    taken: AtomicU32,
    /// Cancelled when no job is to be taken any more.
    pub(super) due: CancellationToken,
    /// Results go out one after the other once it is due, and after those that went out before, so
    /// that there is a last one.
    posting: RwLock<()>,
}

impl Refresh {
    pub(super) fn new(after_jobs: u32) -> Self {
        Self {
            after_jobs,
            ..Self::default()
        }
    }

    /// Jobs that may still be taken, at most `free`.
    pub(super) fn room(&self, free: usize) -> usize {
        if self.after_jobs == 0 {
            return free;
        }
        let left = self.after_jobs - self.taken.load(Ordering::Relaxed).min(self.after_jobs);
        usize::try_from(left).unwrap_or(usize::MAX).min(free)
    }

    /// Counts a job that was taken.
    pub(super) fn took(&self) {
        let taken = self.taken.fetch_add(1, Ordering::Relaxed) + 1;
        if self.after_jobs > 0 && taken >= self.after_jobs {
            self.due.cancel();
        }
    }

    /// A turn to post a result, held until it has arrived.
    pub(super) async fn turn(&self) -> Turn<'_> {
        let together = self.posting.read().await;
        if !self.due.is_cancelled() {
            return Turn::Together(together);
        }
        drop(together);
        Turn::Alone(self.posting.write().await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_shrinks_to_nothing_and_then_it_is_due() {
        let refresh = Refresh::new(2);
        assert_eq!((refresh.room(1), refresh.room(5)), (1, 2));
        refresh.took();
        assert!(!refresh.due.is_cancelled() && refresh.room(5) == 1);
        refresh.took();
        refresh.took();
        assert!(refresh.due.is_cancelled() && refresh.room(5) == 0);
        let never = Refresh::new(0);
        never.took();
        assert!(!never.due.is_cancelled() && never.room(5) == 5);
    }
}
