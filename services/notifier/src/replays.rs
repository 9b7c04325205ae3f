//! Replays of many deliveries in this process: a few at once, one of a tenant, each at a walk.
//!
//! Guarantee: however many deliveries somebody has sent again, what is new is never far behind them.

use photofinish_model::Tenant;
use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Tenants' replays at once.
const RUNNING_MAX: usize = 2;

/// The replays that have a page in hand.
#[derive(Debug, Default)]
pub(crate) struct Replays {
    running: Mutex<HashSet<Tenant>>,
}

/// A page in hand, until it is dropped.
#[derive(Debug)]
pub(crate) struct Running<'a> {
    replays: &'a Replays,
    tenant: Tenant,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.replays.lock().remove(&self.tenant);
    }
}

impl Replays {
    /// Takes a page in hand; nothing when it is another one's turn.
    pub(crate) fn begin(&self, tenant: &Tenant) -> Option<Running<'_>> {
        let mut running = self.lock();
        let free = running.len() < RUNNING_MAX && running.insert(tenant.clone());
        free.then(|| Running {
            replays: self,
            tenant: tenant.clone(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Tenant>> {
        // A panic between lock and unlock cannot leave half an entry behind.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_has_one_page_in_hand_and_all_together_a_few() {
        let replays = Replays::default();
        let [a, b, c]: [Tenant; 3] = ["a", "b", "c"].map(|name| name.parse().unwrap());
        let first = replays.begin(&a);
        assert!(first.is_some() && replays.begin(&a).is_none());
        let second = replays.begin(&b);
        assert!(second.is_some() && replays.begin(&c).is_none());
        drop(first);
        assert!(replays.begin(&c).is_some() && replays.begin(&a).is_some());
    }
}
