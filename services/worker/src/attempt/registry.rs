//! The takings that are being served, by nonce.
//!
//! Guarantee: of two takings of one attempt the newer is served; the end of the older one changes
//! nothing for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use photofinish_model::Nonce;

use super::take::Take;

/// All takings of this process. Clones share one state.
#[derive(Debug, Clone, Default)]
pub struct Registry(Arc<Mutex<HashMap<Nonce, Arc<Take>>>>);

/// Serves a taking until it is dropped.
#[derive(Debug)]
pub struct Served {
    registry: Registry,
    take: Arc<Take>,
}

impl Registry {
    /// Serves `take` from now on.
    pub fn serve(&self, take: Arc<Take>) -> Served {
        self.lock().insert(take.nonce().clone(), Arc::clone(&take));
        Served {
            registry: self.clone(),
            take,
        }
    }

    /// The newest taking of an attempt.
    pub fn get(&self, nonce: &Nonce) -> Option<Arc<Take>> {
        self.lock().get(nonce).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Nonce, Arc<Take>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let mut takes = self.registry.lock();
        if takes
            .get(self.take.nonce())
            .is_some_and(|take| Arc::ptr_eq(take, &self.take))
        {
            takes.remove(self.take.nonce());
        }
    }
}
