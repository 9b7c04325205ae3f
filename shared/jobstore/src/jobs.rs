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

/// How a run stands that is to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum RunBegun {
    /// Its record was made by this call, or replaced one of an older run.
    Now,
    /// Its record was there; nothing was heard of any of its items yet, and nobody has begun to end it.
    Before,
    /// Its record was there, or came meanwhile, and may say more than that of a run that begins.
    UnderWay,
    /// By the record it has ended, or a newer run is there.
    Over,
}

/// What came of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    Written,
    /// What is there counts.
    There {
        run: u32,
        ended: bool,
    },
}

impl Stands {
    fn created(self) -> Created {
        match self {
            Self::Written => Created::Created,
            Self::There { .. } => Created::Exists,
        }
    }
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

/// The head with the items' ids, what each attempt cost, and the items.
pub(crate) type JobFields = (
    (Option<u32>, Option<String>, Option<String>, Option<String>),
    Vec<String>,
    HashMap<ItemIndex, String>,
);

/// Run, whether it has ended, whether nobody has begun to end it; whether something was heard of its items.
type BeginFields = ((Option<u32>, Option<u8>, Option<u8>), bool);

impl JobStore {
    /// Makes the record of a job. One of an older run is replaced: a message ahead of the record
    /// moves the record forward.
    pub async fn create(&self, snapshot: &JobSnapshot) -> Result<Created, JobStoreError> {
        let stands = self.make_record("create", snapshot).await?;
        Ok(stands.created())
    }

    /// Sets the deadline of a run that is to begin and makes its record, if nobody has; says how the
    /// run stands.
    pub async fn begin(&self, snapshot: &JobSnapshot) -> Result<RunBegun, JobStoreError> {
        let (job, tenant, run) = (&snapshot.job, &snapshot.tenant, snapshot.run);
        let mut pipe = redis::pipe();
        self.add_deadline(&mut pipe, snapshot);
        pipe.cmd("HMGET")
            .arg(self.key(Key::Head(job)))
            .arg(&["run", "final", "open"]);
        pipe.exists(self.key(Key::Items(job)));
        let fields: BeginFields = self.pipe("begin a run", &pipe).await?;
        let ((there, ended, open), heard) = fields;
        let ended = ended == Some(1);
        let begun = match there {
            Some(there) if there > run || (there == run && ended) => RunBegun::Over,
            Some(there) if there == run && open == Some(1) && !heard => RunBegun::Before,
            Some(there) if there == run => RunBegun::UnderWay,
            Some(_) | None => match self.make_record("create", snapshot).await? {
                Stands::Written => RunBegun::Now,
                Stands::There { run: there, ended } if ended || there > run => RunBegun::Over,
                Stands::There { .. } => RunBegun::UnderWay,
            },
        };
        if begun == RunBegun::Over {
            self.deadline_clear(job, tenant, run).await?;
        }
        Ok(begun)
    }

    async fn make_record(
        &self,
        rule: &str,
        snapshot: &JobSnapshot,
    ) -> Result<Stands, JobStoreError> {
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
        self.add_write(&mut pipe, rule, snapshot)?;
        let written: (Vec<u32>,) = self
            .pipe_with("make a job's record", &pipe, &[&WRITE])
            .await?;
        let stands = read_stands(&written.0)?;
        match stands {
            Stands::Written if open && snapshot.run > 1 => {
                self.uncount(&snapshot.job, snapshot.run - 1).await?;
            }
            Stands::There { run, ended } if open => {
                self.uncount_if_over(snapshot, run, ended).await?;
            }
            Stands::Written | Stands::There { .. } => {}
        }
        Ok(stands)
    }

    /// A run whose record says that it has ended, or is of a newer run, is not in flight.
    async fn uncount_if_over(
        &self,
        snapshot: &JobSnapshot,
        run: u32,
        ended: bool,
    ) -> Result<(), JobStoreError> {
        if run > snapshot.run || ended {
            self.uncount(&snapshot.job, snapshot.run).await?;
        }
        if ended {
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
        let stands = self.make_record("restore", snapshot).await?;
        Ok(stands.created())
    }

    /// Records the end of a run, whole: over what was known of it, not over a newer run.
    pub async fn finish(&self, end: &JobSnapshot) -> Result<Finished, JobStoreError> {
        self.record_end(end, false).await
    }

    /// The same of a run that is closed: nothing is owed any more, so its deadline goes as well.
    pub async fn finish_closed(&self, end: &JobSnapshot) -> Result<Finished, JobStoreError> {
        self.record_end(end, true).await
    }

    async fn record_end(&self, end: &JobSnapshot, closed: bool) -> Result<Finished, JobStoreError> {
        // The record first: a count that comes between is taken back after it.
        let mut pipe = redis::pipe();
        self.add_write(&mut pipe, "finish", end)?;
        pipe.srem(self.key(Key::InFlight), run_name(&end.job, end.run))
            .ignore();
        let jobs = self.key(Key::JobsOf(&end.tenant));
        pipe.zadd(jobs, end.job.as_str(), end.created_at.as_millisecond())
            .ignore();
        if closed {
            self.add_clear_deadline(&mut pipe, &end.job, &end.tenant, end.run);
        }
        let written: (Vec<u32>,) = self.pipe_with("finish a job", &pipe, &[&WRITE]).await?;
        if let Stands::There { .. } = read_stands(&written.0)? {
            return Ok(Finished::Newer);
        }
        self.release(&end.tenant, &end.job).await?;
        Ok(Finished::Recorded)
    }

    fn add_write(
        &self,
        pipe: &mut redis::Pipeline,
        rule: &str,
        snapshot: &JobSnapshot,
    ) -> Result<(), JobStoreError> {
        let names: Vec<&str> = snapshot.items.iter().map(|row| row.item.as_str()).collect();
        let names = serde_json::to_string(&names).map_err(JobStoreError::value("item ids"))?;
        let doc = JobSnapshot {
            items: Vec::new(),
            ..snapshot.clone()
        };
        let doc = serde_json::to_string(&doc).map_err(JobStoreError::value("a job"))?;
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
        let call = self.add_script(pipe, &WRITE, &keys);
        call.arg(rule)
            .arg(snapshot.run)
            .arg(u8::from(snapshot.status.is_final()));
        call.arg(snapshot.items.len())
            .arg(doc)
            .arg(names)
            .arg(started)
            .arg(ttl);
        for row in &snapshot.items {
            if let Some((kind, value)) = item_value(&row.state)? {
                call.arg(row.index).arg(kind).arg(value);
            }
        }
        Ok(())
    }

    /// A job with all its items; nothing when Redis does not know it.
    pub async fn job(&self, job: &JobId) -> Result<Option<JobSnapshot>, JobStoreError> {
        let mut pipe = redis::pipe();
        self.ask_job(&mut pipe, job);
        let (fields,): (JobFields,) = self.pipe("read a job", &pipe).await?;
        read_job(fields)
    }

    /// Asks for a job with all its items, as it is at one moment.
    pub(crate) fn ask_job(&self, pipe: &mut redis::Pipeline, job: &JobId) {
        let fields = &["total", "doc", "started_at", "names"];
        // Not `atomic`, since the rest of the pipeline may be over other hash tags.
        pipe.cmd("MULTI").ignore();
        pipe.cmd("HMGET")
            .arg(self.key(Key::Head(job)))
            .arg(fields)
            .ignore();
        pipe.hvals(self.key(Key::Usage(job))).ignore();
        pipe.hgetall(self.key(Key::Items(job))).ignore();
        pipe.cmd("EXEC");
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

fn read_stands(answer: &[u32]) -> Result<Stands, JobStoreError> {
    match *answer {
        [1] => Ok(Stands::Written),
        [0, run, ended] => Ok(Stands::There {
            run,
            ended: ended == 1,
        }),
        _ => Err(JobStoreError::answer("write a job", &format!("{answer:?}"))),
    }
}

/// A job from its fields; nothing for one that is not there.
pub(crate) fn read_job(fields: JobFields) -> Result<Option<JobSnapshot>, JobStoreError> {
    let ((total, doc, started_at, names), usage, values) = fields;
    let Some(header) = read_header(((total, doc, started_at), 0, 0, usage))? else {
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
