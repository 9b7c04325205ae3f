//! The bodies of requests that are on their way in: they lie in memory, however slowly they come.
//!
//! Nouns: a *share* is what one body may take until it is there, counted as its tenant's; what comes without a tenant's
//! key is counted together.
//!
//! Guarantee: all together take at most `http.bodies_bytes_max`, and nobody takes more than what is left for the
//! others: a tenant whose bodies hang leaves half of it, two leave a third. A share is free again when it is dropped.

use photofinish_model::Tenant;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is taken of the memory for bodies.
#[derive(Debug)]
pub(crate) struct Bodies {
    held: Mutex<Held>,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Held {
    total: usize,
    by_owner: HashMap<Option<Tenant>, usize>,
}

/// What one body may take.
#[derive(Debug)]
pub(crate) struct Share {
    bodies: Arc<Bodies>,
    owner: Option<Tenant>,
    bytes: usize,
}

impl Bodies {
    pub(crate) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            held: Mutex::default(),
            bytes_max,
        })
    }

    /// A share for a body of so many bytes; none while its owner has too much on the way, or all have.
    pub(crate) fn take(self: &Arc<Self>, owner: Option<Tenant>, bytes: usize) -> Option<Share> {
        let mut held = self.lock();
        let own = held.by_owner.get(&owner).copied().unwrap_or_default();
        let left = self.bytes_max.saturating_sub(held.total);
        let wanted = own.saturating_add(bytes);
        if wanted > left {
            return None;
        }
        held.total += bytes;
        held.by_owner.insert(owner.clone(), wanted);
        Some(Share {
            bodies: Arc::clone(self),
            owner,
            bytes,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        // Nothing between lock and unlock can leave a half-written entry behind.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.bodies.lock();
        held.total = held.total.saturating_sub(self.bytes);
        let own = held.by_owner.get(&self.owner).copied().unwrap_or_default();
        match own.saturating_sub(self.bytes) {
            0 => held.by_owner.remove(&self.owner),
            left => held.by_owner.insert(self.owner.clone(), left),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_takes_much_leaves_as_much_for_others() {
        let bodies = Bodies::new(100);
        let of = |tenant: &str| Some(tenant.parse().unwrap());
        let taken = |owner: Option<Tenant>| -> Vec<Share> {
            std::iter::from_fn(|| bodies.take(owner.clone(), 10)).collect()
        };
        let first = taken(of("acme"));
        assert_eq!(first.len(), 5, "half of it");
        let second = taken(of("other"));
        assert_eq!(second.len(), 3, "half of what is left, and a little");
        assert!(bodies.take(of("acme"), 1).is_none());
        let third = bodies.take(None, 10);
        assert!(third.is_some(), "there is always something for the next");
        drop(first);
        assert!(bodies.take(of("acme"), 10).is_some());
        drop((second, third));
        assert!(bodies.lock().by_owner.is_empty() && bodies.lock().total == 0);
        assert!(bodies.take(of("acme"), 101).is_none());
    }
}
