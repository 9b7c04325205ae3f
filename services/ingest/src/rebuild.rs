//! Redis made again from the bucket, on an operator's word: every tenant's jobs, open or ended.
//!
//! What is in flight needs nobody's word: a dispatcher notices an emptied Redis and makes the open runs again, watches
//! put back their slots and parts, and a job that is asked for comes back by itself. This brings back what nobody
//! has asked for yet, such as the list of jobs, and what an older copy of Redis says wrongly.
//!
//! Guarantee: nothing that Redis knows of a newer run is touched; done again it changes nothing; a call that is cut short
//! is done again from its cursor.

use crate::core::Ingest;
use crate::error::Error;
use futures_util::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use photofinish_contract::upkeep::Rebuilt;
use photofinish_jobstore::{Created, Finished};
use photofinish_model::{JobId, JobSnapshot};
use photofinish_objects::TenantRecord;
use photofinish_runtime::error_chain;
use std::time::{Duration, Instant};

/// A call looks at one more page as long as it has not taken so long: it must be answered in time.
const CALL_MAX: Duration = Duration::from_secs(8);
/// Jobs that are looked at side by side.
const PARALLEL_MAX: usize = 8;

/// Where a rebuild goes on: in a tenant's jobs, from a page on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    tenant: String,
    page: Option<String>,
}

impl Place {
    /// As a cursor carries it.
    pub(crate) fn text(&self) -> String {
        let page = self.page.as_deref().unwrap_or_default();
        format!("{}\n{page}", self.tenant)
    }

    /// From what a cursor carried.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (tenant, page) = text.split_once('\n')?;
        Some(Self {
            tenant: tenant.to_owned(),
            page: Some(page.to_owned()).filter(|page| !page.is_empty()),
        })
    }
}

/// What came of one job.
enum Looked {
    Known {
        open: bool,
    },
    Restored {
        open: bool,
    },
    Corrected {
        open: bool,
    },
    Expired,
    /// Nothing of it is left but its folder.
    Empty,
    Unreadable(String),
}

impl Ingest {
    /// Looks at some pages of jobs; gives what it found and where to go on.
    pub(crate) async fn rebuild(
        &self,
        from: Option<Place>,
    ) -> Result<(Rebuilt, Option<Place>), Error> {
        let began = Instant::now();
        let mut found = Rebuilt::default();
        let mut tenants = self.tenants().await?;
        tenants.sort_by(|one, other| one.tenant.as_str().cmp(other.tenant.as_str()));
        for record in &tenants {
            let name = record.tenant.as_str();
            let mut page = match &from {
                Some(from) if name < from.tenant.as_str() => continue,
                Some(from) if name == from.tenant => from.page.clone(),
                Some(_) | None => None,
            };
            loop {
                if began.elapsed() > CALL_MAX {
                    let tenant = name.to_owned();
                    return Ok((found, Some(Place { tenant, page })));
                }
                let (jobs, next) = self.objects.jobs_page(&record.tenant, page).await?;
                self.rebuild_jobs(record, jobs, &mut found).await?;
                page = next;
                if page.is_none() {
                    break;
                }
            }
            found.tenants += 1;
        }
        Ok((found, None))
    }

    async fn rebuild_jobs(
        &self,
        record: &TenantRecord,
        jobs: Vec<JobId>,
        found: &mut Rebuilt,
    ) -> Result<(), Error> {
        let mut looked = futures_util::stream::iter(jobs)
            .map(|job| async move {
                match self.rebuild_job(record, &job).await {
                    Err(error) if error.is_transient() => Err(error),
                    // One that cannot be read must not keep the others from being known.
                    Err(error) => {
                        let (tenant, error) = (&record.tenant, error_chain(&error));
                        tracing::error!(%tenant, %job, error, "make a job's record again");
                        Ok(Looked::Unreadable(job.to_string()))
                    }
                    looked => looked,
                }
            })
            .buffer_unordered(PARALLEL_MAX);
        while let Some(looked) = looked.next().await {
            found.jobs += 1;
            let (count, open) = match looked? {
                Looked::Known { open } => (&mut found.known, open),
                Looked::Restored { open } => (&mut found.restored, open),
                Looked::Corrected { open } => (&mut found.corrected, open),
                Looked::Expired => (&mut found.expired, false),
                Looked::Empty => {
                    found.jobs -= 1;
                    continue;
                }
                Looked::Unreadable(job) => {
                    found.unreadable.push(job);
                    continue;
                }
            };
            *count += 1;
            found.open += u64::from(open);
        }
        Ok(())
    }

    async fn rebuild_job(&self, record: &TenantRecord, job: &JobId) -> Result<Looked, Error> {
        let tenant = &record.tenant;
        let Some(run) = self.objects.latest_run(tenant, job).await? else {
            return Ok(Looked::Empty);
        };
        let known = self.jobstore.job(job).await?;
        let is_there =
            |known: &JobSnapshot| known.run > run || (known.run == run && known.status.is_final());
        if let Some(known) = known.as_ref().filter(|known| is_there(known)) {
            let open = !known.status.is_final();
            return Ok(Looked::Known { open });
        }
        let Some(snapshot) = self.objects.snapshot(tenant, job, run).await? else {
            return Ok(Looked::Empty);
        };
        if snapshot.status.is_final() {
            return self.rebuild_ended(record, &snapshot, known.is_some()).await;
        }
        let made = self.jobstore.restore(&snapshot).await?;
        let deadline = snapshot.deadline_at;
        self.jobstore
            .deadline_set(job, tenant, run, deadline)
            .await?;
        let open = true;
        Ok(match (made, known) {
            (Created::Exists, _) => Looked::Known { open },
            (Created::Created, None) => Looked::Restored { open },
            (Created::Created, Some(_)) => Looked::Corrected { open },
        })
    }

    async fn rebuild_ended(
        &self,
        record: &TenantRecord,
        end: &JobSnapshot,
        known: bool,
    ) -> Result<Looked, Error> {
        let (tenant, job) = (&record.tenant, &end.job);
        if record.retention.is_limited()
            && let Some(at) = end.finished_at
        {
            self.jobstore.note_ended(tenant, job, at).await?;
        }
        if known {
            // What an older copy of Redis takes for running. Its deadline is the dispatcher's to clear: the run may
            // have an end and not be closed.
            return Ok(match self.jobstore.finish(end).await? {
                Finished::Recorded => Looked::Corrected { open: false },
                Finished::Newer => Looked::Known { open: true },
            });
        }
        if is_past(end.finished_at, self.now(), self.config.redis.job_ttl) {
            return Ok(Looked::Expired);
        }
        Ok(match self.jobstore.restore(end).await? {
            Created::Created => Looked::Restored { open: false },
            Created::Exists => Looked::Known { open: false },
        })
    }
}

/// Whether something ended longer ago than it is kept.
fn is_past(ended: Option<Timestamp>, now: Timestamp, kept: Duration) -> bool {
    let kept = SignedDuration::try_from(kept).unwrap_or(SignedDuration::MAX);
    ended.is_some_and(|ended| now.duration_since(ended) > kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_goes_through_a_cursor_whatever_the_bucket_calls_its_pages() {
        for page in [None, Some("1/a=b\n+&".to_owned())] {
            let place = Place {
                tenant: "acme".to_owned(),
                page,
            };
            assert_eq!(Place::parse(&place.text()), Some(place));
        }
        assert_eq!(Place::parse("acme"), None);
    }

    #[test]
    fn what_ended_before_it_would_be_forgotten_anyway_is_past() {
        let now: Timestamp = "2026-11-23T00:00:00Z".parse().unwrap();
        let day = Duration::from_hours(24);
        let ended = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        assert!(is_past(ended("2026-11-21T23:59:59Z"), now, day));
        assert!(!is_past(ended("2026-11-22T00:00:00Z"), now, day));
        assert!(!is_past(None, now, day));
        assert!(!is_past(ended("2000-01-01T00:00:00Z"), now, Duration::MAX));
    }
}
