//! Who pays for the end of an attempt: which items spend a try, run alone from now on, or are
//! given up, and with what evidence.

use super::steps::Over;
use super::{ENDS_MAX, Ending, Outcome, Part, PartPolicy};
use crate::{Code, Fault, ItemIndex};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Characters of what was said of an end.
const SAID_CHARS_MAX: usize = 160;

impl Part {
    /// What the next attempt is given: all that is under no suspicion, together; then suspects one
    /// by one, the least tried first, so that the sound ones are done early.
    pub(super) fn next_items(&self) -> BTreeSet<ItemIndex> {
        let together: BTreeSet<ItemIndex> = self
            .open
            .keys()
            .filter(|index| !self.alone.contains(index))
            .copied()
            .collect();
        if !together.is_empty() {
            return together;
        }
        let least = self
            .open
            .iter()
            .min_by_key(|(index, tries)| (*tries, *index));
        least.map(|(index, _)| *index).into_iter().collect()
    }

    /// The part after an attempt: without what is settled, with the tries that it cost.
    pub(super) fn charged(&self, over: &Over<'_>, policy: &PartPolicy) -> Self {
        let missing = self.missing(over);
        let suspects = suspects(over, &missing);
        let spent: BTreeSet<ItemIndex> = match over.outcome {
            Outcome::Void => BTreeSet::new(),
            Outcome::Returned => missing.clone(),
            Outcome::Crashed { .. } => {
                let own = missing
                    .iter()
                    .filter(|index| over.faults.contains_key(index));
                own.chain(&suspects.items).copied().collect()
            }
        };
        let mut next = Self {
            posted: BTreeSet::new(),
            endpoint: Some(over.endpoint.to_owned()),
            ..self.clone()
        };
        next.remember(over, spent.clone());
        next.open.retain(|index, _| !over.settled.contains(index));
        for (index, tries) in &mut next.open {
            if spent.contains(index) {
                *tries = tries.saturating_add(1);
            }
        }
        for index in missing {
            let tries = next.open.get(&index).copied().unwrap_or_default();
            if let Some(fault) = next.gives_up(index, tries, over, policy) {
                next.open.remove(&index);
                next.failed.insert(index, fault);
            } else if suspects.items.contains(&index)
                && (suspects.named || tries.saturating_add(1) >= policy.attempts_per_item_max)
            {
                next.alone.insert(index);
            }
        }
        let open = &next.open;
        next.alone.retain(|index| open.contains_key(index));
        next
    }

    /// What the attempt was given and has not done.
    fn missing(&self, over: &Over<'_>) -> BTreeSet<ItemIndex> {
        let ours = self.nonce() == Some(over.nonce);
        let given = match (over.items.is_empty(), ours && !self.posted.is_empty()) {
            (false, _) => Some(over.items),
            (true, true) => Some(&self.posted),
            (true, false) => None,
        };
        let missing = |index: &&ItemIndex| {
            !over.settled.contains(index) && given.is_none_or(|given| given.contains(index))
        };
        self.open.keys().filter(missing).copied().collect()
    }

    fn remember(&mut self, over: &Over<'_>, spent: BTreeSet<ItemIndex>) {
        if spent.is_empty() {
            return;
        }
        if self.ends.len() >= ENDS_MAX {
            self.ends.remove(0);
        }
        self.ends.push(Ending {
            attempt: over.attempt,
            endpoint: over.endpoint.to_owned(),
            worker: over.worker.map(str::to_owned),
            said: over.said.chars().take(SAID_CHARS_MAX).collect(),
            spent,
        });
    }

    /// Whether an item that is not settled fails for good now.
    fn gives_up(
        &self,
        index: ItemIndex,
        tries: u8,
        over: &Over<'_>,
        policy: &PartPolicy,
    ) -> Option<Fault> {
        let exhausted = tries >= policy.attempts_per_item_max;
        match over.faults.get(&index) {
            Some((fault, true)) => Some(fault.clone()),
            Some((fault, false)) if exhausted => Some(Fault::new(
                Code::AttemptsExhausted,
                format!(
                    "failed in {tries} attempts; the last said: {}",
                    fault.detail
                ),
            )),
            None if exhausted => Some(Fault::new(
                Code::AttemptsExhausted,
                format!(
                    "no output in {tries} attempts, each ended without it{}; check that the input \
                     is sound, then retry the job",
                    self.evidence(index)
                ),
            )),
            Some((_, false)) | None => None,
        }
    }

    /// How each attempt ended on which the item spent a try, as far as it is remembered.
    pub fn evidence(&self, index: ItemIndex) -> String {
        let mut text = String::new();
        let ends = self.ends.iter().filter(|end| end.spent.contains(&index));
        for (nth, end) in ends.enumerate() {
            let worker = end.worker.as_deref().unwrap_or("unknown");
            let company = if end.spent.len() == 1 {
                ""
            } else {
                " and others"
            };
            // Writing to a string does not fail.
            let _written = write!(
                text,
                "{} attempt {}{company} on worker {worker} of endpoint {}: {}",
                if nth == 0 { ":" } else { ";" },
                end.attempt,
                end.endpoint,
                end.said
            );
        }
        text
    }
}

struct Suspects {
    items: BTreeSet<ItemIndex>,
    /// The worker had said what it was at.
    named: bool,
}

/// What may have killed the worker: an item with a fault of its own has not.
fn suspects(over: &Over<'_>, missing: &BTreeSet<ItemIndex>) -> Suspects {
    let Outcome::Crashed { suspects } = over.outcome else {
        return Suspects {
            items: BTreeSet::new(),
            named: false,
        };
    };
    let unexplained = missing
        .iter()
        .filter(|index| !over.faults.contains_key(index));
    let unexplained: BTreeSet<ItemIndex> = unexplained.copied().collect();
    let named: BTreeSet<ItemIndex> = unexplained.intersection(suspects).copied().collect();
    if named.is_empty() {
        Suspects {
            items: unexplained,
            named: false,
        }
    } else {
        Suspects {
            items: named,
            named: true,
        }
    }
}
