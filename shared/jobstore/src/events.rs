//! What happened to a job, in order, so that it can be told again: the log behind the event streams.
//!
//! The nouns: an *entry* is a [`JobEvent`], small, without a body; the *pace* is what keeps `job.progress` apart.
//!
//! The guarantee: an event stands in the log once, under its sequence; of progress an older one never comes after a
//! newer, and two of a job stand at least an interval apart, whoever tells them. A log is bounded: beyond it the
//! oldest go. What Redis has lost the job's own record still tells (`contract::telling::known`).
//!
//! Not for: telling anybody (notifier, ingest).

use crate::jobs::{JobFields, read_job};
use crate::keys::Key;
use crate::store::millis;
use crate::system::{COPY_ANSWERS, CopyFields, read_copy};
use crate::{CachedRecord, JobStore, JobStoreError};
use photofinish_contract::event::EventType;
use photofinish_contract::messages::JobEvent;
use photofinish_model::{JobId, JobSnapshot};
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

/// What is asked for before an event is told.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Whether it is put into its job's log, at whatever pace.
    pub log: bool,
    /// Whether its job is read.
    pub job: bool,
    /// Kind and id of the copy that is read: see [`JobStore::cached_system`].
    pub copy: (&'a str, &'a str),
}

/// What an event is told from.
#[derive(Debug)]
pub struct Telling {
    /// What became of it in its job's log, if it was put there.
    pub logged: Option<Logged>,
    /// Its job, if it was asked for; nothing when Redis does not know it.
    pub job: Result<Option<JobSnapshot>, JobStoreError>,
    /// The copy.
    pub copy: Option<CachedRecord>,
}

impl JobStore {
    /// All that an event is told from, in one go.
    pub async fn begin_telling(
        &self,
        event: &JobEvent,
        asked: Asked<'_>,
    ) -> Result<Telling, JobStoreError> {
        const DOING: &str = "begin to tell an event";
        let mut pipe = redis::pipe();
        let (kind, id) = asked.copy;
        self.ask_copy(&mut pipe, kind, id);
        if asked.job {
            self.ask_job(&mut pipe, &event.job);
        }
        if asked.log {
            self.add_log(&mut pipe, event, Duration::ZERO)?;
        }
        let answers: Vec<redis::Value> = self.pipe_with(DOING, &pipe, &[&LOG]).await?;
        let unreadable = |source: redis::ParsingError| JobStoreError::Command {
            doing: DOING,
            source: source.into(),
        };
        let mut answers = answers.into_iter();
        let copy = redis::Value::Array(answers.by_ref().take(COPY_ANSWERS).collect());
        let copy: CopyFields = redis::from_redis_value(copy).map_err(unreadable)?;
        let job = asked.job.then(|| answers.next()).flatten();
        let job = job.map(redis::from_redis_value::<JobFields>).transpose();
        let logged = asked.log.then(|| answers.next()).flatten();
        let logged = logged.map(redis::from_redis_value::<i64>).transpose();
        Ok(Telling {
            logged: logged.map_err(unreadable)?.map(logged_as),
            job: job.map_err(unreadable)?.map_or(Ok(None), read_job),
            copy: read_copy(copy),
        })
    }

    /// Puts an event into its job's log; again is harmless. `interval` is the pace of `job.progress`.
    pub async fn log_event(
        &self,
        event: &JobEvent,
        interval: Duration,
    ) -> Result<Logged, JobStoreError> {
        let mut pipe = redis::pipe();
        self.add_log(&mut pipe, event, interval)?;
        let (answer,) = self.pipe_with("log an event", &pipe, &[&LOG]).await?;
        Ok(logged_as(answer))
    }

    fn add_log(
        &self,
        pipe: &mut redis::Pipeline,
        event: &JobEvent,
        interval: Duration,
    ) -> Result<(), JobStoreError> {
        let json = serde_json::to_string(event).map_err(JobStoreError::value("an event"))?;
        let keys = [Key::Events(&event.job), Key::Pace(&event.job)];
        let paced = event.event == EventType::JobProgress;
        let interval = if paced { millis(interval) } else { 0 };
        let ttl = self.ttl_ms(&keys[0]);
        self.add_script(pipe, &LOG, &keys)
            .arg(event.sequence)
            .arg(json)
            .arg(interval)
            .arg(EVENTS_MAX)
            .arg(ttl);
        Ok(())
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

/// What the script's answer says.
fn logged_as(answer: i64) -> Logged {
    match u64::try_from(answer) {
        Ok(0) => Logged::Stands,
        Ok(wait) => Logged::Later(Duration::from_millis(wait)),
        Err(_) if answer == -2 => Logged::New,
        Err(_) => Logged::Stale,
    }
}
