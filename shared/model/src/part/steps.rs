//! What each event means for a part: one function for each.

use super::{Command, Ctx, Note, Part, PartPolicy, Phase, Step};
use crate::{Code, Fault, ItemIndex, Nonce, RunPodId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

impl Part {
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

    pub(super) fn granted(&self, attempt: u16, nonce: &Nonce) -> Step {
        if attempt < self.attempt {
            return self.stay(Note::Stale, vec![Command::ReturnGrant]);
        }
        if attempt > self.attempt && self.phase != Phase::Done {
            // The record is older than the message: a restarted Redis loses its last moments.
            let ahead = Self {
                attempt,
                phase: Phase::Waiting,
                ..self.clone()
            };
            return ahead.granted(attempt, nonce);
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

    pub(super) fn refused(&self, nonce: &Nonce) -> Step {
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

    pub(super) fn submitted(&self, nonce: &Nonce, runpod_id: Option<&RunPodId>) -> Step {
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

    /// What a watch knows counts more than a record that is older than its attempt.
    pub(super) fn watched(
        &self,
        attempt: u16,
        nonce: &Nonce,
        runpod_id: Option<&RunPodId>,
    ) -> Step {
        let known = match &self.phase {
            Phase::Done => return self.stay(Note::AlreadyFinal, Vec::new()),
            _older if attempt < self.attempt => return self.stay(Note::Stale, Vec::new()),
            _newer if attempt > self.attempt => None,
            Phase::Waiting => None,
            Phase::Submitting { nonce: current } if current == nonce => None,
            Phase::InFlight {
                nonce: current,
                runpod_id,
            } if current == nonce => runpod_id.clone(),
            Phase::Submitting { .. } | Phase::InFlight { .. } => {
                return self.stay(Note::Stale, Vec::new());
            }
        };
        let phase = Phase::InFlight {
            nonce: nonce.clone(),
            runpod_id: known.or_else(|| runpod_id.cloned()),
        };
        if attempt == self.attempt && phase == self.phase {
            return self.stay(Note::Repeated, Vec::new());
        }
        let next = Self {
            attempt,
            phase,
            ..self.clone()
        };
        Step {
            next,
            commands: Vec::new(),
            note: Note::Advanced,
        }
    }

    /// True for the end of the attempt that the record is about. An attempt that the record has
    /// not reached yet counts, too: the record was lost with Redis, in whole or by a moment.
    fn is_about(&self, over: &Over<'_>) -> bool {
        match &self.phase {
            Phase::Submitting { nonce } | Phase::InFlight { nonce, .. } => {
                nonce == over.nonce || over.attempt > self.attempt
            }
            Phase::Waiting => over.attempt >= self.attempt,
            Phase::Done => false,
        }
    }

    /// Items that were given up and are not settled yet.
    fn owed_failures<'a>(
        &'a self,
        settled: &'a BTreeSet<ItemIndex>,
    ) -> impl Iterator<Item = Command> + 'a {
        let open = self.failed.iter();
        let open = open.filter(|(index, _)| !settled.contains(index));
        open.map(|(index, fault)| Command::FailItem {
            index: *index,
            fault: fault.clone(),
        })
    }

    pub(super) fn ended(&self, over: &Over<'_>, ctx: &Ctx) -> Step {
        let mut commands = vec![Command::FreeSlot {
            nonce: over.nonce.clone(),
        }];
        if !self.is_about(over) {
            // What it stored is in the set already. Say again what is owed: the process that
            // moved us here may have died before it did it.
            commands.extend(self.owed_failures(over.settled));
            return match &self.phase {
                Phase::Done => self.stay(Note::AlreadyFinal, commands),
                Phase::Waiting => {
                    commands.extend(self.owed());
                    self.stay(Note::Stale, commands)
                }
                Phase::Submitting { .. } | Phase::InFlight { .. } => {
                    self.stay(Note::Stale, commands)
                }
            };
        }
        let mut next = Self {
            open: BTreeMap::new(),
            ..self.clone()
        };
        for (index, tries) in &self.open {
            if over.settled.contains(index) {
                continue;
            }
            let tries = if over.spent { tries + 1 } else { *tries };
            match judge(tries, over.faults.get(index), &ctx.policy) {
                Some(fault) => {
                    next.failed.insert(*index, fault);
                }
                None => {
                    next.open.insert(*index, tries);
                }
            }
        }
        commands.extend(next.owed_failures(over.settled));
        if next.open.is_empty() {
            next.phase = Phase::Done;
        } else {
            let tries = next.open.values().copied().max().unwrap_or(0);
            next.attempt = self.attempt.max(over.attempt).saturating_add(1);
            next.phase = Phase::Waiting;
            commands.push(Command::Queue {
                attempt: next.attempt,
                after: pause(tries, ctx),
            });
        }
        Step {
            next,
            commands,
            note: Note::Advanced,
        }
    }

    pub(super) fn run_over(&self) -> Step {
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

/// The fields of [`Event::Ended`].
pub(super) struct Over<'a> {
    pub(super) attempt: u16,
    pub(super) nonce: &'a Nonce,
    pub(super) spent: bool,
    pub(super) settled: &'a BTreeSet<ItemIndex>,
    pub(super) faults: &'a BTreeMap<ItemIndex, (Fault, bool)>,
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

#[cfg(test)]
mod tests {
    use super::super::Event;
    use super::*;

    fn ctx() -> Ctx {
        Ctx {
            policy: PartPolicy::default(),
            jitter: 0.5,
        }
    }

    fn granted(attempt: u16, number: u128) -> Event {
        let nonce = Nonce::from_random(number);
        Event::Granted { attempt, nonce }
    }

    fn ended(attempt: u16, number: u128) -> Event {
        Event::Ended {
            attempt,
            nonce: Nonce::from_random(number),
            spent: true,
            settled: BTreeSet::new(),
            faults: BTreeMap::new(),
        }
    }

    /// A Redis that was killed comes back a moment older than our messages.
    #[test]
    fn a_part_that_is_older_than_its_messages_catches_up() {
        let old = Part::new(0..3).step(&granted(1, 1), &ctx()).next;
        // The second attempt's message came, and the record still stands at the first.
        let next = old.step(&granted(2, 2), &ctx()).next;
        let nonce = Nonce::from_random(2);
        assert_eq!((next.attempt, next.phase), (2, Phase::Submitting { nonce }));
        // The second attempt's end came.
        let next = old.step(&ended(2, 2), &ctx()).next;
        assert_eq!((next.attempt, next.phase), (3, Phase::Waiting));
        // The end of an attempt whose record is back at waiting.
        let next = Part::new(0..3).step(&ended(1, 1), &ctx()).next;
        assert_eq!((next.attempt, next.phase), (2, Phase::Waiting));
    }

    /// A watch says what is in flight, so that nothing is submitted beside it.
    #[test]
    fn a_watch_puts_a_lost_record_back() {
        let watched = |id: Option<&str>| Event::Watched {
            attempt: 1,
            nonce: Nonce::from_random(1),
            runpod_id: id.map(|id| id.parse().unwrap()),
        };
        let back = Part::new(0..3).step(&watched(Some("rp-1")), &ctx()).next;
        let step = back.step(&granted(1, 2), &ctx());
        let posts = |command: &Command| matches!(command, Command::Post { .. });
        assert!(!step.commands.iter().any(posts), "{step:?}");
        assert_eq!(
            back.step(&watched(None), &ctx()).next,
            back,
            "an id is kept"
        );
        let later = back.step(&ended(1, 1), &ctx()).next;
        assert_eq!(later.step(&watched(Some("rp-1")), &ctx()).next, later);
    }
}
