//! From signals to watches: who watches an attempt here hears of it at once.

use photofinish_contract::messages::Heard;
use photofinish_model::Nonce;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

/// Signals that wait for one watch; more are dropped, since announcements are cumulative and the
/// poll finds what is lost.
const SIGNALS_MAX: usize = 16;

/// The watches of this process by their attempt's nonce.
#[derive(Debug, Clone, Default)]
pub struct Hub(Arc<Mutex<HashMap<Nonce, mpsc::Sender<Heard>>>>);

/// One watch's ear; the hub forgets it when it is dropped.
#[derive(Debug)]
pub struct Ear {
    hub: Hub,
    nonce: Nonce,
    sender: mpsc::Sender<Heard>,
    /// What was heard.
    pub heard: mpsc::Receiver<Heard>,
}

impl Hub {
    /// Listens for one attempt; a later listener takes over.
    pub fn listen(&self, nonce: &Nonce) -> Ear {
        let (sender, heard) = mpsc::channel(SIGNALS_MAX);
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(nonce.clone(), sender.clone());
        Ear {
            hub: self.clone(),
            nonce: nonce.clone(),
            sender,
            heard,
        }
    }

    /// Hands a signal to its watch, if it is here. True: it was.
    pub fn tell(&self, nonce: &Nonce, heard: Heard) -> bool {
        let watches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        watches
            .get(nonce)
            .is_some_and(|watch| watch.try_send(heard).is_ok())
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        let mut watches = self.hub.0.lock().unwrap_or_else(PoisonError::into_inner);
        if watches
            .get(&self.nonce)
            .is_some_and(|sender| sender.same_channel(&self.sender))
        {
            watches.remove(&self.nonce);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_hears_its_own_signals_until_it_ends() {
        let hub = Hub::default();
        let (one, other) = (Nonce::from_random(1), Nonce::from_random(2));
        assert!(!hub.tell(&one, Heard::Completed));
        let mut first = hub.listen(&one);
        assert!(hub.tell(&one, Heard::Completed));
        assert!(!hub.tell(&other, Heard::Completed));
        assert_eq!(first.heard.try_recv(), Ok(Heard::Completed));
        let second = hub.listen(&one);
        drop(first);
        assert!(hub.tell(&one, Heard::Completed), "the later listener stays");
        drop(second);
        assert!(!hub.tell(&one, Heard::Completed));
    }
}
