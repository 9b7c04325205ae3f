//! What happened to a job, in order, so that it can be told again: the log behind the event streams.
//!
//! The nouns: an *entry* is a [`JobEvent`], small, without a body; the *pace* is what keeps `job.progress` apart.
//!
//! The guarantee: an event stands in the log once, under its sequence; of progress an older one never comes after a
//! newer, and two of a job stand at least an interval apart, whoever tells them. A log is bounded: beyond it the
//! oldest go. What Redis has lost the job's own record still tells (`contract::telling::known`).
//!
//! Not for: telling anybody (notifier, ingest).

use crate::keys::Key;
use crate::store::millis;
use crate::{JobStore, JobStoreError};
use photofinish_contract::event::EventType;
use photofinish_contract::messages::JobEvent;
use photofinish_model::JobId;
use redis::Script;
use std::sync::LazyLock;
use std::time::Duration;

static LOG: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/event.lua")));

/// Entries of a job's log at most; the newest stay.
pub const EVENTS_MAX: usize = 2_000;
/// Entries that are read at once at most.
pub const EVENTS_PAGE_MAX: usize = 200;

/// What became of an event that was to be logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Logged {
    /// It stands in the log from now on: it is to be told, and nobody has done so yet.
    New,
    /// It stood there before: it is to be told, if that was not done.
    Stands,
    /// Another progress of the job was told a moment ago: it may come again after this.
    Later(Duration),
    /// A newer progress stands there: there is nothing to tell.
    Stale,
}

impl JobStore {
    /// Puts an event into its job's log; again is harmless. `interval` is the pace of `job.progress`.
    pub async fn log_event(
        &self,
        event: &JobEvent,
        interval: Duration,
    ) -> Result<Logged, JobStoreError> {
        let json = serde_json::to_string(event).map_err(JobStoreError::value("an event"))?;
        let keys = [Key::Events(&event.job), Key::Pace(&event.job)];
        let paced = event.event == EventType::JobProgress;
        let interval = if paced { millis(interval) } else { 0 };
        let ttl = self.ttl_ms(&keys[0]);
        let answer: i64 = self
            .script("log an event", &LOG, &keys, |call| {
                call.arg(event.sequence)
                    .arg(json)
                    .arg(interval)
                    .arg(EVENTS_MAX)
                    .arg(ttl);
            })
            .await?;
        Ok(match u64::try_from(answer) {
            Ok(0) => Logged::Stands,
            Ok(wait) => Logged::Later(Duration::from_millis(wait)),
            Err(_) if answer == -2 => Logged::New,
            Err(_) => Logged::Stale,
        })
    }

    /// The events of a job after a sequence, in order, a page of them at most.
    pub async fn events_after(
        &self,
        job: &JobId,
        sequence: u64,
    ) -> Result<Vec<JobEvent>, JobStoreError> {
        let mut pipe = redis::pipe();
        pipe.cmd("ZRANGEBYSCORE")
            .arg(self.key(Key::Events(job)))
            .arg(format!("({sequence}"))
            .arg("+inf")
            .arg("LIMIT")
            .arg(0)
            .arg(EVENTS_PAGE_MAX);
        let (entries,): (Vec<String>,) = self.pipe("read events", &pipe).await?;
        entries
            .iter()
            .map(|json| serde_json::from_str(json).map_err(JobStoreError::value("an event")))
            .collect()
    }
}
