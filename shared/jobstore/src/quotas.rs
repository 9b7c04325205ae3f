//! What tenants use: their rate of requests, their open jobs, their days.
//!
//! The rate is a bucket that holds a second's worth, for each door its own. An open job is counted
//! by its name, so twice is once, and until an instant, so that one whose end was never heard of
//! does not count for ever. A day is a sum over attempts, each counted once; what the bucket knew of
//! it is added once after Redis was emptied (*based*), and only a based day is written back.

use crate::keys::Key;
use crate::store::millis;
use crate::{JobStore, JobStoreError};
use photofinish_model::quota::Standing;
use photofinish_model::{JobId, JobSnapshot, Tenant};
use redis::Script;
use std::sync::LazyLock;
use std::time::Duration;

static RATE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/rate.lua")));
static RESERVE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/reserve.lua")));
static DAY: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/day.lua")));
static BASE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/base.lua")));

/// A job that is counted and then never admitted counts for so long.
const RESERVED_TTL: Duration = Duration::from_secs(600);
/// A run is over at its deadline; one whose end was not heard of counts so much longer.
const PAST_DEADLINE: Duration = Duration::from_secs(3600);
/// What a tenant used in a day is written to the bucket at most so often: as much may be lost with
/// Redis.
const SAVE_EVERY: Duration = Duration::from_secs(30);

/// What became of a request that was to be paid out of a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Rated {
    /// How long it has to wait; zero: it may go on.
    pub wait: Duration,
    /// Requests that may follow at once.
    pub remaining: u32,
}

/// A job that is counted as open before it is admitted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reserved {
    /// It was not counted before: [`JobStore::release`] it if it is not admitted.
    pub added: bool,
    /// How its tenant stands, with it.
    pub standing: Standing,
    /// False: what the bucket knows of the day is not in yet, see [`JobStore::base_day`].
    pub based: bool,
}

/// A tenant's day.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DayUse {
    /// Seconds of GPU.
    pub gpu_seconds: f64,
    /// US dollars.
    pub cost_usd: f64,
    /// False: what the bucket knows of it is not in yet, see [`JobStore::base_day`].
    pub based: bool,
    /// It is time to write it to the bucket.
    pub save: bool,
}

/// Open jobs; GPU seconds, US dollars, and whether the bucket's are in.
type StandingFields = (u64, (Option<f64>, Option<f64>, Option<String>));

impl JobStore {
    /// Takes a request out of a tenant's rate. With `reserve` one that is over takes its place in
    /// time: after the wait it may go on without asking again.
    pub async fn take_rate(
        &self,
        tenant: &Tenant,
        door: &str,
        per_s: u32,
        reserve: bool,
    ) -> Result<Rated, JobStoreError> {
        let keys = [Key::Rate(tenant, door)];
        let (wait_ms, remaining): (u64, u32) = self
            .script("take a request's right", &RATE, &keys, |call| {
                call.arg(per_s.max(1)).arg(u8::from(reserve));
            })
            .await?;
        let wait = Duration::from_millis(wait_ms);
        Ok(Rated { wait, remaining })
    }

    /// Counts a job as open, and tells how its tenant stands on a day.
    pub async fn reserve(
        &self,
        tenant: &Tenant,
        job: &JobId,
        day: &str,
    ) -> Result<Reserved, JobStoreError> {
        let keys = [Key::OpenJobs(tenant), Key::Day(tenant, day)];
        let (added, jobs, gpu_seconds, cost_usd, based): (u8, u64, f64, f64, u8) = self
            .script("reserve a job", &RESERVE, &keys, |call| {
                call.arg(job.as_str()).arg(millis(RESERVED_TTL));
            })
            .await?;
        Ok(Reserved {
            added: added == 1,
            standing: Standing {
                jobs,
                gpu_seconds,
                cost_usd,
            },
            based: based == 1,
        })
    }

    /// A job is not open, or not any more; again is harmless.
    pub async fn release(&self, tenant: &Tenant, job: &JobId) -> Result<(), JobStoreError> {
        let mut pipe = redis::pipe();
        pipe.zrem(self.key(Key::OpenJobs(tenant)), job.as_str())
            .ignore();
        self.pipe("release a job", &pipe).await
    }

    /// How a tenant stands on a day, and whether the bucket's part of it is in.
    pub async fn standing(
        &self,
        tenant: &Tenant,
        day: &str,
    ) -> Result<(Standing, bool), JobStoreError> {
        let mut pipe = redis::pipe();
        pipe.zcard(self.key(Key::OpenJobs(tenant)));
        pipe.cmd("HMGET")
            .arg(self.key(Key::Day(tenant, day)))
            .arg(&["g", "c", "base"]);
        let (jobs, (gpu_seconds, cost_usd, base)): StandingFields =
            self.pipe("read a tenant's use", &pipe).await?;
        let standing = Standing {
            jobs,
            gpu_seconds: gpu_seconds.unwrap_or(0.0),
            cost_usd: cost_usd.unwrap_or(0.0),
        };
        Ok((standing, base.is_some()))
    }

    /// Adds what an attempt cost to a tenant's day, once for each `attempt`.
    pub async fn add_to_day(
        &self,
        tenant: &Tenant,
        day: &str,
        attempt: &str,
        (gpu_seconds, cost_usd): (f64, f64),
    ) -> Result<DayUse, JobStoreError> {
        let keys = [Key::Day(tenant, day), Key::DayCounted(tenant, day)];
        let ttl = self.ttl_ms(&keys[0]);
        let (gpu_seconds, cost_usd, based, save): (f64, f64, u8, u8) = self
            .script("add to a tenant's day", &DAY, &keys, |call| {
                call.arg(attempt).arg(gpu_seconds).arg(cost_usd);
                call.arg(ttl).arg(millis(SAVE_EVERY));
            })
            .await?;
        Ok(DayUse {
            gpu_seconds,
            cost_usd,
            based: based == 1,
            save: save == 1,
        })
    }

    /// Adds what the bucket knew of a tenant's day, unless somebody has; true when this call did.
    pub async fn base_day(
        &self,
        tenant: &Tenant,
        day: &str,
        (gpu_seconds, cost_usd): (f64, f64),
    ) -> Result<bool, JobStoreError> {
        let keys = [Key::Day(tenant, day)];
        let ttl = self.ttl_ms(&keys[0]);
        self.script("base a tenant's day", &BASE, &keys, |call| {
            call.arg(gpu_seconds).arg(cost_usd).arg(ttl);
        })
        .await
    }

    /// Counts a job as open until its run must be over, with whatever else is done.
    pub(crate) fn count_open(&self, pipe: &mut redis::Pipeline, job: &JobSnapshot) {
        let until = job.deadline_at.as_millisecond();
        let until = until.saturating_add_unsigned(millis(PAST_DEADLINE));
        pipe.cmd("ZADD")
            .arg(self.key(Key::OpenJobs(&job.tenant)))
            .arg("GT")
            .arg(until)
            .arg(job.job.as_str())
            .ignore();
    }
}
