//! Which of RunPod's endpoints the next attempt goes to.
//!
//! The first that is configured is used as long as it is well; the next one takes over while it
//! refuses calls (its circuit breaker rests) or has no worker for what waits in its queue. A part
//! that has just failed on one prefers another. A preference never makes anything wait: it only
//! chooses among those that would take the attempt now. What is asked for again and again is the
//! health of all of them, so one that has recovered is the first again; a breaker lets one attempt
//! out to try it.

use std::time::Duration;

/// How an endpoint stands, as far as the choice cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Condition {
    /// Submits to it are refused before they are sent: its breaker is open, or one call tries it.
    pub rests: bool,
    /// Attempts wait in its queue and no worker will take them soon.
    pub short: bool,
    /// It has no slot left.
    pub full: bool,
}

/// The endpoint to be asked for a slot, by its place in the configuration; `failed_on` is the one
/// that had the part's last attempt. `None`: what waits is left where it is, because each endpoint
/// rests or is full, or because one that is well will have a slot as soon as an attempt ends.
pub fn choose(conditions: &[Condition], failed_on: Option<usize>) -> Option<usize> {
    let well = |condition: &Condition| !condition.rests && !condition.short;
    let somebody_works = conditions.iter().any(well);
    let usable = |condition: &Condition| {
        !condition.rests && !condition.full && (!condition.short || !somebody_works)
    };
    conditions
        .iter()
        .enumerate()
        .filter(|(_, condition)| usable(condition))
        .map(|(place, _)| place)
        .min_by_key(|place| (failed_on == Some(*place), *place))
}

/// Whether attempts are better sent elsewhere. `stuck`: RunPod has no machine for its workers, or
/// they crash, and none is left; that is so at once. That no worker is up while something waits
/// (for so long: `waiting`) is how every start looks, so it must last longer than `patience`.
pub fn is_short(stuck: bool, waiting: Option<Duration>, patience: Duration) -> bool {
    stuck || waiting.is_some_and(|waiting| waiting >= patience)
}
