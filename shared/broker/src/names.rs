//! Queues, families and routes: every name on the broker that belongs to us.
//!
//! Guarantee: a name is made here and nowhere else, so what is declared, published to and consumed is the same.
//! Not for: what the messages mean.

use std::fmt;
use std::str::FromStr;

/// How urgent a job is; one set of submit lanes each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Before all others.
    High,
    /// The default.
    Normal,
    /// After all others.
    Low,
}

impl Priority {
    /// All, the most urgent first.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    /// The word in queue names.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A kind of work queue, without priority and lane: the unit of parking and of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// `ingest.submissions`
    Submissions,
    /// `dispatcher.plan`
    Plan,
    /// `dispatcher.submit`
    Submit,
    /// `fetcher.watch`
    Watch,
    /// `dispatcher.outcome`
    Outcome,
    /// `notifier.events`
    Events,
    /// `notifier.deliver`
    Deliver,
    /// `dispatcher.parked`
    Parked,
}

impl Family {
    /// All families.
    pub const ALL: [Self; 8] = [
        Self::Submissions,
        Self::Plan,
        Self::Submit,
        Self::Watch,
        Self::Outcome,
        Self::Events,
        Self::Deliver,
        Self::Parked,
    ];

    /// The name: the queue's own, for submit lanes the part that they share.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Submissions => "ingest.submissions",
            Self::Plan => "dispatcher.plan",
            Self::Submit => "dispatcher.submit",
            Self::Watch => "fetcher.watch",
            Self::Outcome => "dispatcher.outcome",
            Self::Events => "notifier.events",
            Self::Deliver => "notifier.deliver",
            Self::Parked => "dispatcher.parked",
        }
    }

    /// The queue in which parked messages of this family lie for people.
    pub fn dead_queue(self) -> String {
        format!("{self}.dead")
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that is none of our families.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a queue family")]
pub struct UnknownFamily(String);

impl FromStr for Family {
    type Err = UnknownFamily;

    /// Takes a family's name or the name of any queue in it.
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|family| {
                name.strip_prefix(family.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
            .ok_or_else(|| UnknownFamily(name.to_owned()))
    }
}

/// A queue from which one of our services works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WorkQueue {
    /// Requests and cancels of clients; ingest.
    Submissions,
    /// Accepted jobs and commands about runs; dispatcher.
    Plan,
    /// Parts that wait for a slot; dispatcher, by [`crate::Broker::get`].
    Submit {
        /// The priority of the job.
        priority: Priority,
        /// The tenant's lane, below `lanes` of the settings.
        lane: u16,
    },
    /// Attempts to watch and to fetch from; fetcher.
    Watch,
    /// What became of attempts; dispatcher.
    Outcome,
    /// Job events to fan out to receivers; notifier.
    Events,
    /// Deliveries that are due; notifier.
    Deliver,
    /// Messages that were given up; dispatcher, which ends their jobs.
    Parked,
}

impl WorkQueue {
    /// The kind of queue.
    pub const fn family(self) -> Family {
        match self {
            Self::Submissions => Family::Submissions,
            Self::Plan => Family::Plan,
            Self::Submit { .. } => Family::Submit,
            Self::Watch => Family::Watch,
            Self::Outcome => Family::Outcome,
            Self::Events => Family::Events,
            Self::Deliver => Family::Deliver,
            Self::Parked => Family::Parked,
        }
    }

    /// All work queues of a deployment with so many lanes.
    pub fn all(lanes: u16) -> Vec<Self> {
        let mut all = vec![
            Self::Submissions,
            Self::Plan,
            Self::Watch,
            Self::Outcome,
            Self::Events,
            Self::Deliver,
            Self::Parked,
        ];
        for priority in Priority::ALL {
            all.extend((0..lanes).map(|lane| Self::Submit { priority, lane }));
        }
        all
    }
}

impl FromStr for WorkQueue {
    type Err = UnknownFamily;

    /// Reads a work queue's name back.
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let family: Family = name.parse()?;
        let queue = match family {
            Family::Submissions => Self::Submissions,
            Family::Plan => Self::Plan,
            Family::Submit => match Route::parse(name) {
                Some(route) => route.queue(),
                None => return Err(UnknownFamily(name.to_owned())),
            },
            Family::Watch => Self::Watch,
            Family::Outcome => Self::Outcome,
            Family::Events => Self::Events,
            Family::Deliver => Self::Deliver,
            Family::Parked => Self::Parked,
        };
        if queue.to_string() == name {
            Ok(queue)
        } else {
            Err(UnknownFamily(name.to_owned()))
        }
    }
}

impl fmt::Display for WorkQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Submit { priority, lane } => write!(f, "{}.{priority}.{lane}", Family::Submit),
            Self::Submissions
            | Self::Plan
            | Self::Watch
            | Self::Outcome
            | Self::Events
            | Self::Deliver
            | Self::Parked => f.write_str(self.family().as_str()),
        }
    }
}

/// A routing key of the exchange `photofinish.pipeline`: what an internal message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Route {
    /// A job was admitted → [`WorkQueue::Plan`].
    JobAccepted,
    /// Something is to be done with a run (cancel, deadline, retry, rebuild) → [`WorkQueue::Plan`].
    JobCommand,
    /// A part waits for a slot → [`WorkQueue::Submit`].
    PartReady {
        /// The priority of the job.
        priority: Priority,
        /// The tenant's lane.
        lane: u16,
    },
    /// An attempt was submitted → [`WorkQueue::Watch`].
    PartSubmitted,
    /// An attempt is over → [`WorkQueue::Outcome`].
    PartFinished,
    /// A job changed → [`WorkQueue::Events`].
    JobEvent,
    /// A delivery is due → [`WorkQueue::Deliver`].
    DeliveryDue,
}

impl Route {
    /// The queue to which it leads.
    pub const fn queue(self) -> WorkQueue {
        match self {
            Self::JobAccepted | Self::JobCommand => WorkQueue::Plan,
            Self::PartReady { priority, lane } => WorkQueue::Submit { priority, lane },
            Self::PartSubmitted => WorkQueue::Watch,
            Self::PartFinished => WorkQueue::Outcome,
            Self::JobEvent => WorkQueue::Events,
            Self::DeliveryDue => WorkQueue::Deliver,
        }
    }

    /// All routes of a deployment with so many lanes.
    pub fn all(lanes: u16) -> Vec<Self> {
        let mut all = vec![
            Self::JobAccepted,
            Self::JobCommand,
            Self::PartSubmitted,
            Self::PartFinished,
            Self::JobEvent,
            Self::DeliveryDue,
        ];
        for priority in Priority::ALL {
            all.extend((0..lanes).map(|lane| Self::PartReady { priority, lane }));
        }
        all
    }

    /// Reads a routing key back: what a consumer of [`WorkQueue::Plan`] matches on. `None` if it is none of ours.
    pub fn parse(routing_key: &str) -> Option<Self> {
        match routing_key {
            "job.accepted" => Some(Self::JobAccepted),
            "job.command" => Some(Self::JobCommand),
            "part.submitted" => Some(Self::PartSubmitted),
            "part.finished" => Some(Self::PartFinished),
            "job.event" => Some(Self::JobEvent),
            "delivery.due" => Some(Self::DeliveryDue),
            other => {
                let (priority, lane) = other.strip_prefix("dispatcher.submit.")?.split_once('.')?;
                let priority = Priority::ALL.into_iter().find(|p| p.as_str() == priority)?;
                Some(Self::PartReady {
                    priority,
                    lane: lane.parse().ok()?,
                })
            }
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::JobAccepted => f.write_str("job.accepted"),
            Self::JobCommand => f.write_str("job.command"),
            Self::PartReady { .. } => self.queue().fmt(f),
            Self::PartSubmitted => f.write_str("part.submitted"),
            Self::PartFinished => f.write_str("part.finished"),
            Self::JobEvent => f.write_str("job.event"),
            Self::DeliveryDue => f.write_str("delivery.due"),
        }
    }
}

/// Whether a queue name is in our namespace: such a `reply_to` is refused, or a client could inject work.
pub fn is_ours(queue: &str) -> bool {
    queue.starts_with("photofinish.")
        || ["ingest.", "dispatcher.", "fetcher.", "notifier."]
            .iter()
            .any(|owner| queue.starts_with(owner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_queue_reads_back_as_its_family() {
        for queue in WorkQueue::all(3) {
            assert_eq!(queue.to_string().parse(), Ok(queue.family()));
            assert_eq!(queue.family().dead_queue().parse(), Ok(queue.family()));
            assert_eq!(queue.to_string().parse(), Ok(queue));
            assert!(is_ours(&queue.to_string()));
        }
        assert!("dispatcher.planner".parse::<Family>().is_err());
        assert!(!is_ours("amq.gen-xyz"));
        assert!(!is_ours("my.replies"));
    }

    #[test]
    fn every_route_reads_back() {
        for route in Route::all(3) {
            assert_eq!(Route::parse(&route.to_string()), Some(route));
        }
        assert_eq!(Route::parse("job.submit"), None);
        assert_eq!(Route::parse("dispatcher.submit.urgent.1"), None);
    }
}
