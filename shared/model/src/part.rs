//! One part of a run: from waiting for a slot, through its attempts, to done.
//!
//! The dispatcher alone steps it, by compare-and-swap on the stored [`Part`]. A step that is
//! repeated gives the same state and says again what is owed, so a crash between storing and
//! acting swallows nothing.

use crate::{Code, Fault, ItemIndex, Nonce, RunPodId};
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
    /// The watch reports that an attempt is over.
    Ended {
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
            Event::Ended {
                nonce,
                spent,
                settled,
                faults,
            } => self.ended(nonce, *spent, settled, faults, ctx),
            Event::RunOver => self.run_over(),
        }
    }

    fn stay(&self, note: Note, commands: Vec<Command>) -> Step {
        Step {
            next: self.clone(),
            commands,
            note,
        }
    }

    fn move_to(&self, phase: Phase, commands: Vec<Command>) -> Step {
        Step {
            next: Self {
                phase,
                ..self.clone()
            },
            commands,
            note: Note::Advanced,
        }
    }

    fn granted(&self, attempt: u16, nonce: &Nonce) -> Step {
        if attempt != self.attempt {
            return self.stay(Note::Stale, vec![Command::ReturnGrant]);
        }
        match &self.phase {
            Phase::Waiting => self.move_to(
                Phase::Submitting {
                    nonce: nonce.clone(),
                },
                vec![Command::Post {
                    nonce: nonce.clone(),
                    items: self.items(),
                }],
            ),
            // The process that posted it died: it may be running. Never post it again under its
            // token; the watch finds out.
            Phase::Submitting { nonce } => self.move_to(
                Phase::InFlight {
                    nonce: nonce.clone(),
                    runpod_id: None,
                },
                vec![
                    Command::ReturnGrant,
                    Command::Watch {
                        nonce: nonce.clone(),
                        runpod_id: None,
                        items: self.items(),
                    },
                ],
            ),
            Phase::InFlight { .. } => {
                let mut commands = vec![Command::ReturnGrant];
                commands.extend(self.owed());
                self.stay(Note::Repeated, commands)
            }
            Phase::Done => self.stay(Note::AlreadyFinal, vec![Command::ReturnGrant]),
        }
    }

    fn refused(&self, nonce: &Nonce) -> Step {
        match &self.phase {
            Phase::Submitting { nonce: current } if current == nonce => self.move_to(
                Phase::Waiting,
                vec![Command::FreeSlot {
                    nonce: nonce.clone(),
                }],
            ),
            Phase::Done => self.stay(
                Note::AlreadyFinal,
                vec![Command::FreeSlot {
                    nonce: nonce.clone(),
                }],
            ),
            Phase::Waiting | Phase::Submitting { .. } | Phase::InFlight { .. } => self.stay(
                Note::Stale,
                vec![Command::FreeSlot {
                    nonce: nonce.clone(),
                }],
            ),
        }
    }

    fn submitted(&self, nonce: &Nonce, runpod_id: Option<&RunPodId>) -> Step {
        match &self.phase {
            Phase::Submitting { nonce: current } if current == nonce => self.move_to(
                Phase::InFlight {
                    nonce: nonce.clone(),
                    runpod_id: runpod_id.cloned(),
                },
                vec![Command::Watch {
                    nonce: nonce.clone(),
                    runpod_id: runpod_id.cloned(),
                    items: self.items(),
                }],
            ),
            Phase::InFlight {
                nonce: current,
                runpod_id: known,
            } if current == nonce => {
                let better = known.clone().or_else(|| runpod_id.cloned());
                let next = Self {
                    phase: Phase::InFlight {
                        nonce: nonce.clone(),
                        runpod_id: better,
                    },
                    ..self.clone()
                };
                let commands = next.owed().into_iter().collect();
                Step {
                    next,
                    commands,
                    note: Note::Repeated,
                }
            }
            Phase::Done => self.stay(Note::AlreadyFinal, unwanted(runpod_id)),
            Phase::Waiting | Phase::Submitting { .. } | Phase::InFlight { .. } => {
                self.stay(Note::Stale, unwanted(runpod_id))
            }
        }
    }

    fn ended(
        &self,
        nonce: &Nonce,
        spent: bool,
        settled: &BTreeSet<ItemIndex>,
        faults: &BTreeMap<ItemIndex, (Fault, bool)>,
        ctx: &Ctx,
    ) -> Step {
        let free = Command::FreeSlot {
            nonce: nonce.clone(),
        };
        let current = match &self.phase {
            Phase::Submitting { nonce: current } | Phase::InFlight { nonce: current, .. } => {
                current == nonce
            }
            Phase::Waiting => false,
            Phase::Done => return self.stay(Note::AlreadyFinal, vec![free]),
        };
        if !current {
            // What it stored is in the set already. If we wait, say again what is owed: the
            // process that moved us here may have died before it queued the message.
            let mut commands = vec![free];
            if self.phase == Phase::Waiting {
                commands.extend(self.owed());
            }
            return self.stay(Note::Stale, commands);
        }
        let mut commands = vec![free];
        let mut open = BTreeMap::new();
        for (index, tries) in &self.open {
            if settled.contains(index) {
                continue;
            }
            let tries = if spent { tries + 1 } else { *tries };
            match judge(tries, faults.get(index), &ctx.policy) {
                Some(fault) => commands.push(Command::FailItem {
                    index: *index,
                    fault,
                }),
                None => {
                    open.insert(*index, tries);
                }
            }
        }
        if open.is_empty() {
            let next = Self {
                open,
                attempt: self.attempt,
                phase: Phase::Done,
            };
            return Step {
                next,
                commands,
                note: Note::Advanced,
            };
        }
        let attempt = self.attempt.saturating_add(1);
        let tries = open.values().copied().max().unwrap_or(0);
        commands.push(Command::Queue {
            attempt,
            after: pause(tries, ctx),
        });
        Step {
            next: Self {
                open,
                attempt,
                phase: Phase::Waiting,
            },
            commands,
            note: Note::Advanced,
        }
    }

    fn run_over(&self) -> Step {
        match &self.phase {
            Phase::Done => self.stay(Note::AlreadyFinal, Vec::new()),
            Phase::Waiting => self.move_to(Phase::Done, Vec::new()),
            Phase::Submitting { nonce } => self.move_to(
                Phase::Done,
                vec![Command::FreeSlot {
                    nonce: nonce.clone(),
                }],
            ),
            Phase::InFlight { nonce, runpod_id } => {
                let mut commands = unwanted(runpod_id.as_ref());
                commands.push(Command::FreeSlot {
                    nonce: nonce.clone(),
                });
                self.move_to(Phase::Done, commands)
            }
        }
    }
}

fn unwanted(runpod_id: Option<&RunPodId>) -> Vec<Command> {
    runpod_id
        .map(|id| Command::CancelAttempt {
            runpod_id: id.clone(),
        })
        .into_iter()
        .collect()
}

/// Whether an item that is not settled fails for good now.
fn judge(tries: u8, fault: Option<&(Fault, bool)>, policy: &PartPolicy) -> Option<Fault> {
    match fault {
        Some((fault, true)) => Some(fault.clone()),
        Some((fault, false)) if tries >= policy.attempts_per_item_max => Some(Fault::new(
            Code::AttemptsExhausted,
            format!(
                "failed in {tries} attempts; the last said: {}",
                fault.detail
            ),
        )),
        None if tries >= policy.attempts_per_item_max => Some(Fault::new(
            Code::AttemptsExhausted,
            format!(
                "no output in {tries} attempts, each ended without it; check that the input is \
                 sound, then retry the job"
            ),
        )),
        Some((_, false)) | None => None,
    }
}

fn pause(tries: u8, ctx: &Ctx) -> Duration {
    if tries == 0 {
        return Duration::ZERO;
    }
    let doubled = ctx
        .policy
        .retry_pause
        .saturating_mul(1 << (tries - 1).min(16));
    doubled
        .min(ctx.policy.retry_pause_max)
        .mul_f64(0.5 + 0.5 * ctx.jitter.clamp(0.0, 1.0))
}
