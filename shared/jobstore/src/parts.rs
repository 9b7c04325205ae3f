//! The states of a job's parts: text made and read by the caller, swapped only against what was
//! read.

use crate::jobs::{JobFields, read_job};
use crate::keys::Key;
use crate::{JobStore, JobStoreError};
use photofinish_model::{JobId, JobSnapshot};
use redis::Script;
use std::sync::LazyLock;

/// Replaces a field of a hash against what was read.
pub(crate) static CAS: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("lua/cas.lua")));

/// Whether a part's state was replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Swap {
    /// It was.
    Swapped,
    /// Another one is there (nothing: none), so decide again.
    Lost(Option<String>),
}

impl JobStore {
    /// The state of a part; nothing when Redis does not know it.
    pub async fn part(
        &self,
        job: &JobId,
        run: u32,
        part: u16,
    ) -> Result<Option<String>, JobStoreError> {
        let mut pipe = redis::pipe();
        pipe.hget(self.key(Key::Parts(job)), field(run, part));
        let (state,) = self.pipe("read a part", &pipe).await?;
        Ok(state)
    }

    /// A job with all its items and the state of one of its parts, as [`JobStore::job`] and
    /// [`JobStore::part`] give them.
    pub async fn job_and_part(
        &self,
        job: &JobId,
        run: u32,
        part: u16,
    ) -> Result<(Option<JobSnapshot>, Option<String>), JobStoreError> {
        let mut pipe = redis::pipe();
        self.ask_job(&mut pipe, job);
        pipe.hget(self.key(Key::Parts(job)), field(run, part));
        let (fields, state): (JobFields, Option<String>) =
            self.pipe("read a job and a part", &pipe).await?;
        Ok((read_job(fields)?, state))
    }

    /// The states of a run's first `count` parts, in order; nothing for one that Redis does not know.
    pub async fn parts(
        &self,
        job: &JobId,
        run: u32,
        count: u16,
    ) -> Result<Vec<Option<String>>, JobStoreError> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let fields: Vec<String> = (0..count).map(|part| field(run, part)).collect();
        let mut pipe = redis::pipe();
        pipe.cmd("HMGET").arg(self.key(Key::Parts(job))).arg(fields);
        let (states,) = self.pipe("read the parts", &pipe).await?;
        Ok(states)
    }

    /// Replaces the state of a part if it is still `expected` (nothing: there is none).
    pub async fn part_cas(
        &self,
        job: &JobId,
        run: u32,
        part: u16,
        expected: Option<&str>,
        new: &str,
    ) -> Result<Swap, JobStoreError> {
        let key = Key::Parts(job);
        let ttl = self.ttl_ms(&key);
        let answer: Vec<redis::Value> = self
            .script("swap a part", &CAS, &[key], |call| {
                call.arg(field(run, part))
                    .arg(expected.unwrap_or_default())
                    .arg(new)
                    .arg(ttl);
            })
            .await?;
        if answer.first() == Some(&redis::Value::Int(1)) {
            return Ok(Swap::Swapped);
        }
        let current = answer.into_iter().nth(1).unwrap_or(redis::Value::Nil);
        let current = redis::from_redis_value(current).map_err(|error| JobStoreError::Command {
            doing: "swap a part",
            source: error.into(),
        })?;
        Ok(Swap::Lost(current))
    }
}

fn field(run: u32, part: u16) -> String {
    format!("{run}.{part}")
}
