//! Job records: made, restored, read, finished.

use crate::keys::Key;
use crate::{JobStore, JobStoreError};
use jiff::Timestamp;
use photofinish_model::{
    Counts, ItemIndex, ItemRow, ItemState, JobId, JobSnapshot, JobStatus, Usage,
};
use redis::Script;
use std::collections::HashMap;
use std::sync::LazyLock;

static WRITE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/write.lua")));

pub(crate) const RENDERING: &str = "r";
pub(crate) const READY: &str = "y";

/// Whether a record was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Created {
    /// It was, or it replaced one of an older run.
    Created,
    /// One of this run or a newer one is there.
    Exists,
}

/// Whether an end was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Finished {
    /// It was.
    Recorded,
    /// A newer run is there.
    Newer,
}

/// A job without its items.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// The job; `items` is empty.
    pub job: JobSnapshot,
    /// Its items by where they stand.
    pub counts: Counts,
}

/// The fields of a record's head, as a pipeline answers them.
pub(crate) type HeadFields = (Option<u32>, Option<String>, Option<String>);
/// The head, stored, failed, and what each attempt cost.
pub(crate) type HeaderFields = (HeadFields, u32, u32, Vec<String>);

/// The header, the items' ids, and their values.
type JobFields = (
    HeadFields,
    u32,
    u32,
    Vec<String>,
    Option<String>,
    HashMap<ItemIndex, String>,
);

impl JobStore {
    /// Makes the record of a job. One of an older run is replaced: a message ahead of the record
    /// moves the record forward.
    pub async fn create(&self, snapshot: &JobSnapshot) -> Result<Created, JobStoreError> {
        self.make_record("create", snapshot).await
    }

    async fn make_record(
        &self,
        rule: &str,
        snapshot: &JobSnapshot,
    ) -> Result<Created, JobStoreError> {
        // Listed first: a job that is listed without a record is passed over, the other way round
        // it would never be found. Counted first: an end that comes between would else be followed
        // by a count that nothing takes back.
        let mut pipe = redis::pipe();
        let jobs = Key::JobsOf(&snapshot.tenant);
        self.enlist(&mut pipe, jobs, snapshot.job.as_str(), snapshot.created_at);
        let open = !snapshot.status.is_final();
        if open {
            let name = run_name(&snapshot.job, snapshot.run);
            pipe.sadd(self.key(Key::InFlight), name).ignore();
            self.count_open(&mut pipe, snapshot);
        }
        let () = self.pipe("list a job", &pipe).await?;
        if !self.write(rule, snapshot).await? {
            if open {
                self.uncount_if_over(snapshot).await?;
            }
            return Ok(Created::Exists);
        }
        if open && snapshot.run > 1 {
            self.uncount(&snapshot.job, snapshot.run - 1).await?;
        }
        Ok(Created::Created)
    }

    /// A run whose record says that it has ended, or is of a newer run, is not in flight.
    async fn uncount_if_over(&self, snapshot: &JobSnapshot) -> Result<(), JobStoreError> {
        let mut pipe = redis::pipe();
        pipe.cmd("HMGET")
            .arg(self.key(Key::Head(&snapshot.job)))
            .arg(&["run", "final"]);
        let ((run, ended),): ((Option<u32>, Option<u8>),) =
            self.pipe("ask whether a run is over", &pipe).await?;
        let over = run.is_some_and(|run| run > snapshot.run || ended == Some(1));
        if over {
            self.uncount(&snapshot.job, snapshot.run).await?;
        }
        if ended == Some(1) {
            self.release(&snapshot.tenant, &snapshot.job).await?;
        }
        Ok(())
    }

    async fn uncount(&self, job: &JobId, run: u32) -> Result<(), JobStoreError> {
        let mut pipe = redis::pipe();
        pipe.srem(self.key(Key::InFlight), run_name(job, run))
            .ignore();
        self.pipe("count a job", &pipe).await
    }

    /// Makes the record of a job again, as the bucket knows it, unless one is there.
    pub async fn restore(&self, snapshot: &JobSnapshot) -> Result<Created, JobStoreError> {
        self.make_record("restore", snapshot).await
    }

    /// Records the end of a run, whole: over what was known of it, not over a newer run.
    pub async fn finish(&self, end: &JobSnapshot) -> Result<Finished, JobStoreError> {
        let written = self.write("finish", end).await?;
        let mut pipe = redis::pipe();
        pipe.srem(self.key(Key::InFlight), run_name(&end.job, end.run))
            .ignore();
        let jobs = self.key(Key::JobsOf(&end.tenant));
        pipe.zadd(jobs, end.job.as_str(), end.created_at.as_millisecond())
            .ignore();
        if written {
            let open = self.key(Key::OpenJobs(&end.tenant));
            pipe.zrem(open, end.job.as_str()).ignore();
        }
        let () = self.pipe("finish a job", &pipe).await?;
        Ok(if written {
            Finished::Recorded
        } else {
            Finished::Newer
        })
    }

    async fn write(&self, rule: &str, snapshot: &JobSnapshot) -> Result<bool, JobStoreError> {
        let names: Vec<&str> = snapshot.items.iter().map(|row| row.item.as_str()).collect();
        let names = serde_json::to_string(&names).map_err(JobStoreError::value("item ids"))?;
        let doc = JobSnapshot {
            items: Vec::new(),
            ..snapshot.clone()
        };
        let doc = serde_json::to_string(&doc).map_err(JobStoreError::value("a job"))?;
        let mut items = Vec::new();
        for row in &snapshot.items {
            if let Some((kind, value)) = item_value(&row.state)? {
                items.push((row.index, kind, value));
            }
        }
        let job = &snapshot.job;
        let keys = [
            Key::Head(job),
            Key::Items(job),
            Key::Stored(job),
            Key::Failed(job),
            Key::Usage(job),
        ];
        let started = snapshot
            .started_at
            .map(|at| at.to_string())
            .unwrap_or_default();
        let ttl = self.ttl_ms(&keys[0]);
        self.script("write a job", &WRITE, &keys, |call| {
            call.arg(rule)
                .arg(snapshot.run)
                .arg(u8::from(snapshot.status.is_final()));
            call.arg(snapshot.items.len())
                .arg(doc)
                .arg(names)
                .arg(started)
                .arg(ttl);
            for (index, kind, value) in items {
                call.arg(index).arg(kind).arg(value);
            }
        })
        .await
    }

    /// A job with all its items; nothing when Redis does not know it.
    pub async fn job(&self, job: &JobId) -> Result<Option<JobSnapshot>, JobStoreError> {
        let mut pipe = redis::pipe();
        pipe.atomic();
        self.ask_header(&mut pipe, job);
        pipe.hget(self.key(Key::Head(job)), "names");
        pipe.hgetall(self.key(Key::Items(job)));
        let (head, stored, failed, usage, names, values): JobFields =
            self.pipe("read a job", &pipe).await?;
        let Some(header) = read_header((head, stored, failed, usage))? else {
            return Ok(None);
        };
        let names: Vec<String> = serde_json::from_str(names.as_deref().unwrap_or("[]"))
            .map_err(JobStoreError::value("item ids"))?;
        let mut snapshot = header.job;
        for (index, item) in names.into_iter().enumerate() {
            let index = index as ItemIndex;
            let state = read_item(values.get(&index).map(String::as_str))?;
            snapshot.items.push(ItemRow { index, item, state });
        }
        Ok(Some(snapshot))
    }

    /// A job without its items; nothing when Redis does not know it.
    pub async fn header(&self, job: &JobId) -> Result<Option<Header>, JobStoreError> {
        let mut pipe = redis::pipe();
        pipe.atomic();
        self.ask_header(&mut pipe, job);
        read_header(self.pipe("read a job's head", &pipe).await?)
    }

    /// Runs that have not ended, as far as Redis knows them.
    pub async fn jobs_in_flight(&self) -> Result<u64, JobStoreError> {
        let mut pipe = redis::pipe();
        pipe.scard(self.key(Key::InFlight));
        let (count,) = self.pipe("count jobs", &pipe).await?;
        Ok(count)
    }

    pub(crate) fn ask_header(&self, pipe: &mut redis::Pipeline, job: &JobId) {
        let fields = &["total", "doc", "started_at"];
        pipe.cmd("HMGET").arg(self.key(Key::Head(job))).arg(fields);
        pipe.scard(self.key(Key::Stored(job)));
        pipe.scard(self.key(Key::Failed(job)));
        pipe.hvals(self.key(Key::Usage(job)));
    }
}

fn run_name(job: &JobId, run: u32) -> String {
    format!("{job}/{run}")
}

/// The header from its fields; nothing for a job that is not there.
pub(crate) fn read_header(fields: HeaderFields) -> Result<Option<Header>, JobStoreError> {
    let ((total, doc, started_at), stored, failed, usage) = fields;
    let (Some(total), Some(doc)) = (total, doc) else {
        return Ok(None);
    };
    let mut job: JobSnapshot = serde_json::from_str(&doc).map_err(JobStoreError::value("a job"))?;
    if let Some(at) = started_at.and_then(|at| at.parse::<Timestamp>().ok()) {
        job.started_at = Some(at);
        if job.status == JobStatus::Accepted {
            job.status = JobStatus::Running;
        }
    }
    for cost in usage {
        let cost: Usage = serde_json::from_str(&cost).map_err(JobStoreError::value("a usage"))?;
        job.usage.gpu_seconds += cost.gpu_seconds;
        job.usage.linger_s += cost.linger_s;
        job.usage.attempts += cost.attempts;
        job.usage.rescued += cost.rescued;
        job.usage.cost_usd += cost.cost_usd;
        job.usage.priced_s += cost.priced_s;
    }
    Ok(Some(Header {
        job,
        counts: Counts {
            total,
            stored,
            failed,
        },
    }))
}

/// An item's kind (rendering, ready, stored, failed) and value; nothing while it is pending.
pub(crate) fn item_value(
    state: &ItemState,
) -> Result<Option<(&'static str, String)>, JobStoreError> {
    let json = || serde_json::to_string(state).map_err(JobStoreError::value("an item"));
    Ok(match state {
        ItemState::Pending => None,
        ItemState::Rendering => Some((RENDERING, RENDERING.to_owned())),
        ItemState::Ready => Some((READY, READY.to_owned())),
        ItemState::Stored(_) => Some(("s", json()?)),
        ItemState::Failed(_) => Some(("f", json()?)),
    })
}

pub(crate) fn read_item(value: Option<&str>) -> Result<ItemState, JobStoreError> {
    match value {
        None => Ok(ItemState::Pending),
        Some(RENDERING) => Ok(ItemState::Rendering),
        Some(READY) => Ok(ItemState::Ready),
        Some(json) => serde_json::from_str(json).map_err(JobStoreError::value("an item")),
    }
}
