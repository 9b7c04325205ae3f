//! What is known of one attempt, and what is to be done now: a pure struct.
//!
//! Nouns: an output is *settled* when it was acknowledged, pushed, or nobody wants it; a *push* is
//! the rescue of one output; *contact* is the first call with the attempt's token.
//!
//! Guarantee: the attempt ends when everything is settled, or when lingering is over and what is
//! left was pushed or could not be; never after its hard end. All times are durations since the
//! job was taken.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use photofinish_contract::announcement::{ItemError, ReadyOutput};
use photofinish_model::ItemIndex;

/// Before the end of the budget the result must be on its way.
pub const RESULT_RESERVE: Duration = Duration::from_secs(2);
/// After SIGTERM nothing may take longer: RunPod kills after some ten seconds.
pub const STOP_GRACE: Duration = Duration::from_secs(8);
/// Pushes of one output: when it becomes urgent, and once more when lingering is over.
const PUSH_ROUNDS_MAX: u8 = 2;

/// The times of an attempt, from its input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// RunPod ends the job here.
    pub budget: Duration,
    /// This long before, rendering stops and what is ready is pushed.
    pub rescue_reserve: Duration,
    /// How long an output waits to be fetched.
    pub linger: Duration,
    /// How long the first contact may take.
    pub first_contact: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Standing {
    acknowledged: bool,
    pushed: bool,
    failed_pushes: u8,
}

/// Everything known of an attempt.
#[derive(Debug, Clone)]
pub struct State {
    policy: Policy,
    outputs: BTreeMap<ItemIndex, (ReadyOutput, Standing)>,
    errors: BTreeMap<ItemIndex, ItemError>,
    rendering: BTreeSet<ItemIndex>,
    unwanted: BTreeSet<ItemIndex>,
    contact: bool,
    push_asked: bool,
    push_begun: bool,
    announced_at: Option<Duration>,
    stopped_at: Option<Duration>,
    rendered_at: Option<Duration>,
    last_ready: Duration,
    last_served: Duration,
}

/// What is to be done now.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Nothing before this time, unless something happens.
    Wait(Duration),
    /// Push these outputs.
    Push(Vec<ItemIndex>),
    /// The attempt is over.
    Finish,
}

/// An output as the server sees it.
#[derive(Debug, Clone, PartialEq)]
pub enum Lookup {
    /// No output of that name.
    Unknown,
    /// It was acknowledged; its file is gone.
    Gone(ItemIndex),
    /// It lies there.
    There(ReadyOutput),
}

impl State {
    /// A fresh attempt.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            outputs: BTreeMap::new(),
            errors: BTreeMap::new(),
            rendering: BTreeSet::new(),
            unwanted: BTreeSet::new(),
            contact: false,
            push_asked: false,
            push_begun: false,
            announced_at: None,
            stopped_at: None,
            rendered_at: None,
            last_ready: Duration::ZERO,
            last_served: Duration::ZERO,
        }
    }

    /// The first announcement has gone out.
    pub fn announced(&mut self, now: Duration) {
        self.announced_at.get_or_insert(now);
    }

    /// An item is begun.
    pub fn begun(&mut self, index: ItemIndex) {
        self.rendering.insert(index);
    }

    /// An item is under way no longer, whatever came of it.
    pub fn left(&mut self, index: ItemIndex) {
        self.rendering.remove(&index);
    }

    /// An output is ready.
    pub fn ready(&mut self, now: Duration, output: ReadyOutput) {
        self.last_ready = self.last_ready.max(now);
        self.rendering.remove(&output.index);
        self.outputs
            .insert(output.index, (output, Standing::default()));
    }

    /// An item failed.
    pub fn failed(&mut self, error: ItemError) {
        self.rendering.remove(&error.index);
        self.errors.insert(error.index, error);
    }

    /// Nothing more will be rendered.
    pub fn rendered(&mut self, now: Duration) {
        self.rendered_at.get_or_insert(now);
    }

    /// Somebody came with the token.
    pub fn contacted(&mut self) {
        self.contact = true;
    }

    /// Bytes of an output went out.
    pub fn served(&mut self, now: Duration) {
        self.last_served = self.last_served.max(now);
    }

    /// An output is stored by whoever fetched it. False: no output of that index.
    pub fn acknowledged(&mut self, index: ItemIndex) -> bool {
        let output = self.outputs.get_mut(&index);
        output
            .map(|(_, standing)| standing.acknowledged = true)
            .is_some()
    }

    /// A push is begun; whatever comes of it, something may lie in the bucket.
    pub fn push_begins(&mut self) {
        self.push_begun = true;
    }

    /// Whether a push was ever begun.
    pub fn push_begun(&self) -> bool {
        self.push_begun
    }

    /// An output was pushed.
    pub fn pushed(&mut self, index: ItemIndex) {
        if let Some((_, standing)) = self.outputs.get_mut(&index) {
            standing.pushed = true;
        }
    }

    /// An output could not be pushed.
    pub fn push_failed(&mut self, index: ItemIndex) {
        if let Some((_, standing)) = self.outputs.get_mut(&index) {
            standing.failed_pushes = standing.failed_pushes.saturating_add(1);
        }
    }

    /// Somebody asked for a push of everything.
    pub fn push_asked(&mut self) {
        self.push_asked = true;
    }

    /// The worker was told to stop.
    pub fn stopping(&mut self, now: Duration) {
        self.stopped_at.get_or_insert(now);
    }

    /// Only these items still count. What was unwanted once stays so.
    pub fn wanted(&mut self, all: &[ItemIndex], wanted: &[ItemIndex]) {
        self.unwanted
            .extend(all.iter().filter(|index| !wanted.contains(index)));
    }

    /// Whether an item still counts.
    pub fn is_wanted(&self, index: ItemIndex) -> bool {
        !self.unwanted.contains(&index)
    }

    /// Whether the worker was told to stop.
    pub fn is_stopping(&self) -> bool {
        self.stopped_at.is_some()
    }

    /// All outputs made so far.
    pub fn outputs(&self) -> Vec<ReadyOutput> {
        self.outputs
            .values()
            .map(|(output, _)| output.clone())
            .collect()
    }

    /// Items pushed.
    pub fn rescued(&self) -> Vec<ItemIndex> {
        let pushed = self
            .outputs
            .iter()
            .filter(|(_, (_, standing))| standing.pushed);
        pushed.map(|(&index, _)| index).collect()
    }

    /// All faults.
    pub fn errors(&self) -> Vec<ItemError> {
        self.errors.values().cloned().collect()
    }

    /// Items that are under way.
    pub fn rendering(&self) -> Vec<ItemIndex> {
        self.rendering.iter().copied().collect()
    }

    /// When rendering ended.
    pub fn rendered_at(&self) -> Option<Duration> {
        self.rendered_at
    }

    /// The output of an index.
    pub fn output(&self, index: ItemIndex) -> Option<&ReadyOutput> {
        self.outputs.get(&index).map(|(output, _)| output)
    }

    /// The output of a name.
    pub fn lookup(&self, name: &str) -> Lookup {
        match self
            .outputs
            .values()
            .find(|(output, _)| output.name == name)
        {
            None => Lookup::Unknown,
            Some((output, standing)) if standing.acknowledged => Lookup::Gone(output.index),
            Some((output, _)) => Lookup::There(output.clone()),
        }
    }

    /// The time after which nothing is waited for any more.
    pub fn hard_end(&self) -> Duration {
        let end = self.policy.budget.saturating_sub(RESULT_RESERVE);
        self.stopped_at
            .map_or(end, |stopped| end.min(stopped + STOP_GRACE))
    }

    /// The time at which rendering stops and what is ready is pushed.
    pub fn rescue_at(&self) -> Duration {
        self.policy
            .budget
            .saturating_sub(self.policy.rescue_reserve)
    }

    fn linger_end(&self) -> Duration {
        let since = self.last_ready.max(self.last_served);
        (since + self.policy.linger).min(self.hard_end())
    }

    /// Outputs that somebody still has to fetch, with their failed pushes below `rounds`.
    fn unsettled(&self, rounds: u8) -> Vec<ItemIndex> {
        let open = self.outputs.iter().filter(|(index, (_, standing))| {
            !standing.acknowledged
                && !standing.pushed
                && standing.failed_pushes < rounds
                && !self.unwanted.contains(index)
        });
        open.map(|(&index, _)| index).collect()
    }

    /// What is to be done at `now`.
    pub fn step(&self, now: Duration) -> Step {
        let over = self.rendered_at.is_some();
        if now >= self.hard_end() || over && self.unsettled(u8::MAX).is_empty() {
            return Step::Finish;
        }
        let contact_by = match self.announced_at {
            Some(at) if !self.contact => at + self.policy.first_contact,
            Some(_) | None => Duration::MAX,
        };
        let urgent = self.stopped_at.is_some()
            || self.push_asked
            || now >= self.rescue_at()
            || now >= contact_by;
        let untried = self.unsettled(1);
        if urgent && !untried.is_empty() {
            return Step::Push(untried);
        }
        let linger_end = if over {
            self.linger_end()
        } else {
            Duration::MAX
        };
        if now >= linger_end {
            let last = self.unsettled(PUSH_ROUNDS_MAX);
            return if last.is_empty() {
                Step::Finish
            } else {
                Step::Push(last)
            };
        }
        let times = [linger_end, self.hard_end(), self.rescue_at(), contact_by];
        Step::Wait(
            times
                .into_iter()
                .filter(|&at| at > now)
                .min()
                .unwrap_or(now),
        )
    }
}

#[cfg(test)]
mod tests;
