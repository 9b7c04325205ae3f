//! One delivery at a time: copies of its message wait for one another in this process.
//!
//! Guarantee: two copies that come at once do not both POST at once; the second one sees what became of the first.
//! Not for: copies in two processes; those may both POST, which the contract allows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::OwnedMutexGuard;

/// Entries above which those that nobody holds are thrown away.
const PURGE_ABOVE: usize = 4096;

/// The deliveries that are being worked on.
#[derive(Debug, Default)]
pub(crate) struct InHand {
    locks: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

impl InHand {
    /// Waits for whoever has this delivery in hand, and takes it.
    pub(crate) async fn take(&self, delivery: &str) -> OwnedMutexGuard<()> {
        self.entry(delivery).lock_owned().await
    }

    fn entry(&self, delivery: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        if locks.len() > PURGE_ABOVE {
            locks.retain(|_, lock| lock.strong_count() > 0);
        }
        if let Some(lock) = locks.get(delivery).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        locks.insert(delivery.to_owned(), Arc::downgrade(&lock));
        lock
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[tokio::test]
    async fn a_second_copy_waits_for_the_first() {
        let in_hand = InHand::default();
        let first = in_hand.take("dlv_1").await;
        assert!(in_hand.take("dlv_1").now_or_never().is_none());
        assert!(in_hand.take("dlv_2").now_or_never().is_some());
        drop(first);
        assert!(in_hand.take("dlv_1").now_or_never().is_some());
    }

    #[tokio::test]
    async fn what_nobody_holds_is_thrown_away() {
        let in_hand = InHand::default();
        let held = in_hand.take("held").await;
        for number in 0..=PURGE_ABOVE {
            drop(in_hand.take(&number.to_string()).await);
        }
        assert!(in_hand.locks.lock().unwrap().len() < 10);
        assert!(in_hand.take("held").now_or_never().is_none());
        drop(held);
    }
}
