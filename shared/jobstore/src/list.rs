//! A tenant's jobs, newest first, in pages.

use crate::jobs::{Header, HeaderFields, read_header};
use crate::keys::Key;
use crate::{JobStore, JobStoreError};
use jiff::Timestamp;
use photofinish_model::{JobId, JobStatus, Operation, Tenant};

/// Rows of a page at most.
pub(crate) const PAGE_MAX: usize = 200;
/// Rows that are looked at for one page; a page may be shorter and still have a next one.
pub(crate) const SCAN_MAX: usize = 2_000;
/// Rows that are read at once.
const CHUNK: usize = 100;

/// Which jobs are wanted.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ListFilter {
    /// Only jobs of this status.
    pub status: Option<JobStatus>,
    /// Only jobs of this operation.
    pub operation: Option<Operation>,
    /// Only jobs created at or after this.
    pub created_after: Option<Timestamp>,
    /// Only jobs created before this.
    pub created_before: Option<Timestamp>,
    /// Only jobs whose metadata has these texts (numbers and booleans as they are written).
    pub metadata: Vec<(String, String)>,
}

/// One page.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// Where the next page begins; nothing after the last one.
    pub next_cursor: Option<String>,
}

impl JobStore {
    /// A page of a tenant's jobs, newest first.
    pub async fn list(
        &self,
        tenant: &Tenant,
        filter: &ListFilter,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<Page<Header>, JobStoreError> {
        let limit = limit.clamp(1, PAGE_MAX);
        let key = self.key(Key::JobsOf(tenant));
        let floor = filter.created_after.map(Timestamp::as_millisecond);
        let mut scan = Scan::new(key, floor, filter.created_before, cursor)?;
        let mut page = Page {
            rows: Vec::new(),
            next_cursor: None,
        };
        while let Some(members) = scan.next(self).await? {
            let headers = self.headers(&members).await?;
            for (at, header) in headers.into_iter().enumerate() {
                if header.as_ref().is_some_and(|header| filter.wants(header)) {
                    page.rows.extend(header);
                }
                if page.rows.len() == limit {
                    page.next_cursor = Some(members[at].cursor());
                    return Ok(page);
                }
            }
            if scan.seen >= SCAN_MAX {
                page.next_cursor = members.last().map(Member::cursor);
                return Ok(page);
            }
        }
        Ok(page)
    }

    /// Puts a member into a list by its time, once. Those that are older than twice the list's
    /// lifetime leave it, so that the list of a busy tenant does not grow for ever.
    pub(crate) fn enlist(
        &self,
        pipe: &mut redis::Pipeline,
        list: Key<'_>,
        name: &str,
        at: Timestamp,
    ) {
        let (key, ttl, at) = (self.key(list), self.ttl_ms(&list), at.as_millisecond());
        let oldest = at.saturating_sub_unsigned(ttl.saturating_mul(2));
        pipe.cmd("ZADD")
            .arg(&key)
            .arg("NX")
            .arg(at)
            .arg(name)
            .ignore();
        pipe.cmd("ZREMRANGEBYSCORE")
            .arg(&key)
            .arg("-inf")
            .arg(oldest)
            .ignore();
        pipe.cmd("PEXPIRE").arg(&key).arg(ttl).ignore();
    }

    async fn headers(&self, members: &[Member]) -> Result<Vec<Option<Header>>, JobStoreError> {
        let mut headers = Vec::with_capacity(members.len());
        let mut pipe = redis::pipe();
        let ids: Vec<Option<JobId>> = members
            .iter()
            .map(|member| member.name.parse().ok())
            .collect();
        for job in ids.iter().flatten() {
            self.ask_header(&mut pipe, job);
        }
        let answers: Vec<redis::Value> = self.pipe("list jobs", &pipe).await?;
        let mut answers = answers.into_iter();
        for id in ids {
            let Some(_job) = id else {
                headers.push(None);
                continue;
            };
            // Four answers for each job: see `ask_header`.
            let fields = redis::Value::Array(answers.by_ref().take(4).collect());
            let fields: HeaderFields =
                redis::from_redis_value(fields).map_err(|error| JobStoreError::Command {
                    doing: "list jobs",
                    source: error.into(),
                })?;
            headers.push(read_header(fields)?);
        }
        Ok(headers)
    }
}

impl ListFilter {
    fn wants(&self, header: &Header) -> bool {
        let job = &header.job;
        self.status.is_none_or(|status| status == job.status)
            && self
                .operation
                .is_none_or(|operation| operation == job.operation)
            && self.metadata.iter().all(|(key, wanted)| {
                let value = job.metadata.as_ref().and_then(|metadata| metadata.get(key));
                value.is_some_and(|value| {
                    let text = value
                        .as_str()
                        .map_or_else(|| value.to_string(), str::to_owned);
                    text == *wanted
                })
            })
    }
}

/// A member of a sorted set by time.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Member {
    pub(crate) name: String,
    score: i64,
}

impl Member {
    pub(crate) fn cursor(&self) -> String {
        format!("{}.{}", self.score, self.name)
    }
}

/// A walk through a sorted set by time, newest first, from a cursor on.
#[derive(Debug)]
pub(crate) struct Scan {
    key: String,
    floor: i64,
    ceiling: i64,
    /// The last member of the page before.
    after: Option<(i64, String)>,
    offset: usize,
    pub(crate) seen: usize,
}

impl Scan {
    pub(crate) fn new(
        key: String,
        floor: Option<i64>,
        before: Option<Timestamp>,
        cursor: Option<&str>,
    ) -> Result<Self, JobStoreError> {
        let after = cursor
            .map(|cursor| {
                let (score, name) = cursor.split_once('.').ok_or(JobStoreError::Cursor)?;
                let score: i64 = score.parse().map_err(|_| JobStoreError::Cursor)?;
                Ok((score, name.to_owned()))
            })
            .transpose()?;
        let before = before.map_or(i64::MAX >> 11, |at| at.as_millisecond() - 1);
        let ceiling = after
            .as_ref()
            .map_or(before, |(score, _)| before.min(*score));
        Ok(Self {
            key,
            floor: floor.unwrap_or(0),
            ceiling,
            after,
            offset: 0,
            seen: 0,
        })
    }

    /// The next members; nothing at the end.
    pub(crate) async fn next(
        &mut self,
        store: &JobStore,
    ) -> Result<Option<Vec<Member>>, JobStoreError> {
        loop {
            let mut pipe = redis::pipe();
            pipe.cmd("ZREVRANGEBYSCORE")
                .arg(&self.key)
                .arg(self.ceiling)
                .arg(self.floor)
                .arg("WITHSCORES")
                .arg("LIMIT")
                .arg(self.offset)
                .arg(CHUNK);
            let (rows,): (Vec<(String, f64)>,) = store.pipe("walk a list", &pipe).await?;
            if rows.is_empty() {
                return Ok(None);
            }
            self.offset += rows.len();
            self.seen += rows.len();
            let members: Vec<Member> = rows
                .into_iter()
                .map(|(name, score)| Member {
                    name,
                    score: score as i64,
                })
                .filter(|member| self.is_new(member))
                .collect();
            if !members.is_empty() {
                return Ok(Some(members));
            }
        }
    }

    /// Members of one score come in falling order of their names.
    fn is_new(&self, member: &Member) -> bool {
        self.after
            .as_ref()
            .is_none_or(|(score, name)| member.score < *score || member.name < *name)
    }
}
