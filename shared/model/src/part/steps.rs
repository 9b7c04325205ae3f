//! What each event means for a part: one function for each.

use super::{Command, Ctx, Note, Outcome, Part, Phase, Step};
use crate::{Fault, ItemIndex, Nonce, RunPodId};
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

    pub(super) fn granted(
        &self,
        attempt: u16,
        nonce: &Nonce,
        endpoint: &str,
        settled: &BTreeSet<ItemIndex>,
    ) -> Step {
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
            return ahead.granted(attempt, nonce, endpoint, settled);
        }
        match &self.phase {
            Phase::Waiting => self.posted_to(nonce, endpoint, settled),
            // The process that posted it died: it may be running. Never post it again under its
            // token; the watch finds out.
            Phase::Submitting { nonce } => self.move_to(
                Phase::InFlight {
                    nonce: nonce.clone(),
                    runpod_id: None,
                },
                vec![Command::ReturnGrant, self.watch(nonce, None)],
            ),
            Phase::InFlight { .. } => {
                let mut commands = vec![Command::ReturnGrant];
                commands.extend(self.owed());
                self.stay(Note::Repeated, commands)
            }
            Phase::Done => self.stay(Note::AlreadyFinal, vec![Command::ReturnGrant]),
        }
    }

    fn posted_to(&self, nonce: &Nonce, endpoint: &str, settled: &BTreeSet<ItemIndex>) -> Step {
        let mut next = self.clone();
        next.open.retain(|index, _| !settled.contains(index));
        next.alone.retain(|index| !settled.contains(index));
        let posted = next.next_items();
        let command = if posted.is_empty() {
            next.phase = Phase::Done;
            Command::ReturnGrant
        } else {
            next.endpoint = Some(endpoint.to_owned());
            next.phase = Phase::Submitting {
                nonce: nonce.clone(),
            };
            Command::Post {
                nonce: nonce.clone(),
                items: posted.iter().copied().collect(),
            }
        };
        next.posted = posted;
        Step {
            next,
            commands: vec![command],
            note: Note::Advanced,
        }
    }

    pub(super) fn refused(&self, nonce: &Nonce, endpoint: &str) -> Step {
        let free = vec![Command::FreeSlot {
            nonce: nonce.clone(),
            endpoint: Some(endpoint.to_owned()),
        }];
        match &self.phase {
            Phase::Submitting { nonce: current } if current == nonce => {
                let mut step = self.move_to(Phase::Waiting, free);
                step.next.posted.clear();
                step
            }
            Phase::Done => self.stay(Note::AlreadyFinal, free),
            Phase::Waiting | Phase::Submitting { .. } | Phase::InFlight { .. } => {
                self.stay(Note::Stale, free)
            }
        }
    }

    pub(super) fn submitted(
        &self,
        nonce: &Nonce,
        endpoint: &str,
        runpod_id: Option<&RunPodId>,
    ) -> Step {
        match &self.phase {
            Phase::Submitting { nonce: current } if current == nonce => self.move_to(
                Phase::InFlight {
                    nonce: nonce.clone(),
                    runpod_id: runpod_id.cloned(),
                },
                vec![self.watch(nonce, runpod_id)],
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
            Phase::Done => self.stay(Note::AlreadyFinal, unwanted(runpod_id, Some(endpoint))),
            Phase::Waiting | Phase::Submitting { .. } | Phase::InFlight { .. } => {
                self.stay(Note::Stale, unwanted(runpod_id, Some(endpoint)))
            }
        }
    }

    /// What a watch knows counts more than a record that is older than its attempt.
    pub(super) fn watched(
        &self,
        attempt: u16,
        nonce: &Nonce,
        endpoint: &str,
        runpod_id: Option<&RunPodId>,
        items: &BTreeSet<ItemIndex>,
    ) -> Step {
        let (known, posted) = match &self.phase {
            Phase::Done => return self.stay(Note::AlreadyFinal, Vec::new()),
            _older if attempt < self.attempt => return self.stay(Note::Stale, Vec::new()),
            _newer if attempt > self.attempt => (None, items),
            Phase::Waiting => (None, items),
            Phase::Submitting { nonce: current } if current == nonce => (None, &self.posted),
            Phase::InFlight {
                nonce: current,
                runpod_id,
            } if current == nonce => (runpod_id.clone(), &self.posted),
            Phase::Submitting { .. } | Phase::InFlight { .. } => {
                return self.stay(Note::Stale, Vec::new());
            }
        };
        let next = Self {
            attempt,
            phase: Phase::InFlight {
                nonce: nonce.clone(),
                runpod_id: known.or_else(|| runpod_id.cloned()),
            },
            posted: posted.clone(),
            endpoint: Some(endpoint.to_owned()),
            ..self.clone()
        };
        let note = if next == *self {
            Note::Repeated
        } else {
            Note::Advanced
        };
        Step {
            next,
            commands: Vec::new(),
            note,
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
            endpoint: Some(over.endpoint.to_owned()),
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
        let mut next = self.charged(over, &ctx.policy);
        commands.extend(next.owed_failures(over.settled));
        if next.open.is_empty() {
            next.phase = Phase::Done;
        } else {
            let given = next.next_items();
            let tries = given.iter().filter_map(|index| next.open.get(index)).max();
            next.attempt = self.attempt.max(over.attempt).saturating_add(1);
            next.phase = Phase::Waiting;
            commands.push(Command::Queue {
                attempt: next.attempt,
                after: pause(tries.copied().unwrap_or(0), ctx),
            });
        }
        Step {
            next,
            commands,
            note: Note::Advanced,
        }
    }

    pub(super) fn run_over(&self) -> Step {
        let free = |nonce: &Nonce| Command::FreeSlot {
            nonce: nonce.clone(),
            endpoint: self.endpoint.clone(),
        };
        match &self.phase {
            Phase::Done => self.stay(Note::AlreadyFinal, Vec::new()),
            Phase::Waiting => self.move_to(Phase::Done, Vec::new()),
            Phase::Submitting { nonce } => self.move_to(Phase::Done, vec![free(nonce)]),
            Phase::InFlight { nonce, runpod_id } => {
                let mut commands = unwanted(runpod_id.as_ref(), self.endpoint.as_deref());
                commands.push(free(nonce));
                self.move_to(Phase::Done, commands)
            }
        }
    }
}

/// The fields of [`Event::Ended`](super::Event::Ended).
pub(super) struct Over<'a> {
    pub(super) attempt: u16,
    pub(super) nonce: &'a Nonce,
    pub(super) endpoint: &'a str,
    pub(super) worker: Option<&'a str>,
    pub(super) said: &'a str,
    pub(super) outcome: &'a Outcome,
    pub(super) items: &'a BTreeSet<ItemIndex>,
    pub(super) settled: &'a BTreeSet<ItemIndex>,
    pub(super) faults: &'a BTreeMap<ItemIndex, (Fault, bool)>,
}

fn unwanted(runpod_id: Option<&RunPodId>, endpoint: Option<&str>) -> Vec<Command> {
    let cancel = |id: &RunPodId| Command::CancelAttempt {
        runpod_id: id.clone(),
        endpoint: endpoint.map(str::to_owned),
    };
    runpod_id.map(cancel).into_iter().collect()
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
    use super::super::{Event, PartPolicy};
    use super::*;

    fn ctx() -> Ctx {
        Ctx {
            policy: PartPolicy::default(),
            jitter: 0.5,
        }
    }

    fn granted(attempt: u16, number: u128) -> Event {
        Event::Granted {
            attempt,
            nonce: Nonce::from_random(number),
            endpoint: "ep-1".to_owned(),
            settled: BTreeSet::new(),
        }
    }

    fn ended(attempt: u16, number: u128) -> Event {
        Event::Ended {
            attempt,
            nonce: Nonce::from_random(number),
            endpoint: "ep-1".to_owned(),
            worker: None,
            said: "the worker returned".to_owned(),
            outcome: Outcome::Returned,
            items: BTreeSet::new(),
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
            endpoint: "ep-1".to_owned(),
            runpod_id: id.map(|id| id.parse().unwrap()),
            items: (0..3).collect(),
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
