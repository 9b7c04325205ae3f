//! What happens to a job's items, and what its attempts cost.

use crate::jobs::{READY, RENDERING, item_value, read_item};
use crate::keys::Key;
use crate::{JobStore, JobStoreError};
use jiff::Timestamp;
use photofinish_model::{Counts, ItemIndex, ItemState, JobId, StoredOutput, Usage};
use redis::Script;
use std::sync::LazyLock;

static SETTLE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/settle.lua")));
static END: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/end.lua")));
static MARK: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/mark.lua")));
static STARTED: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/started.lua")));
static USAGE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/usage.lua")));

/// What became of an item that was to be settled.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub enum Settle {
    /// This call settled it.
    First(Counts),
    /// It was settled before, in this way; also when this very call is repeated.
    Already(Counts, ItemState),
    /// Redis does not know the job, or only an older run of it: restore it and come again.
    Missing,
    /// The run has ended, or a newer one is there.
    RunOver,
}

/// Whether an output that was settled counts for its run's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum GoesOn {
    /// It was settled before anybody began to end the run: the end lists what is settled, or its
    /// sweep, which comes later, deletes what it does not list.
    Surely,
    /// The run is being ended, has ended, or its record was made again and nobody knows: its end
    /// in the bucket says what counts.
    Unknown,
}

/// Whether this was the run's first worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Started {
    /// It was.
    First,
    /// Another was before.
    Already,
    /// Redis does not know the job, or only an older run of it: restore it and come again.
    Missing,
    /// The run has ended, or a newer one is there.
    RunOver,
}

/// Which items still count.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Wanted {
    /// Of those asked for, these are not settled.
    Items(Vec<ItemIndex>),
    /// None: the run has ended, or a newer one is there.
    RunOver,
    /// Redis does not know the job, which never means that nothing is wanted.
    Missing,
}

/// Run and whether it has ended; the items' values.
type WantedFields = ((Option<u32>, Option<u8>), Option<Vec<Option<String>>>);
/// Verdict, total, stored, failed, the value that counts, whether the run surely goes on.
type SettleFields = (
    String,
    Option<u32>,
    Option<u32>,
    Option<u32>,
    Option<String>,
    Option<u8>,
);

impl JobStore {
    /// Marks an item as rendering or ready, never backwards; true when that changed anything.
    /// Settled states are refused by doing nothing: see [`JobStore::settle_item`].
    pub async fn mark_item(
        &self,
        job: &JobId,
        run: u32,
        index: ItemIndex,
        state: &ItemState,
    ) -> Result<bool, JobStoreError> {
        let mark = match state {
            ItemState::Rendering => RENDERING,
            ItemState::Ready => READY,
            ItemState::Pending | ItemState::Stored(_) | ItemState::Failed(_) => return Ok(false),
        };
        let keys = [Key::Head(job), Key::Items(job)];
        let ttl = self.ttl_ms(&keys[1]);
        self.script("mark an item", &MARK, &keys, |call| {
            call.arg(run).arg(index).arg(mark).arg(ttl);
        })
        .await
    }

    /// Settles an item as stored or failed: the first one in a run wins. Items are counted as a
    /// set, so a repeated call counts nothing twice. A state that settles nothing is a fault.
    pub async fn settle_item(
        &self,
        job: &JobId,
        run: u32,
        index: ItemIndex,
        state: &ItemState,
    ) -> Result<Settle, JobStoreError> {
        let (settled, _) = self.settle(job, run, index, state).await?;
        Ok(settled)
    }

    /// Settles an item as stored, as [`JobStore::settle_item`] does; says besides whether the run
    /// surely goes on.
    pub async fn settle_output(
        &self,
        job: &JobId,
        run: u32,
        index: ItemIndex,
        output: &StoredOutput,
    ) -> Result<(Settle, GoesOn), JobStoreError> {
        let state = ItemState::Stored(output.clone());
        self.settle(job, run, index, &state).await
    }

    /// Notes that a run is about to be ended while items of it are open: from now on
    /// [`GoesOn::Surely`] is not said of it.
    pub async fn begin_end(&self, job: &JobId, run: u32) -> Result<(), JobStoreError> {
        self.script("begin an end", &END, &[Key::Head(job)], |call| {
            call.arg(run);
        })
        .await
    }

    async fn settle(
        &self,
        job: &JobId,
        run: u32,
        index: ItemIndex,
        state: &ItemState,
    ) -> Result<(Settle, GoesOn), JobStoreError> {
        let Some((kind, value)) = item_value(state)?.filter(|_| state.is_settled()) else {
            return Err(JobStoreError::answer(
                "settle an item",
                "the state settles nothing",
            ));
        };
        let keys = [
            Key::Head(job),
            Key::Items(job),
            Key::Stored(job),
            Key::Failed(job),
        ];
        let ttl = self.ttl_ms(&keys[0]);
        let answer: Vec<redis::Value> = self
            .script("settle an item", &SETTLE, &keys, |call| {
                call.arg(run).arg(index).arg(kind).arg(value).arg(ttl);
            })
            .await?;
        let (verdict, counts, winner, goes_on) = settle_fields(answer)?;
        let settled = match verdict.as_str() {
            "first" => Settle::First(counts),
            "already" => Settle::Already(counts, read_item(winner.as_deref())?),
            "missing" => Settle::Missing,
            "over" => Settle::RunOver,
            "outside" => return Err(JobStoreError::NoSuchItem { index }),
            other => return Err(JobStoreError::answer("settle an item", other)),
        };
        Ok((settled, goes_on))
    }

    /// Notes that a worker of the run has begun.
    pub async fn mark_started(
        &self,
        job: &JobId,
        run: u32,
        at: Timestamp,
    ) -> Result<Started, JobStoreError> {
        let answer: String = self
            .script("mark a job started", &STARTED, &[Key::Head(job)], |call| {
                call.arg(run).arg(at.to_string());
            })
            .await?;
        match answer.as_str() {
            "first" => Ok(Started::First),
            "already" => Ok(Started::Already),
            "missing" => Ok(Started::Missing),
            "over" => Ok(Started::RunOver),
            other => Err(JobStoreError::answer("mark a job started", other)),
        }
    }

    /// Adds what an attempt cost, once for each `attempt`; true when this call added it. Nothing
    /// is added to a run that has ended or is not there.
    pub async fn add_usage(
        &self,
        job: &JobId,
        run: u32,
        attempt: &str,
        cost: Usage,
    ) -> Result<bool, JobStoreError> {
        let cost = serde_json::to_string(&cost).map_err(JobStoreError::value("a usage"))?;
        let keys = [Key::Head(job), Key::Usage(job)];
        let ttl = self.ttl_ms(&keys[1]);
        self.script("add a usage", &USAGE, &keys, |call| {
            call.arg(run).arg(attempt).arg(cost).arg(ttl);
        })
        .await
    }

    /// Which of these items still count in a run.
    pub async fn pending_items(
        &self,
        job: &JobId,
        run: u32,
        items: &[ItemIndex],
    ) -> Result<Wanted, JobStoreError> {
        let mut pipe = redis::pipe();
        pipe.atomic();
        pipe.cmd("HMGET")
            .arg(self.key(Key::Head(job)))
            .arg(&["run", "final"]);
        if !items.is_empty() {
            pipe.cmd("HMGET").arg(self.key(Key::Items(job))).arg(items);
        }
        let ((there, ended), values): WantedFields = match items {
            [] => {
                let (head,) = self.pipe("ask for items", &pipe).await?;
                (head, None)
            }
            _ => self.pipe("ask for items", &pipe).await?,
        };
        match there {
            None => return Ok(Wanted::Missing),
            Some(there) if there < run => return Ok(Wanted::Missing),
            Some(there) if there > run || ended == Some(1) => return Ok(Wanted::RunOver),
            Some(_) => {}
        }
        let settled = |value: &Option<String>| {
            value
                .as_deref()
                .is_some_and(|value| value != RENDERING && value != READY)
        };
        let open = items.iter().zip(values.unwrap_or_default());
        Ok(Wanted::Items(
            open.filter(|(_, value)| !settled(value))
                .map(|(index, _)| *index)
                .collect(),
        ))
    }
}

fn settle_fields(
    answer: Vec<redis::Value>,
) -> Result<(String, Counts, Option<String>, GoesOn), JobStoreError> {
    let wrong = |source| JobStoreError::Command {
        doing: "settle an item",
        source,
    };
    let mut padded = answer;
    padded.resize(6, redis::Value::Nil);
    let (verdict, total, stored, failed, winner, goes_on): SettleFields =
        redis::from_redis_value(redis::Value::Array(padded))
            .map_err(|error| wrong(error.into()))?;
    let counts = Counts {
        total: total.unwrap_or_default(),
        stored: stored.unwrap_or_default(),
        failed: failed.unwrap_or_default(),
    };
    let goes_on = match goes_on {
        Some(1) => GoesOn::Surely,
        Some(_) | None => GoesOn::Unknown,
    };
    Ok((verdict, counts, winner, goes_on))
}
