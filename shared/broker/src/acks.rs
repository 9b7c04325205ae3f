//! Acknowledgements of one channel: several at a time.
//!
//! Nouns: a *tag* is a message's number on its channel; what is *open* is in hand; the *run* is what is settled with
//! nothing open before it.
//!
//! Guarantee: nothing is acknowledged that was not settled. A run goes out as one command, which costs the broker (for
//! a quorum queue: a decision of its members) as much as one message alone; it waits for more for at most
//! [`TOGETHER_WAIT`]. What is settled while something before it is open waits for that for at most [`TURN_WAIT`], then
//! goes alone. Neither waits once it is [`TOGETHER_PART`] of what may be in hand.
//! Not for: what must happen before an acknowledgement (`settle`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lapin::Acker;
use lapin::options::BasicAckOptions;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::Instant;

use crate::names::WorkQueue;
use crate::settle::written;
use crate::telemetry;

/// How long a run waits for more.
const TOGETHER_WAIT: Duration = Duration::from_millis(10);
/// A run does not wait once it is this part of what may be in hand: the broker sends no more before it is told.
const TOGETHER_PART: usize = 8;
/// How long what is settled waits for what is open before it.
const TURN_WAIT: Duration = Duration::from_millis(50);

/// A message that is settled but for its acknowledgement.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) acker: Acker,
    /// How it was settled, for the metric.
    pub(crate) label: &'static str,
    /// Given back when its acknowledgement is written.
    pub(crate) permit: OwnedSemaphorePermit,
}

/// The acknowledgements that one channel owes.
#[derive(Debug)]
pub(crate) struct Acks {
    queue: WorkQueue,
    /// A run of so many does not wait.
    together: usize,
    turns: Mutex<Turns<Settled>>,
    more: Notify,
}

impl Acks {
    /// Those of a channel on which so many messages may be in hand.
    pub(crate) fn new(queue: WorkQueue, concurrency: u16) -> Arc<Self> {
        Arc::new(Self {
            queue,
            together: usize::from(concurrency).div_ceil(TOGETHER_PART),
            turns: Mutex::default(),
            more: Notify::new(),
        })
    }

    /// A message came.
    pub(crate) fn open(&self, tag: u64) {
        self.lock().open.insert(tag);
    }

    /// It is settled.
    pub(crate) fn settled(&self, tag: u64, one: Settled) {
        let mut turns = self.lock();
        if turns.closed {
            drop(turns);
            return self.lost(vec![one]);
        }
        let before = turns.due(self.together);
        turns.settle(tag, one, Instant::now());
        let due = turns.due(self.together);
        if before.is_none_or(|before| due.is_some_and(|due| due < before)) {
            self.more.notify_one();
        }
    }

    /// Writes acknowledgements for as long as it is polled.
    pub(crate) async fn write_all(&self) {
        loop {
            while let Some(batch) = self.take() {
                self.write(batch).await;
            }
            let due = self.lock().due(self.together);
            match due {
                // Early or late: it looks again.
                Some(due) => {
                    let _woken = tokio::time::timeout_at(due, self.more.notified()).await;
                }
                None => self.more.notified().await,
            }
        }
    }

    /// The channel is gone: whatever is not acknowledged comes again.
    pub(crate) fn close(&self) {
        let mut turns = self.lock();
        turns.closed = true;
        let left = std::mem::take(&mut turns.settled).into_values();
        drop(turns);
        self.lost(left.map(|(one, _)| one).collect());
    }

    fn take(&self) -> Option<Vec<Settled>> {
        self.lock().take(Instant::now(), self.together)
    }

    /// All of a batch by its last one.
    async fn write(&self, batch: Vec<Settled>) {
        let Some(last) = batch.last() else { return };
        let options = BasicAckOptions {
            multiple: batch.len() > 1,
        };
        if !written(&last.acker, options).await {
            return self.lost(batch);
        }
        for one in batch {
            telemetry::consumed(self.queue.family().as_str(), one.label);
            drop(one.permit);
        }
    }

    fn lost(&self, batch: Vec<Settled>) {
        for one in batch {
            telemetry::ack_false(self.queue.family().as_str());
            let label = one.label;
            tracing::info!(queue = %self.queue, label, "an acknowledgement was lost: it comes again");
            drop(one.permit);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Turns<Settled>> {
        // A panic between lock and unlock cannot leave half an entry behind.
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is open, and what is settled and not acknowledged, by its tag. `T` is what is acknowledged.
#[derive(Debug)]
struct Turns<T> {
    open: BTreeSet<u64>,
    settled: BTreeMap<u64, (T, Instant)>,
    closed: bool,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self {
            open: BTreeSet::new(),
            settled: BTreeMap::new(),
            closed: false,
        }
    }
}

impl<T> Turns<T> {
    fn settle(&mut self, tag: u64, one: T, now: Instant) {
        self.open.remove(&tag);
        self.settled.insert(tag, (one, now));
    }

    fn first_open(&self) -> u64 {
        self.open.first().copied().unwrap_or(u64::MAX)
    }

    /// Since when each of the run is settled.
    fn run(&self) -> impl Iterator<Item = Instant> {
        let run = self.settled.range(..self.first_open());
        run.map(|(_, (_, since))| *since)
    }

    /// When something is to be acknowledged; nothing while there is nothing.
    fn due(&self, together: usize) -> Option<Instant> {
        let long = self.run().count() >= together;
        let wait = if long { Duration::ZERO } else { TOGETHER_WAIT };
        let run = self.run().map(|since| since + wait);
        let wait = if self.is_crowded(together) {
            Duration::ZERO
        } else {
            TURN_WAIT
        };
        let rest = self.settled.range(self.first_open()..);
        let rest = rest.map(|(_, (_, since))| *since + wait);
        run.chain(rest).min()
    }

    /// Whether too many wait for what is open before them: each keeps a place in hand.
    fn is_crowded(&self, together: usize) -> bool {
        self.settled.range(self.first_open()..).count() >= together
    }

    /// What is to be acknowledged by one command now: the run if it is long or old enough, else one that waited long
    /// enough for what is open before it, or waits with too many.
    fn take(&mut self, now: Instant, together: usize) -> Option<Vec<T>> {
        let (long, old) = self.run().fold((0, false), |(long, old), since| {
            (long + 1, old || now >= since + TOGETHER_WAIT)
        });
        if long > 0 && (long >= together || old) {
            let rest = self.settled.split_off(&self.first_open());
            let run = std::mem::replace(&mut self.settled, rest);
            return Some(run.into_values().map(|(one, _)| one).collect());
        }
        let crowded = self.is_crowded(together);
        let mut rest = self.settled.range(self.first_open()..);
        let late = rest.find(|(_, (_, since))| crowded || now >= *since + TURN_WAIT);
        let tag = late.map(|(tag, _)| *tag)?;
        self.settled.remove(&tag).map(|(one, _)| vec![one])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tags that came, in order; nothing is settled.
    fn turns(count: u64) -> Turns<u64> {
        let mut turns = Turns::default();
        turns.open.extend(1..=count);
        turns
    }

    #[test]
    fn a_run_goes_together_when_it_is_long_or_old_enough() {
        let (mut turns, now) = (turns(5), Instant::now());
        turns.settle(1, 1, now);
        turns.settle(2, 2, now);
        assert_eq!(turns.take(now, 3), None);
        assert_eq!(turns.due(3), Some(now + TOGETHER_WAIT));
        assert_eq!(turns.take(now + TOGETHER_WAIT, 3), Some(vec![1, 2]));
        for tag in 3..=5 {
            turns.settle(tag, tag, now);
        }
        assert_eq!(turns.due(3), Some(now));
        assert_eq!(turns.take(now, 3), Some(vec![3, 4, 5]));
        assert_eq!((turns.take(now, 1), turns.due(1)), (None, None));
    }

    #[test]
    fn what_is_settled_early_waits_for_its_turn_and_then_goes_alone() {
        let (mut turns, now) = (turns(4), Instant::now());
        for tag in [2, 3] {
            turns.settle(tag, tag, now);
        }
        assert_eq!(turns.take(now + TOGETHER_WAIT, 3), None, "1 is open");
        assert_eq!(turns.due(3), Some(now + TURN_WAIT));
        let later = now + TURN_WAIT;
        assert_eq!(turns.take(later, 3), Some(vec![2]));
        turns.settle(1, 1, later);
        assert_eq!(turns.take(later, 1), Some(vec![1, 3]));
        assert_eq!(turns.open.len(), 1);
    }

    #[test]
    fn no_more_wait_for_their_turn_than_may() {
        let (mut turns, now) = (turns(5), Instant::now());
        for tag in [2, 3, 4] {
            turns.settle(tag, tag, now);
        }
        assert_eq!(turns.due(2), Some(now));
        assert_eq!(turns.take(now, 2), Some(vec![2]));
        assert_eq!(turns.take(now, 2), Some(vec![3]));
        assert_eq!(turns.take(now, 2), None, "one may wait");
    }

    #[test]
    fn nothing_open_is_ever_acknowledged_with_others() {
        for tags in [
            [1, 2, 3],
            [1, 3, 2],
            [2, 1, 3],
            [2, 3, 1],
            [3, 1, 2],
            [3, 2, 1],
        ] {
            let (mut turns, now) = (turns(3), Instant::now());
            let mut done = BTreeSet::new();
            for tag in tags {
                turns.settle(tag, tag, now);
                while let Some(batch) = turns.take(now, 1) {
                    let last = batch.last().copied().unwrap_or_default();
                    assert!(batch.len() == 1 || last < turns.first_open(), "{tags:?}");
                    done.extend(batch);
                }
            }
            assert_eq!(done, BTreeSet::from(tags));
        }
    }
}
