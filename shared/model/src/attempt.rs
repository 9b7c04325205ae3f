//! One attempt as the fetcher sees it: from RunPod's queue to its end, output by output.
//!
//! Each output is pulled the moment it is announced. When RunPod calls the attempt over, what is
//! missing is looked for once under the rescue prefix and once on the worker; only then is it
//! called lost. A watch that starts anew (a turn, a crash) learns everything again from the next
//! poll, because announcements are cumulative and storing is keyed by content.

use crate::ItemIndex;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Limits and rhythms of a watch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WatchPolicy {
    /// The first pause between polls while the attempt waits in RunPod's queue.
    pub queued_poll: Duration,
    /// The longest pause there.
    pub queued_poll_max: Duration,
    /// The pause between polls while it runs and no signal has come.
    pub running_poll: Duration,
    /// The pause since the last signal, while it runs and signals come.
    pub signalled_poll: Duration,
    /// An attempt that waits longer is taken back and submitted afresh.
    pub queue_wait_max: Duration,
    /// An attempt whose submit was never answered is given so long to call home.
    pub run_unknown: Duration,
    /// Pulls of one output before only its rescue can help.
    pub pulls_max: u8,
    /// Past its budget by this much, an attempt that RunPod still calls running is lost.
    pub overdue: Duration,
}

impl Default for WatchPolicy {
    fn default() -> Self {
        Self {
            queued_poll: Duration::from_secs(2),
            queued_poll_max: Duration::from_secs(16),
            running_poll: Duration::from_secs(1),
            signalled_poll: Duration::from_secs(32),
            queue_wait_max: Duration::from_secs(3600),
            run_unknown: Duration::from_secs(60),
            pulls_max: 20,
            overdue: Duration::from_secs(300),
        }
    }
}

/// What a decision may use besides state and event.
#[derive(Debug, Clone, Copy)]
pub struct Ctx {
    /// The wall clock.
    pub now: Timestamp,
    /// The policy.
    pub policy: WatchPolicy,
}

/// How an attempt ended, as far as the policy cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The worker returned.
    Completed,
    /// RunPod or the worker called it failed.
    Failed(String),
    /// RunPod does not know it any more, or gave it to another worker.
    Lost(String),
    /// It waited for too long.
    NeverStarted,
    /// Its submit was never answered and it never called home.
    Unknown,
    /// Its run is over.
    RunOver,
}

/// One output on a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Pulls that broke so far.
    pub broken: u8,
    /// A pull is under way.
    pub pulling: bool,
    /// It is the last one: under the rescue prefix first, then on the worker.
    pub last: bool,
}

/// Where a watch stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// In RunPod's queue, or not known to have begun.
    Queued,
    /// On a worker.
    Running {
        /// RunPod's id of the worker.
        worker: String,
        /// Since when.
        since: Timestamp,
    },
    /// RunPod calls it over: the rescue prefix is being looked through.
    Rescuing {
        /// How it ended.
        end: End,
    },
    /// The last pulls are under way.
    Closing {
        /// How it ended.
        end: End,
    },
    /// Reported.
    Over {
        /// How it ended.
        end: End,
    },
}

/// A watch over one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// Items still wanted from it.
    pub wanted: BTreeSet<ItemIndex>,
    /// Wanted outputs that lie on the worker or under the rescue prefix.
    pub outputs: BTreeMap<ItemIndex, Output>,
    /// Where it stands.
    pub phase: Phase,
    /// When it was submitted.
    pub submitted_at: Timestamp,
    /// Seconds of execution it was given.
    pub budget: Duration,
    /// RunPod has answered its submit, or it has called home.
    pub known: bool,
    /// Signals come, so polling may be slow.
    pub signalled: bool,
}

/// What RunPod's status says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Polled {
    /// Waiting for a worker.
    Queued,
    /// A worker has it.
    Running {
        /// RunPod's id of the worker.
        worker: String,
        /// How often RunPod has run it again by itself.
        retries: u32,
    },
    /// It is over.
    Over(End),
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A poll was answered.
    Polled(Polled),
    /// The worker tells what it has; cumulative.
    Announced {
        /// By a signal, not by a poll.
        by_signal: bool,
        /// Outputs that lie on it, or that it has pushed.
        outputs: BTreeSet<ItemIndex>,
        /// Items that failed on it.
        failed: BTreeSet<ItemIndex>,
    },
    /// An output is stored, by this watch or by another.
    Stored(ItemIndex),
    /// A pull broke.
    PullBroke(ItemIndex),
    /// A pull was too slow to be worth another: only the worker's own push can help.
    PullSlow(ItemIndex),
    /// The worker's process is another one than before: what lay on it is gone.
    Restarted,
    /// The rescue prefix was looked through: these lie there.
    RescueListed(BTreeSet<ItemIndex>),
    /// The run is over. An attempt whose submit was not answered is watched for its while all the
    /// same: it is cancelled as soon as its worker tells its id.
    RunOver,
    /// Time has passed.
    Tick,
}

/// What is to be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// The first worker has begun: tell the job.
    TellStarted,
    /// Pull an output off the worker.
    Pull(ItemIndex),
    /// Take an output from under the rescue prefix, or off the worker if it is not there.
    PullRescued(ItemIndex),
    /// Ask the worker to push what is left.
    AskRescue,
    /// List the rescue prefix.
    ListRescue,
    /// Cancel RunPod's job.
    Cancel,
    /// Report how it ended; the watch is over.
    Report(End),
}

/// A decision.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Step {
    /// The watch from now on.
    pub next: Watch,
    /// What is to be done, in order.
    pub commands: Vec<Command>,
}

impl Watch {
    /// A watch over an attempt that was just submitted, or that another process watched.
    pub fn new(
        items: impl IntoIterator<Item = ItemIndex>,
        submitted_at: Timestamp,
        budget: Duration,
        known: bool,
    ) -> Self {
        Self {
            wanted: items.into_iter().collect(),
            outputs: BTreeMap::new(),
            phase: Phase::Queued,
            submitted_at,
            budget,
            known,
            signalled: false,
        }
    }

    /// True once it is reported.
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over { .. })
    }

    /// How long to wait before the next poll; `None`: nothing to poll for.
    pub fn poll_after(&self, ctx: &Ctx) -> Option<Duration> {
        match &self.phase {
            Phase::Queued if !self.known => None,
            Phase::Queued => {
                let waited = elapsed(self.submitted_at, ctx.now);
                Some((waited / 4).clamp(ctx.policy.queued_poll, ctx.policy.queued_poll_max))
            }
            Phase::Running { .. } if self.signalled => Some(ctx.policy.signalled_poll),
            Phase::Running { .. } => Some(ctx.policy.running_poll),
            Phase::Rescuing { .. } | Phase::Closing { .. } | Phase::Over { .. } => None,
        }
    }

    /// Decides what an event means.
    pub fn step(&self, event: &Event, ctx: &Ctx) -> Step {
        let mut next = self.clone();
        let mut commands = Vec::new();
        if self.is_over() {
            return Step { next, commands };
        }
        match event {
            Event::Polled(polled) => next.polled(polled, ctx, &mut commands),
            Event::Announced {
                by_signal,
                outputs,
                failed,
            } => {
                next.announced(*by_signal, outputs, failed, &mut commands);
            }
            Event::Stored(index) => {
                next.wanted.remove(index);
                next.outputs.remove(index);
            }
            Event::PullBroke(index) => next.pull_broke(*index, ctx, &mut commands),
            Event::PullSlow(index) => {
                if let Some(output) = next.outputs.get_mut(index) {
                    output.broken = ctx.policy.pulls_max;
                }
                next.pull_broke(*index, ctx, &mut commands);
            }
            Event::Restarted => next.restarted(&mut commands),
            Event::RescueListed(found) => next.rescue_listed(found, &mut commands),
            // Its id may still be learnt from its worker, and what runs on costs money.
            Event::RunOver if !self.known => next.tick(ctx, &mut commands),
            Event::RunOver => {
                commands.push(Command::Cancel);
                next.over(End::RunOver, &mut commands);
            }
            Event::Tick => next.tick(ctx, &mut commands),
        }
        next.close_if_done(&mut commands);
        Step { next, commands }
    }

    fn polled(&mut self, polled: &Polled, ctx: &Ctx, commands: &mut Vec<Command>) {
        self.known = true;
        match (polled, &self.phase) {
            (_, Phase::Rescuing { .. } | Phase::Closing { .. } | Phase::Over { .. }) => {}
            (Polled::Queued, Phase::Queued) => self.tick(ctx, commands),
            (Polled::Queued, Phase::Running { worker, .. }) => {
                let end = End::Lost(format!("RunPod took it back from worker {worker}"));
                commands.push(Command::Cancel);
                self.rescue(end, commands);
            }
            (Polled::Running { worker, retries }, Phase::Queued) => {
                self.phase = Phase::Running {
                    worker: worker.clone(),
                    since: ctx.now,
                };
                commands.push(Command::TellStarted);
                if *retries > 0 {
                    let end = End::Lost(format!("RunPod ran it {retries} times again"));
                    commands.push(Command::Cancel);
                    self.rescue(end, commands);
                }
            }
            (Polled::Running { worker, retries }, Phase::Running { worker: known, .. }) => {
                if worker != known || *retries > 0 {
                    let end = End::Lost(format!("RunPod moved it from worker {known}"));
                    commands.push(Command::Cancel);
                    self.rescue(end, commands);
                } else {
                    self.tick(ctx, commands);
                }
            }
            (Polled::Over(end), Phase::Queued | Phase::Running { .. }) => {
                self.rescue(end.clone(), commands);
            }
        }
    }

    fn restarted(&mut self, commands: &mut Vec<Command>) {
        if let Phase::Running { worker, .. } = &self.phase {
            let end = End::Lost(format!("worker {worker} was started anew"));
            commands.push(Command::Cancel);
            self.rescue(end, commands);
        }
    }

    fn announced(
        &mut self,
        by_signal: bool,
        outputs: &BTreeSet<ItemIndex>,
        failed: &BTreeSet<ItemIndex>,
        commands: &mut Vec<Command>,
    ) {
        self.known = true;
        self.signalled |= by_signal;
        for index in failed.difference(outputs) {
            self.wanted.remove(index);
            self.outputs.remove(index);
        }
        for index in outputs.intersection(&self.wanted) {
            if !self.outputs.contains_key(index) {
                self.outputs.insert(
                    *index,
                    Output {
                        broken: 0,
                        pulling: true,
                        last: false,
                    },
                );
                commands.push(Command::Pull(*index));
            }
        }
    }

    fn pull_broke(&mut self, index: ItemIndex, ctx: &Ctx, commands: &mut Vec<Command>) {
        let closing = matches!(self.phase, Phase::Closing { .. });
        let rescuing = matches!(self.phase, Phase::Rescuing { .. });
        let Some(output) = self.outputs.get_mut(&index) else {
            return;
        };
        output.broken = output.broken.saturating_add(1);
        output.pulling = false;
        if closing && output.last {
            // The rescue prefix and the worker were both tried: it is lost.
            self.outputs.remove(&index);
        } else if closing {
            output.pulling = true;
            output.last = true;
            commands.push(Command::PullRescued(index));
        } else if rescuing {
            // The listing decides where to look next.
        } else if output.broken < ctx.policy.pulls_max {
            output.pulling = true;
            commands.push(Command::Pull(index));
        } else {
            commands.push(Command::AskRescue);
        }
    }

    fn rescue(&mut self, end: End, commands: &mut Vec<Command>) {
        self.phase = Phase::Rescuing { end };
        commands.push(Command::ListRescue);
    }

    fn rescue_listed(&mut self, found: &BTreeSet<ItemIndex>, commands: &mut Vec<Command>) {
        let Phase::Rescuing { end } = &self.phase else {
            return;
        };
        self.phase = Phase::Closing { end: end.clone() };
        for index in found.intersection(&self.wanted) {
            self.outputs.entry(*index).or_insert(Output {
                broken: 0,
                pulling: false,
                last: false,
            });
        }
        for (index, output) in &mut self.outputs {
            if !output.pulling {
                output.pulling = true;
                output.last = true;
                commands.push(Command::PullRescued(*index));
            }
        }
    }

    fn close_if_done(&mut self, commands: &mut Vec<Command>) {
        if let Phase::Closing { end } = &self.phase
            && self.outputs.is_empty()
        {
            let end = end.clone();
            self.over(end, commands);
        }
    }

    fn over(&mut self, end: End, commands: &mut Vec<Command>) {
        self.phase = Phase::Over { end: end.clone() };
        commands.push(Command::Report(end));
    }

    fn tick(&mut self, ctx: &Ctx, commands: &mut Vec<Command>) {
        let waited = elapsed(self.submitted_at, ctx.now);
        match &self.phase {
            Phase::Queued if !self.known && waited >= ctx.policy.run_unknown => {
                self.rescue(End::Unknown, commands);
            }
            Phase::Queued if waited >= ctx.policy.queue_wait_max => {
                commands.push(Command::Cancel);
                self.rescue(End::NeverStarted, commands);
            }
            Phase::Running { since, .. }
                if elapsed(*since, ctx.now) >= self.budget + ctx.policy.overdue =>
            {
                commands.push(Command::Cancel);
                self.rescue(End::Lost("RunPod never ended it".to_owned()), commands);
            }
            Phase::Queued
            | Phase::Running { .. }
            | Phase::Rescuing { .. }
            | Phase::Closing { .. }
            | Phase::Over { .. } => {}
        }
    }
}

fn elapsed(since: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(since).max(SignedDuration::ZERO)).unwrap_or_default()
}
