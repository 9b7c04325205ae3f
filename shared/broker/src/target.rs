//! Where messages go.

use std::time::Duration;

use crate::names::{Family, Route, WorkQueue};
use crate::topology;

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// An internal message. It must arrive in a queue.
    Pipeline(Route),
    /// Straight into a work queue, as when parked messages are replayed. It must arrive.
    Queue(WorkQueue),
    /// Into a work queue after a wait, through the tiers as a retry goes. It must arrive.
    Later {
        /// Where it comes up.
        queue: WorkQueue,
        /// How long it lies in the tiers; under a second it goes straight into the queue and waits in hand.
        wait: Duration,
    },
    /// `photofinish.events`; nobody listening is no fault.
    Events {
        /// `<tenant>.job.<operation>.<event>`
        routing_key: String,
    },
    /// Every fetcher; nobody listening is no fault.
    Signals,
    /// The queue in a client's `reply_to`; that it is gone is no fault.
    Reply {
        /// Its name. One of ours is refused.
        queue: String,
    },
    /// The operator's queue of refused submissions. It must arrive.
    Rejected,
    /// The queue in which parked messages lie for people. It must arrive.
    Dead(Family),
}

impl Target {
    /// The word in metrics and errors.
    pub(crate) const fn label(&self) -> &'static str {
        match self {
            Self::Pipeline(_) => "pipeline",
            Self::Queue(_) => "queue",
            Self::Later { .. } => "later",
            Self::Events { .. } => "events",
            Self::Signals => "signals",
            Self::Reply { .. } => "reply",
            Self::Rejected => "rejected",
            Self::Dead(_) => "dead",
        }
    }

    /// What it is called in traces: few names, so no lane, tenant or client's queue.
    pub(crate) fn destination(&self) -> String {
        match self {
            Self::Pipeline(Route::PartReady { .. }) => {
                format!("{}:{}", topology::PIPELINE, Family::Submit)
            }
            Self::Pipeline(route) => format!("{}:{route}", topology::PIPELINE),
            Self::Queue(queue) | Self::Later { queue, .. } => queue.family().to_string(),
            Self::Events { .. } => topology::EVENTS.to_owned(),
            Self::Signals => topology::SIGNALS.to_owned(),
            Self::Reply { .. } => "(reply)".to_owned(),
            Self::Rejected => topology::REJECTED.to_owned(),
            Self::Dead(family) => family.dead_queue(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Priority;

    #[test]
    fn traces_have_few_names_for_destinations() {
        let (priority, lane) = (Priority::High, 7);
        let lane = Route::PartReady { priority, lane };
        let named = |target: Target| target.destination();
        assert_eq!(
            named(Target::Pipeline(lane)),
            "photofinish.pipeline:dispatcher.submit"
        );
        let accepted = Target::Pipeline(Route::JobAccepted);
        assert_eq!(named(accepted), "photofinish.pipeline:job.accepted");
        let queue = "amq.gen-1".to_owned();
        assert_eq!(named(Target::Reply { queue }), "(reply)");
        let routing_key = "acme.job.img2vid.completed".to_owned();
        assert_eq!(named(Target::Events { routing_key }), "photofinish.events");
    }
}
