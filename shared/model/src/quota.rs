//! What a tenant may use, and for how long its files are kept.
//!
//! The nouns: a [`Quotas`] is a tenant's limits, each of them its own, the deployment's, or none; a [`Standing`] is
//! what it uses at this moment; an [`Exceeded`] says which limit stands in the way of one more job and when to come
//! again; a [`Retention`] is how long files are kept after the end of their job.
//!
//! The guarantee: what uses less is never refused where what uses more is taken.
//!
//! Not for: the rate of requests, which is counted and decided in one step where it is kept (`jobstore`).

use crate::Tenant;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use utoipa::ToSchema;

/// Jobs end all the time: whoever has too many waits so long before the next try.
const JOBS_RETRY: Duration = Duration::from_secs(10);
/// A job with too many items is too large tomorrow, too, unless an operator raises the quota.
const ITEMS_RETRY: Duration = Duration::from_secs(3600);

/// A tenant's limits; one that is null is the deployment's default, or none.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Quotas {
    /// Requests in a second over HTTP, and as many submissions over AMQP.
    #[schema(required = true, minimum = 1)]
    pub requests_per_s: Option<u32>,
    /// Jobs that have not ended, at the same time.
    #[schema(required = true)]
    pub jobs_waiting_max: Option<u32>,
    /// Items of one job.
    #[schema(required = true, minimum = 1)]
    pub items_per_job_max: Option<u32>,
    /// Seconds of GPU in a day (UTC).
    #[schema(required = true)]
    pub gpu_seconds_per_day: Option<f64>,
    /// Estimated US dollars in a day (UTC).
    #[schema(required = true)]
    pub cost_per_day_usd: Option<f64>,
}

/// How long files are kept after the end of their job, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Retention {
    /// The outputs; null: until they are deleted.
    #[schema(required = true)]
    pub outputs_s: Option<u64>,
    /// Everything of the job, its idempotency key included; null: for ever.
    #[schema(required = true)]
    pub jobs_s: Option<u64>,
}

/// What a tenant uses at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Standing {
    /// Jobs that have not ended, the one that is asked for included.
    pub jobs: u64,
    /// Seconds of GPU of the day so far.
    pub gpu_seconds: f64,
    /// US dollars of the day so far.
    pub cost_usd: f64,
}

/// A limit that stands in the way of one more job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exceeded {
    /// The quota's name, as in [`Quotas`].
    pub quota: &'static str,
    /// A sentence that says what to do.
    pub detail: String,
    /// When it may be tried again.
    pub retry_after: Duration,
}

/// What of an ended job is not kept any longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Everything is kept.
    Nothing,
    /// Its outputs go.
    Outputs,
    /// All of it goes.
    Everything,
}

impl Quotas {
    /// With the deployment's defaults where the tenant has no limit of its own.
    #[must_use]
    pub fn or(self, default: Self) -> Self {
        Self {
            requests_per_s: self.requests_per_s.or(default.requests_per_s),
            jobs_waiting_max: self.jobs_waiting_max.or(default.jobs_waiting_max),
            items_per_job_max: self.items_per_job_max.or(default.items_per_job_max),
            gpu_seconds_per_day: self.gpu_seconds_per_day.or(default.gpu_seconds_per_day),
            cost_per_day_usd: self.cost_per_day_usd.or(default.cost_per_day_usd),
        }
    }

    /// Whether what the tenant uses has to be known to decide.
    pub fn counts(&self) -> bool {
        self.jobs_waiting_max.is_some()
            || self.gpu_seconds_per_day.is_some()
            || self.cost_per_day_usd.is_some()
    }

    /// Whether a job may have so many items.
    pub fn takes_items(&self, items: usize) -> Result<(), Exceeded> {
        let Some(max) = self.items_per_job_max.filter(|max| items > *max as usize) else {
            return Ok(());
        };
        Err(Exceeded {
            quota: "items_per_job_max",
            detail: format!(
                "the job has {items} items, and this tenant's may have {max}: split it"
            ),
            retry_after: ITEMS_RETRY,
        })
    }

    /// Whether a tenant that stands so may have one more job. What a job will use is not known
    /// beforehand: a day's quota is over when it is used up.
    pub fn takes_job(&self, standing: &Standing, now: Timestamp) -> Result<(), Exceeded> {
        if let Some(max) = self
            .jobs_waiting_max
            .filter(|max| standing.jobs > u64::from(*max))
        {
            return Err(Exceeded {
                quota: "jobs_waiting_max",
                detail: format!("{max} jobs of this tenant have not ended: wait until one has"),
                retry_after: JOBS_RETRY,
            });
        }
        let over = |quota, used: f64, max: Option<f64>, unit: &str| {
            let max = max.filter(|max| used >= *max)?;
            Some(Exceeded {
                quota,
                detail: format!("{max} {unit} of today (UTC) are used up: come again tomorrow"),
                retry_after: until_tomorrow(now),
            })
        };
        let gpu = self.gpu_seconds_per_day;
        let cost = self.cost_per_day_usd;
        over(
            "gpu_seconds_per_day",
            standing.gpu_seconds,
            gpu,
            "GPU seconds",
        )
        .or_else(|| over("cost_per_day_usd", standing.cost_usd, cost, "US dollars"))
        .map_or(Ok(()), Err)
    }
}

impl Retention {
    /// Whether anything is ever due.
    pub fn is_limited(&self) -> bool {
        self.outputs_s.is_some() || self.jobs_s.is_some()
    }

    /// What is due of a job that ended so long ago.
    pub fn due(&self, ended_ago: Duration) -> Due {
        let over = |limit: Option<u64>| limit.is_some_and(|limit| ended_ago.as_secs() >= limit);
        if over(self.jobs_s) {
            Due::Everything
        } else if over(self.outputs_s) {
            Due::Outputs
        } else {
            Due::Nothing
        }
    }
}

/// The day of an instant, UTC: `2026-11-23`.
pub fn day(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).date().to_string()
}

/// From an instant to the next midnight, UTC; at least a second.
pub fn until_tomorrow(now: Timestamp) -> Duration {
    let today = now.to_zoned(TimeZone::UTC);
    let tomorrow = today
        .start_of_day()
        .and_then(|begun| begun.checked_add(1.day()));
    let left = tomorrow.map_or(0, |tomorrow| {
        tomorrow.timestamp().as_second() - now.as_second()
    });
    Duration::from_secs(u64::try_from(left).unwrap_or(0).max(1))
}

/// Lanes in which nobody but paused tenants is, of all tenants with their lanes: those can be
/// passed over whole.
pub fn paused_lanes(lanes: &BTreeMap<Tenant, u16>, paused: &BTreeSet<Tenant>) -> BTreeSet<u16> {
    let (mut still, mut moving) = (BTreeSet::new(), BTreeSet::new());
    for (tenant, lane) in lanes {
        if paused.contains(tenant) {
            still.insert(*lane);
        } else {
            moving.insert(*lane);
        }
    }
    still.difference(&moving).copied().collect()
}
