//! The right to pull: so many at once in all, and so many off one worker.
//!
//! Guarantee: a worker that is slow holds its own permits and no more; who waits for one worker is
//! served in the order of [`Permits::queue`]. Not for: whether a pull is still wanted when its
//! turn has come.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// Both limits.
#[derive(Debug)]
pub struct Permits {
    all: Arc<Semaphore>,
    each_max: usize,
    /// By worker; those that nobody uses go when another one comes.
    each: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// A place in a worker's queue.
pub struct Waiting {
    acquire: Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>,
    /// What came at once.
    got: Option<Result<OwnedSemaphorePermit, AcquireError>>,
    all: Arc<Semaphore>,
}

/// A pull may go on until it is dropped.
#[derive(Debug)]
pub struct Permit {
    _of_worker: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Permits {
    /// `all_max` at once, `each_max` of them off one worker.
    pub fn new(all_max: usize, each_max: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(all_max)),
            each_max,
            each: Mutex::default(),
        }
    }

    /// Takes a place in a worker's queue at once; whoever comes later is behind it.
    pub fn queue(&self, worker: &str) -> Waiting {
        let mut acquire = Box::pin(self.of(worker).acquire_owned());
        // A first poll is what queues it; it is polled again, with a real waker, when awaited.
        let first = acquire
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        let got = match first {
            Poll::Ready(got) => Some(got),
            Poll::Pending => None,
        };
        Waiting {
            acquire,
            got,
            all: self.all.clone(),
        }
    }

    fn of(&self, worker: &str) -> Arc<Semaphore> {
        let mut each = self.each.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = each.get(worker) {
            return known.clone();
        }
        each.retain(|_, known| Arc::strong_count(known) > 1);
        let fresh = Arc::new(Semaphore::new(self.each_max));
        each.insert(worker.to_owned(), fresh.clone());
        fresh
    }
}

impl Waiting {
    /// Waits for the worker's turn and for one of all; nothing when the process ends.
    pub async fn permit(self) -> Option<Permit> {
        let of_worker = match self.got {
            Some(got) => got,
            None => self.acquire.await,
        };
        Some(Permit {
            _of_worker: of_worker.ok()?,
            _of_all: self.all.acquire_owned().await.ok()?,
        })
    }
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[tokio::test]
    async fn one_worker_takes_its_share_and_is_served_in_order() {
        let permits = Permits::new(3, 2);
        let first = permits.queue("slow").permit().await.unwrap();
        let second = permits.queue("slow").permit().await.unwrap();
        let (third, fourth) = (permits.queue("slow"), permits.queue("slow"));
        let mut third = Box::pin(third.permit());
        let mut fourth = Box::pin(fourth.permit());
        assert!((&mut fourth).now_or_never().is_none());
        assert!((&mut third).now_or_never().is_none(), "two off one worker");
        let other = permits.queue("other").permit().now_or_never().flatten();
        assert!(other.is_some(), "the third of all is another worker's");
        drop(first);
        assert!((&mut fourth).now_or_never().is_none(), "not its turn");
        assert!((&mut third).now_or_never().flatten().is_some());
        drop(second);
        assert!((&mut fourth).now_or_never().flatten().is_some());
    }

    #[tokio::test]
    async fn a_place_that_is_given_up_blocks_nobody() {
        let permits = Permits::new(8, 1);
        let first = permits.queue("w").permit().await.unwrap();
        let (gone, next) = (permits.queue("w"), permits.queue("w"));
        drop(gone);
        drop(first);
        assert!(next.permit().now_or_never().flatten().is_some());
        for number in 0..100 {
            drop(permits.queue(&format!("w{number}")));
        }
        assert!(permits.each.lock().unwrap().len() <= 2, "forgotten");
    }
}
