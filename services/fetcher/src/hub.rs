//! From signals to watches: who watches an attempt here hears of it at once.
//!
//! A worker may speak before its attempt's watch has come here. So what nobody listens for is kept
//! for a moment, and given to a watch that begins within it; a watch of another fetcher never does.

use photofinish_contract::messages::Heard;
use photofinish_model::Nonce;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Signals that wait for one watch; more are dropped, since announcements are cumulative and the
/// poll finds what is lost.
const SIGNALS_MAX: usize = 16;

/// Signals that wait for a watch to begin; the oldest goes first.
const UNCLAIMED_MAX: usize = 512;
/// They wait for so long.
const UNCLAIMED_TTL: Duration = Duration::from_secs(10);

/// The watches of this process by their attempt's nonce.
#[derive(Debug, Clone, Default)]
pub struct Hub(Arc<Mutex<Switchboard>>);

#[derive(Debug, Default)]
struct Switchboard {
    watches: HashMap<Nonce, (u64, mpsc::Sender<Heard>)>,
    listeners: u64,
    unclaimed: VecDeque<(Instant, Nonce, Heard)>,
}

/// One watch's ear; the hub forgets it when it is dropped.
#[derive(Debug)]
pub struct Ear {
    hub: Hub,
    nonce: Nonce,
    listener: u64,
    /// What was heard; at its end another watch of the same attempt has taken over.
    pub heard: mpsc::Receiver<Heard>,
}

impl Hub {
    /// Listens for one attempt; a later listener takes over.
    pub fn listen(&self, nonce: &Nonce) -> Ear {
        let (sender, heard) = mpsc::channel(SIGNALS_MAX);
        let mut board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        board.forget_old();
        for (at, of, heard) in std::mem::take(&mut board.unclaimed) {
            if of == *nonce {
                // What does not fit is like any signal that is lost.
                let _sent = sender.try_send(heard);
            } else {
                board.unclaimed.push_back((at, of, heard));
            }
        }
        board.listeners += 1;
        let listener = board.listeners;
        board.watches.insert(nonce.clone(), (listener, sender));
        drop(board);
        Ear {
            hub: self.clone(),
            nonce: nonce.clone(),
            listener,
            heard,
        }
    }

    /// Hands a signal to its watch, if it is here, or keeps it for a moment. True: it was here.
    pub fn tell(&self, nonce: &Nonce, heard: Heard) -> bool {
        let mut board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, watch)) = board.watches.get(nonce) {
            return watch.try_send(heard).is_ok();
        }
        board.forget_old();
        if board.unclaimed.len() >= UNCLAIMED_MAX {
            board.unclaimed.pop_front();
        }
        let kept = (Instant::now(), nonce.clone(), heard);
        board.unclaimed.push_back(kept);
        false
    }
}

impl Switchboard {
    fn forget_old(&mut self) {
        while let Some((at, ..)) = self.unclaimed.front()
            && at.elapsed() >= UNCLAIMED_TTL
        {
            self.unclaimed.pop_front();
        }
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        let mut board = self.hub.0.lock().unwrap_or_else(PoisonError::into_inner);
        let watch = board.watches.get(&self.nonce);
        if watch.is_some_and(|(listener, _)| *listener == self.listener) {
            board.watches.remove(&self.nonce);
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
        let mut first = hub.listen(&one);
        assert!(first.heard.try_recv().is_err(), "nothing was told yet");
        assert!(hub.tell(&one, Heard::Completed));
        assert!(!hub.tell(&other, Heard::Completed));
        assert_eq!(first.heard.try_recv(), Ok(Heard::Completed));
        let second = hub.listen(&one);
        let over = first.heard.try_recv();
        assert_eq!(over, Err(mpsc::error::TryRecvError::Disconnected));
        drop(first);
        assert!(hub.tell(&one, Heard::Completed), "the later listener stays");
        drop(second);
        assert!(!hub.tell(&one, Heard::Completed));
    }

    #[test]
    fn what_came_before_its_watch_is_not_lost() {
        let hub = Hub::default();
        let (one, other) = (Nonce::from_random(1), Nonce::from_random(2));
        assert!(!hub.tell(&one, Heard::Completed));
        for _ in 0..UNCLAIMED_MAX - 1 {
            assert!(!hub.tell(&other, Heard::Completed));
        }
        assert_eq!(hub.listen(&one).heard.try_recv(), Ok(Heard::Completed));
        assert!(hub.listen(&one).heard.try_recv().is_err(), "once");
        let mut late = hub.listen(&other);
        let mut heard = 0;
        while late.heard.try_recv().is_ok() {
            heard += 1;
        }
        assert_eq!(heard, SIGNALS_MAX, "the others are as good as lost");
    }
}
