//! One part of a run: from waiting for a slot, through its attempts, to done.
//!
//! The dispatcher alone steps it, by compare-and-swap on the stored [`Part`]. A step that is
//! repeated gives the same state and says again what is owed, so a crash between storing and
//! acting swallows nothing.

mod steps;

use self::steps::Over;
use crate::{Fault, ItemIndex, Nonce, RunPodId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Limits and pauses of a part's attempts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PartPolicy {
    /// Attempts that an item is given before it fails for good.
    pub attempts_per_item_max: u8,
    /// The pause before a second attempt; doubled for each further one.
    pub retry_pause: Duration,
    /// The longest pause.
    pub retry_pause_max: Duration,
}

impl Default for PartPolicy {
    fn default() -> Self {
        Self {
            attempts_per_item_max: 3,
            retry_pause: Duration::from_secs(1),
            retry_pause_max: Duration::from_secs(60),
        }
    }
}

/// What a decision may use besides state and event.
#[derive(Debug, Clone, Copy)]
pub struct Ctx {
    /// The policy.
    pub policy: PartPolicy,
    /// Drawn outside, 0 to 1.
    pub jitter: f64,
}

/// A part of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Items that are not settled as far as the part knows, with the attempts spent on each.
    pub open: BTreeMap<ItemIndex, u8>,
    /// The attempt that is waiting or in flight, from 1.
    pub attempt: u16,
    /// Where it stands.
    pub phase: Phase,
    /// Items that it gave up, and why. Kept so that failing them is said again when an event is
    /// repeated: the process that decided it may have died before it did it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failed: BTreeMap<ItemIndex, Fault>,
}

/// Where a part stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// Its message waits for a slot.
    Waiting,
    /// It is being posted to RunPod under this nonce; what came of it is not known.
    Submitting {
        /// The fencing token.
        nonce: Nonce,
    },
    /// It is RunPod's, and the fetcher's to watch.
    InFlight {
        /// The fencing token.
        nonce: Nonce,
        /// RunPod's id; none when the answer never came.
        runpod_id: Option<RunPodId>,
    },
    /// Nothing more happens to it in this run.
    Done,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The message of `attempt` came up and a slot is held for it.
    Granted {
        /// The attempt that the message names.
        attempt: u16,
        /// A fresh fencing token.
        nonce: Nonce,
    },
    /// RunPod has certainly not taken it.
    Refused {
        /// The token it was posted under.
        nonce: Nonce,
    },
    /// RunPod has taken it, or nobody knows (`runpod_id` none).
    Submitted {
        /// The token it was posted under.
        nonce: Nonce,
        /// RunPod's id.
        runpod_id: Option<RunPodId>,
    },
    /// Somebody watches an attempt at RunPod: it is there, whatever the record says.
    Watched {
        /// The attempt.
        attempt: u16,
        /// Its token.
        nonce: Nonce,
        /// RunPod's id, if known.
        runpod_id: Option<RunPodId>,
    },
    /// The watch reports that an attempt is over.
    Ended {
        /// The attempt.
        attempt: u16,
        /// The attempt's token.
        nonce: Nonce,
        /// Whether it counts against the items' attempts.
        spent: bool,
        /// Items of the run that are settled by now.
        settled: BTreeSet<ItemIndex>,
        /// Items that failed on the worker; `true`: another attempt would fail in the same way.
        faults: BTreeMap<ItemIndex, (Fault, bool)>,
    },
    /// The run is over.
    RunOver,
}

/// What is to be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Post these items to RunPod.
    Post {
        /// Under this token.
        nonce: Nonce,
        /// These items.
        items: Vec<ItemIndex>,
    },
    /// Hand the attempt to the fetcher.
    Watch {
        /// Its token.
        nonce: Nonce,
        /// RunPod's id, if known.
        runpod_id: Option<RunPodId>,
        /// Its items.
        items: Vec<ItemIndex>,
    },
    /// Queue the message of the next attempt.
    Queue {
        /// The attempt.
        attempt: u16,
        /// Not before this has passed.
        after: Duration,
    },
    /// The item fails for good.
    FailItem {
        /// The item.
        index: ItemIndex,
        /// Why.
        fault: Fault,
    },
    /// The slot of this token is free.
    FreeSlot {
        /// The token.
        nonce: Nonce,
    },
    /// A slot was granted and nothing uses it.
    ReturnGrant,
    /// RunPod's job of this token is no longer wanted.
    CancelAttempt {
        /// RunPod's id.
        runpod_id: RunPodId,
    },
}

/// Why a step came out as it did; logged and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// The part moved on.
    Advanced,
    /// The event repeats what is known; what is owed is said again.
    Repeated,
    /// The event is of an attempt that is no longer current.
    Stale,
    /// The part is done.
    AlreadyFinal,
}

/// A decision.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Step {
    /// The part from now on.
    pub next: Part,
    /// What is to be done, in order.
    pub commands: Vec<Command>,
    /// Why.
    pub note: Note,
}

impl Part {
    /// A part as planned.
    pub fn new(items: impl IntoIterator<Item = ItemIndex>) -> Self {
        let open: BTreeMap<_, _> = items.into_iter().map(|index| (index, 0)).collect();
        let phase = if open.is_empty() {
            Phase::Done
        } else {
            Phase::Waiting
        };
        Self {
            open,
            attempt: 1,
            phase,
            failed: BTreeMap::new(),
        }
    }

    fn items(&self) -> Vec<ItemIndex> {
        self.open.keys().copied().collect()
    }

    /// What the state alone obliges us to; a redelivery or a slow scan does it again.
    pub fn owed(&self) -> Option<Command> {
        match &self.phase {
            Phase::Waiting => Some(Command::Queue {
                attempt: self.attempt,
                after: Duration::ZERO,
            }),
            Phase::Submitting { nonce } => Some(Command::Watch {
                nonce: nonce.clone(),
                runpod_id: None,
                items: self.items(),
            }),
            Phase::InFlight { nonce, runpod_id } => Some(Command::Watch {
                nonce: nonce.clone(),
                runpod_id: runpod_id.clone(),
                items: self.items(),
            }),
            Phase::Done => None,
        }
    }

    /// Decides what an event means.
    pub fn step(&self, event: &Event, ctx: &Ctx) -> Step {
        match event {
            Event::Granted { attempt, nonce } => self.granted(*attempt, nonce),
            Event::Refused { nonce } => self.refused(nonce),
            Event::Submitted { nonce, runpod_id } => self.submitted(nonce, runpod_id.as_ref()),
            Event::Watched {
                attempt,
                nonce,
                runpod_id,
            } => self.watched(*attempt, nonce, runpod_id.as_ref()),
            Event::Ended {
                attempt,
                nonce,
                spent,
                settled,
                faults,
            } => {
                let over = Over {
                    attempt: *attempt,
                    nonce,
                    spent: *spent,
                    settled,
                    faults,
                };
                self.ended(&over, ctx)
            }
            Event::RunOver => self.run_over(),
        }
    }
}
