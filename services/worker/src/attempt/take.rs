//! One taking of an attempt: its state behind a lock, its directory, and whoever waits for changes.
//!
//! Guarantee: every change wakes the loop that drives the attempt; the files of one taking lie in a
//! directory of its own, so that a duplicate never touches them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use photofinish_contract::announcement::{
    Address, Announcement, AnnouncementKind, ReadyOutput, Spent, Wanted,
};
use photofinish_model::{ItemIndex, Nonce};
use sha2::{Digest as _, Sha256};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::state::{Lookup, Policy, State};
use crate::error::ItemFault;
use crate::operations::progress::Progress;

/// Who is speaking in an announcement.
#[derive(Debug, Clone)]
pub struct Speaker {
    /// RunPod's job id.
    pub run_id: String,
    /// The attempt's fencing token.
    pub nonce: Nonce,
    /// RunPod's id of this worker.
    pub worker_id: String,
    /// Random, new in each process.
    pub boot: String,
    /// Where outputs are served.
    pub addresses: Vec<Address>,
}

/// An item of an attempt.
#[derive(Debug)]
pub struct Item {
    /// Its place in the request.
    pub index: ItemIndex,
    /// The client's id.
    pub id: String,
    /// Cancelled when its rendering must stop.
    pub stop: CancellationToken,
    /// How far its rendering is.
    pub progress: Progress,
}

/// One taking of an attempt.
#[derive(Debug)]
pub struct Take {
    speaker: Speaker,
    token_hash: [u8; 32],
    dir: PathBuf,
    items: Vec<Item>,
    since: Instant,
    state: Mutex<State>,
    changed: Notify,
    newest: watch::Sender<Option<Announcement>>,
}

impl Take {
    /// A taking whose outputs lie in `dir` and whose clock began at `since`.
    pub fn new(
        speaker: Speaker,
        token: &str,
        dir: PathBuf,
        items: Vec<(ItemIndex, String)>,
        policy: Policy,
        since: Instant,
    ) -> Arc<Self> {
        let items = items
            .into_iter()
            .map(|(index, id)| Item {
                index,
                id,
                stop: CancellationToken::new(),
                progress: Progress::default(),
            })
            .collect();
        Arc::new(Self {
            speaker,
            token_hash: Sha256::digest(token).into(),
            dir,
            items,
            since,
            state: Mutex::new(State::new(policy)),
            changed: Notify::new(),
            newest: watch::Sender::new(None),
        })
    }

    /// Time since the job was taken.
    pub fn now(&self) -> Duration {
        self.since.elapsed()
    }

    /// The instant that a time since taking is.
    pub fn instant(&self, at: Duration) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.since + at)
    }

    /// The attempt's fencing token.
    pub fn nonce(&self) -> &Nonce {
        &self.speaker.nonce
    }

    /// Where its outputs lie.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its items.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// The state, for reading.
    pub fn state(&self) -> MutexGuard<'_, State> {
        // The state is plain data, whole after each line: a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes whoever drives the attempt.
    pub fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.changed.notify_one();
        result
    }

    /// Waits for the next change.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Whether this is the attempt's token. Hashes are compared: how long that takes tells nothing
    /// of the token.
    pub fn admits(&self, token: &str) -> bool {
        let offered: [u8; 32] = Sha256::digest(token).into();
        offered == self.token_hash
    }

    /// An item is begun: tell everybody, for this may be the last that is heard of us.
    pub fn begun(&self, index: ItemIndex) {
        let nothing_yet = self.change(|state| {
            state.begun(index);
            state.outputs().is_empty() && state.errors().is_empty()
        });
        self.announce(if nothing_yet {
            AnnouncementKind::Started
        } else {
            AnnouncementKind::Ready
        });
    }

    /// An output is ready: tell everybody.
    pub fn ready(&self, output: ReadyOutput) {
        let now = self.now();
        self.change(|state| state.ready(now, output));
        self.announce(AnnouncementKind::Ready);
    }

    /// An item failed: tell everybody.
    pub fn failed(&self, index: ItemIndex, fault: ItemFault) {
        tracing::info!(nonce = %self.nonce(), index, %fault, "item failed");
        self.change(|state| state.failed(fault.of(index)));
        self.announce(AnnouncementKind::Ready);
    }

    /// Bytes of an output went out.
    pub fn served(&self) {
        // No wake-up: it can only put the next step off, which the loop sees when its wait is over.
        let now = self.now();
        self.state().served(now);
    }

    /// An output was acknowledged: its file goes. False: no output of that name.
    pub async fn acknowledge(&self, name: &str) -> bool {
        let found = self.state().lookup(name);
        match found {
            Lookup::Unknown => false,
            Lookup::Gone(_) => true,
            Lookup::There(output) => {
                self.change(|state| state.acknowledged(output.index));
                if let Err(error) = tokio::fs::remove_file(self.dir.join(&output.name)).await {
                    tracing::warn!(nonce = %self.nonce(), %error, "remove a fetched output");
                }
                true
            }
        }
    }

    /// Only these items count any more.
    pub fn obey(&self, wanted: &Wanted) {
        let all: Vec<ItemIndex> = self.items.iter().map(|item| item.index).collect();
        self.change(|state| state.wanted(&all, &wanted.wanted));
        let state = self.state();
        for item in self
            .items
            .iter()
            .filter(|item| !state.is_wanted(item.index))
        {
            item.stop.cancel();
        }
    }

    /// Stops all rendering.
    pub fn stop_rendering(&self) {
        for item in &self.items {
            item.stop.cancel();
        }
    }

    /// What there is to tell now.
    pub fn announcement(&self, kind: AnnouncementKind) -> Announcement {
        let now = self.now();
        let state = self.state();
        let lingered = state
            .rendered_at()
            .map_or(Duration::ZERO, |at| now.saturating_sub(at));
        Announcement {
            kind,
            run_id: self.speaker.run_id.clone(),
            nonce: self.speaker.nonce.clone(),
            worker_id: self.speaker.worker_id.clone(),
            boot: self.speaker.boot.clone(),
            addresses: self.speaker.addresses.clone(),
            outputs: state.outputs(),
            rescued: state.rescued(),
            errors: state.errors(),
            rendering: state.rendering(),
            spent: Spent {
                taken_s: now.as_secs_f64(),
                linger_s: lingered.as_secs_f64(),
            },
            nothing_pushed: !state.push_begun(),
        }
    }

    /// Makes an announcement; only the newest one counts.
    pub fn announce(&self, kind: AnnouncementKind) {
        let now = self.now();
        self.change(|state| state.announced(now));
        self.newest.send_replace(Some(self.announcement(kind)));
    }

    /// Follows the announcements.
    pub fn announcements(&self) -> watch::Receiver<Option<Announcement>> {
        self.newest.subscribe()
    }
}
