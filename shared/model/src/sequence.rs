//! Numbers and ids of events, computed and never counted, so that a repeated event is the same one.

use crate::JobId;
use sha2::{Digest, Sha256};

/// Room for the events of one run.
const RUN_SPAN: u64 = 10_000_000;

/// What kind of event a sequence number is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The run was accepted.
    Accepted,
    /// The run's first worker began.
    Started,
    /// So many items are settled.
    Progress(u32),
    /// The run ended.
    Final,
}

/// The sequence number: `run × 10^7 + (0 accepted, 1 started, 2 + settled items, 9,999,999 final)`.
pub fn sequence(run: u32, moment: Moment) -> u64 {
    let within = match moment {
        Moment::Accepted => 0,
        Moment::Started => 1,
        Moment::Progress(settled) => 2 + u64::from(settled).min(RUN_SPAN - 4),
        Moment::Final => RUN_SPAN - 1,
    };
    u64::from(run) * RUN_SPAN + within
}

/// The id of an event: `evt_` and a hash of job, run, type and sequence.
pub fn event_id(job: &JobId, run: u32, event_type: &str, sequence: u64) -> String {
    let text = format!("event\0{job}\0{run}\0{event_type}\0{sequence}");
    format!("evt_{}", &hex::encode(Sha256::digest(text))[..32])
}

/// The id of an event of a webhook endpoint: `evt_` and a hash of endpoint, type and moment in milliseconds.
pub fn endpoint_event_id(endpoint: &str, event_type: &str, at_ms: i64) -> String {
    let text = format!("endpoint\0{endpoint}\0{event_type}\0{at_ms}");
    format!("evt_{}", &hex::encode(Sha256::digest(text))[..32])
}

/// The id of a delivery: `dlv_` and a hash of event and receiver.
pub fn delivery_id(event_id: &str, receiver: &str) -> String {
    let text = format!("delivery\0{event_id}\0{receiver}");
    format!("dlv_{}", &hex::encode(Sha256::digest(text))[..32])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_grows_through_a_run_and_into_the_next() {
        let order = [
            sequence(1, Moment::Accepted),
            sequence(1, Moment::Started),
            sequence(1, Moment::Progress(0)),
            sequence(1, Moment::Progress(1000)),
            sequence(1, Moment::Final),
            sequence(2, Moment::Accepted),
        ];
        assert!(order.windows(2).all(|pair| pair[0] < pair[1]), "{order:?}");
        assert_eq!(order[0], 10_000_000);
        assert_eq!(order[4], 19_999_999);
    }

    #[test]
    fn ids_follow_from_what_they_name() {
        let job = JobId::from_random(1);
        assert_eq!(
            event_id(&job, 1, "job.completed", 7),
            event_id(&job, 1, "job.completed", 7)
        );
        assert_ne!(
            event_id(&job, 1, "job.completed", 7),
            event_id(&job, 2, "job.completed", 7)
        );
        assert_ne!(delivery_id("evt_1", "whe_1"), delivery_id("evt_1", "whe_2"));
        let test = |at| endpoint_event_id("whe_1", "endpoint.test", at);
        assert_eq!(test(1), test(1));
        assert_ne!(test(1), test(2));
    }
}
