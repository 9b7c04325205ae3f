//! One part of a run: from waiting for a slot, through its attempts, to done.
//!
//! The dispatcher alone steps it, by compare-and-swap on the stored [`Part`]. A step that is
//! repeated gives the same state and says again what is owed, so a crash between storing and
//! acting swallows nothing.
//!
//! An attempt is given the items that are under no suspicion, together. A worker that crashed has
//! *suspects*: what it was rendering when it was last heard, or, when nothing is known of that,
//! all that it had left. Suspects alone spend a try; those that were named run one by one from
//! then on, the others once they have but one try left. So an item never fails for a worker that
//! another one has killed, and every crash brings the end nearer.

mod blame;
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
    /// Open items that run alone: a worker may have died of them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub alone: BTreeSet<ItemIndex>,
    /// What the attempt in flight was given; empty in a record that does not know: all of `open`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub posted: BTreeSet<ItemIndex>,
    /// RunPod's endpoint of the attempt in flight or of the last one; none: nobody has noted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// How its last attempts ended that cost a try, oldest first, at most [`ENDS_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ends: Vec<Ending>,
}

/// Ends of attempts that a part remembers.
pub const ENDS_MAX: usize = 12;

/// How an attempt ended that cost a try: the evidence when an item is given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// The attempt.
    pub attempt: u16,
    /// RunPod's endpoint.
    pub endpoint: String,
    /// RunPod's worker, if one was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// What was said of its end.
    pub said: String,
    /// Items that spent a try on it.
    pub spent: BTreeSet<ItemIndex>,
}

/// What the end of an attempt means for its items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The worker gave its result: what is missing has had its try.
    Returned,
    /// The worker died: only what may have killed it has had a try.
    Crashed {
        /// What it was rendering when it was last heard; empty: nobody knows.
        suspects: BTreeSet<ItemIndex>,
    },
    /// It never ran: nothing is spent.
    Void,
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
        /// RunPod's endpoint of that slot.
        endpoint: String,
        /// Items of the run that are settled by now: what an earlier attempt stored late needs no
        /// other.
        settled: BTreeSet<ItemIndex>,
    },
    /// RunPod has certainly not taken it.
    Refused {
        /// The token it was posted under.
        nonce: Nonce,
        /// RunPod's endpoint it was posted to.
        endpoint: String,
    },
    /// RunPod has taken it, or nobody knows (`runpod_id` none).
    Submitted {
        /// The token it was posted under.
        nonce: Nonce,
        /// RunPod's endpoint it was posted to.
        endpoint: String,
        /// RunPod's id.
        runpod_id: Option<RunPodId>,
    },
    /// Somebody watches an attempt at RunPod: it is there, whatever the record says.
    Watched {
        /// The attempt.
        attempt: u16,
        /// Its token.
        nonce: Nonce,
        /// RunPod's endpoint.
        endpoint: String,
        /// RunPod's id, if known.
        runpod_id: Option<RunPodId>,
        /// What it was given.
        items: BTreeSet<ItemIndex>,
    },
    /// The watch reports that an attempt is over.
    Ended {
        /// The attempt.
        attempt: u16,
        /// The attempt's token.
        nonce: Nonce,
        /// RunPod's endpoint.
        endpoint: String,
        /// RunPod's worker, if one was seen.
        worker: Option<String>,
        /// What was said of its end.
        said: String,
        /// What it means.
        outcome: Outcome,
        /// What it was given; empty: the report does not say.
        items: BTreeSet<ItemIndex>,
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
        /// RunPod's endpoint; none: the record does not know.
        endpoint: Option<String>,
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
        /// RunPod's endpoint; none: the record does not know.
        endpoint: Option<String>,
    },
    /// A slot was granted and nothing uses it.
    ReturnGrant,
    /// RunPod's job of this token is no longer wanted.
    CancelAttempt {
        /// RunPod's id.
        runpod_id: RunPodId,
        /// RunPod's endpoint; none: the record does not know.
        endpoint: Option<String>,
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
            alone: BTreeSet::new(),
            posted: BTreeSet::new(),
            endpoint: None,
            ends: Vec::new(),
        }
    }

    /// What messages carry, so that a part whose record was lost with Redis keeps its tries and
    /// its suspicions. What has failed is on record in the bucket.
    #[must_use]
    pub fn carried(&self) -> Self {
        Self {
            failed: BTreeMap::new(),
            ..self.clone()
        }
    }

    /// What the attempt in flight was given.
    fn items(&self) -> Vec<ItemIndex> {
        let given = |index: &&ItemIndex| self.posted.is_empty() || self.posted.contains(index);
        self.open.keys().filter(given).copied().collect()
    }

    /// The nonce of the attempt that is posted or in flight.
    pub fn nonce(&self) -> Option<&Nonce> {
        match &self.phase {
            Phase::Submitting { nonce } | Phase::InFlight { nonce, .. } => Some(nonce),
            Phase::Waiting | Phase::Done => None,
        }
    }

    /// What the state alone obliges us to; a redelivery or a slow scan does it again.
    pub fn owed(&self) -> Option<Command> {
        match &self.phase {
            Phase::Waiting => Some(Command::Queue {
                attempt: self.attempt,
                after: Duration::ZERO,
            }),
            Phase::Submitting { nonce } => Some(self.watch(nonce, None)),
            Phase::InFlight { nonce, runpod_id } => Some(self.watch(nonce, runpod_id.as_ref())),
            Phase::Done => None,
        }
    }

    fn watch(&self, nonce: &Nonce, runpod_id: Option<&RunPodId>) -> Command {
        Command::Watch {
            nonce: nonce.clone(),
            endpoint: self.endpoint.clone(),
            runpod_id: runpod_id.cloned(),
            items: self.items(),
        }
    }

    /// Decides what an event means.
    pub fn step(&self, event: &Event, ctx: &Ctx) -> Step {
        match event {
            Event::Granted {
                attempt,
                nonce,
                endpoint,
                settled,
            } => self.granted(*attempt, nonce, endpoint, settled),
            Event::Refused { nonce, endpoint } => self.refused(nonce, endpoint),
            Event::Submitted {
                nonce,
                endpoint,
                runpod_id,
            } => self.submitted(nonce, endpoint, runpod_id.as_ref()),
            Event::Watched {
                attempt,
                nonce,
                endpoint,
                runpod_id,
                items,
            } => self.watched(*attempt, nonce, endpoint, runpod_id.as_ref(), items),
            Event::Ended {
                attempt,
                nonce,
                endpoint,
                worker,
                said,
                outcome,
                items,
                settled,
                faults,
            } => {
                let over = Over {
                    attempt: *attempt,
                    nonce,
                    endpoint,
                    worker: worker.as_deref(),
                    said,
                    outcome,
                    items,
                    settled,
                    faults,
                };
                self.ended(&over, ctx)
            }
            Event::RunOver => self.run_over(),
        }
    }
}
