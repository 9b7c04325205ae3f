//! How long messages wait: told for the queues from which a service works.
//!
//! Nouns: a [`Head`] is what is known of a queue's oldest message; a *label* names a queue in numbers, its submit
//! lanes of one priority together.
//!
//! Guarantee: nothing is taken out of a queue to look at it. The age that is told is never below the age of the oldest
//! message that waits, as far back as this process has looked: it is the time since the youngest instant at which the
//! queue was seen empty or at which a message became ready that was taken since. Not for deciding anything.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use photofinish_runtime::Clock;

use crate::broker::Broker;
use crate::names::{Priority, WorkQueue};
use crate::parked::ParkedIn;
use crate::telemetry;

/// How often a queue that is worked from is looked at.
const LOOK: Duration = Duration::from_secs(10);

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    u64::try_from(Clock::system().now().as_millisecond()).unwrap_or(0)
}

/// What is known of the oldest message of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    /// Nothing that waits became ready before this.
    since_ms: u64,
    /// How many waited when it was looked at last.
    depth: u32,
}

impl Head {
    fn looked(&mut self, depth: u32, now_ms: u64) {
        self.depth = depth;
        if depth == 0 {
            self.since_ms = self.since_ms.max(now_ms);
        }
    }

    /// Queues are taken from in order: what is left became ready later.
    fn taken(&mut self, ready_ms: u64) {
        self.since_ms = self.since_ms.max(ready_ms);
    }

    fn age(&self, now_ms: u64) -> Duration {
        if self.depth == 0 {
            return Duration::ZERO;
        }
        Duration::from_millis(now_ms.saturating_sub(self.since_ms))
    }
}

/// The heads of the queues that this process works from.
#[derive(Debug, Default)]
pub(crate) struct Waiting(Mutex<HashMap<WorkQueue, Head>>);

impl Waiting {
    /// So many messages wait in a queue now; says how many wait under its label, and since when at most.
    pub(crate) fn looked(&self, queue: WorkQueue, depth: u32, now_ms: u64) -> (u64, Duration) {
        let mut heads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since_ms = now_ms;
        let head = heads.entry(queue).or_insert(Head { since_ms, depth });
        head.looked(depth, now_ms);
        let label = label(queue);
        let alike = heads
            .iter()
            .filter(|(other, _)| self::label(**other) == label);
        alike.fold((0, Duration::ZERO), |(depth, age), (_, head)| {
            (depth + u64::from(head.depth), age.max(head.age(now_ms)))
        })
    }

    /// A message was taken that had become ready then.
    pub(crate) fn taken(&self, queue: WorkQueue, ready_ms: u64, now_ms: u64) {
        let mut heads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let head = heads.entry(queue).or_insert(Head {
            since_ms: now_ms,
            depth: 0,
        });
        head.taken(ready_ms.min(now_ms));
    }
}

/// The name of a queue in numbers.
pub(crate) const fn label(queue: WorkQueue) -> &'static str {
    match queue {
        WorkQueue::Submit { priority, .. } => match priority {
            Priority::High => "dispatcher.submit.high",
            Priority::Normal => "dispatcher.submit.normal",
            Priority::Low => "dispatcher.submit.low",
        },
        WorkQueue::Submissions
        | WorkQueue::Plan
        | WorkQueue::Watch
        | WorkQueue::Outcome
        | WorkQueue::Events
        | WorkQueue::Deliver
        | WorkQueue::Parked => queue.family().as_str(),
    }
}

impl Broker {
    /// Looks at a queue that is worked from until the process ends.
    pub(crate) fn watch_depth(&self, queue: WorkQueue) {
        let (broker, shutdown) = (self.clone(), self.tasks().shutdown().clone());
        let looking = async move {
            loop {
                // Away is no number: the last one stands, and readiness says why.
                let _depth = broker.depth(queue).await;
                tokio::time::sleep(LOOK).await;
            }
        };
        let until = async move {
            tokio::select! {
                () = looking => {}
                () = shutdown.wait() => {}
            }
        };
        drop(self.tasks().spawn("broker.depth", until));
    }

    /// Tells until the process ends how many messages lie for people; for the one service that looks after them.
    pub fn watch_parked(&self) {
        let (broker, shutdown) = (self.clone(), self.tasks().shutdown().clone());
        let looking = async move {
            loop {
                for place in ParkedIn::all() {
                    if let Ok(depth) = broker.parked_depth(place).await {
                        telemetry::parked(place.queue(), depth);
                    }
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        let until = async move {
            tokio::select! {
                () = looking => {}
                () = shutdown.wait() => {}
            }
        };
        drop(self.tasks().spawn("broker.parked", until));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LANE: WorkQueue = WorkQueue::Submit {
        priority: Priority::Low,
        lane: 3,
    };
    const NEXT: WorkQueue = WorkQueue::Submit {
        priority: Priority::Low,
        lane: 4,
    };

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_oldest_is_as_old_as_the_queue_was_not_empty() {
        let waiting = Waiting::default();
        assert_eq!(waiting.looked(LANE, 0, 1_000), (0, Duration::ZERO));
        assert_eq!(waiting.looked(LANE, 2, 11_000), (2, seconds(10)));
        assert_eq!(waiting.looked(LANE, 3, 31_000), (3, seconds(30)));
        assert_eq!(waiting.looked(LANE, 0, 41_000), (0, Duration::ZERO));
    }

    #[test]
    fn what_is_left_became_ready_after_what_was_taken() {
        let waiting = Waiting::default();
        let _empty = waiting.looked(LANE, 0, 1_000);
        waiting.taken(LANE, 15_000, 16_000);
        assert_eq!(waiting.looked(LANE, 1, 20_000), (1, seconds(5)));
        // One that came back to the head tells nothing of the others.
        waiting.taken(LANE, 2_000, 21_000);
        assert_eq!(waiting.looked(LANE, 1, 25_000), (1, seconds(10)));
    }

    #[test]
    fn lanes_of_a_priority_are_told_together() {
        let waiting = Waiting::default();
        for lane in [LANE, NEXT] {
            let _empty = waiting.looked(lane, 0, 1_000);
        }
        let _one = waiting.looked(LANE, 2, 5_000);
        waiting.taken(NEXT, 8_000, 8_000);
        assert_eq!(waiting.looked(NEXT, 1, 9_000), (3, seconds(8)));
        assert_eq!(waiting.looked(WorkQueue::Plan, 4, 9_000).0, 4);
    }
}
