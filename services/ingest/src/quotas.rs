//! What a tenant may use: its rate of requests, its open jobs, its day.
//!
//! The limits are the tenant's own or the deployment's; the decisions are `model::quota`'s. Whatever cannot be asked
//! for refuses nobody: while Redis is away nothing is counted and everything passes. A tenant without limits costs no
//! question at all.

use crate::core::Ingest;
use crate::error::{Error, Refusal};
use photofinish_model::quota::{Exceeded, Quotas, Standing, day};
use photofinish_model::{Code, JobId, Tenant};
use photofinish_runtime::error_chain;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A process looks a tenant's limits up at most so often.
const AGE_MAX: Duration = Duration::from_secs(5);
/// Tenants whose limits are remembered; above it all are forgotten, and looked up again.
const KNOWN_MAX: usize = 10_000;

/// The way in which requests come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// One that is over is refused.
    Http,
    /// One that is over takes its place in time.
    Amqp,
}

/// A request over a tenant's limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Over {
    pub(crate) code: Code,
    pub(crate) detail: String,
    pub(crate) retry_after: Duration,
    /// Requests per second, when it is that which is over.
    pub(crate) rate: Option<u32>,
}

impl From<Exceeded> for Refusal {
    fn from(exceeded: Exceeded) -> Self {
        metrics::counter!("photofinish_ingest_quota_exceeded_total", "quota" => exceeded.quota)
            .increment(1);
        Self::Over(Over {
            code: Code::QuotaExceeded,
            detail: format!("{} ({})", exceeded.detail, exceeded.quota),
            retry_after: exceeded.retry_after,
            rate: None,
        })
    }
}

/// Tenants and their limits, as of the last look.
#[derive(Debug, Default)]
pub(crate) struct Limits(Mutex<HashMap<Tenant, Known>>);

#[derive(Debug, Clone, Copy)]
struct Known {
    at: Instant,
    quotas: Quotas,
    /// It has a record.
    is_there: bool,
}

impl Limits {
    fn known(&self, tenant: &Tenant, now: Instant) -> Option<Known> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get(tenant).copied();
        known.filter(|known| now.saturating_duration_since(known.at) < AGE_MAX)
    }

    fn keep(&self, tenant: &Tenant, one: Known) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(tenant.clone(), one);
    }

    /// A tenant's limits have changed.
    pub(crate) fn forget(&self, tenant: &Tenant) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(tenant);
    }
}

impl Ingest {
    /// A tenant's limits, the deployment's where it has none of its own.
    pub(crate) async fn limits_of(&self, tenant: &Tenant) -> Quotas {
        if let Some(known) = self.limits.known(tenant, Instant::now()) {
            return known.quotas;
        }
        match self.look_up(tenant).await {
            Ok(known) => known.quotas,
            Err(error) => {
                tracing::warn!(%tenant, error = error_chain(&error), "the tenant's limits cannot be read");
                self.config.quotas
            }
        }
    }

    /// Whether there is such a tenant. None is ever deleted; one that was not there may be made at any moment.
    pub(crate) async fn is_tenant(&self, tenant: &Tenant) -> Result<bool, Error> {
        let known = self.limits.known(tenant, Instant::now());
        if known.is_some_and(|known| known.is_there) {
            return Ok(true);
        }
        Ok(self.look_up(tenant).await?.is_there)
    }

    async fn look_up(&self, tenant: &Tenant) -> Result<Known, Error> {
        let at = Instant::now();
        let record = self.tenant_record(tenant).await?;
        let is_there = record.is_some();
        let own = record.map(|record| record.quotas).unwrap_or_default();
        let known = Known {
            at,
            quotas: own.or(self.config.quotas),
            is_there,
        };
        self.limits.keep(tenant, known);
        Ok(known)
    }

    /// Takes a request out of a tenant's rate.
    pub(crate) async fn pace(&self, tenant: &Tenant, door: Door) -> Result<(), Refusal> {
        let Some(rate) = self.limits_of(tenant).await.requests_per_s else {
            return Ok(());
        };
        let (name, reserve) = match door {
            Door::Http => ("http", false),
            Door::Amqp => ("amqp", true),
        };
        let rated = match self.jobstore.take_rate(tenant, name, rate, reserve).await {
            Ok(rated) => rated,
            Err(error) => {
                tracing::debug!(%tenant, %error, "the rate is not counted");
                return Ok(());
            }
        };
        if rated.wait.is_zero() {
            return Ok(());
        }
        metrics::counter!("photofinish_ingest_rate_limited_total", "door" => name).increment(1);
        Err(Refusal::Over(Over {
            code: Code::RateLimited,
            detail: format!("this tenant may send {rate} requests in a second: wait a moment"),
            retry_after: rated.wait,
            rate: Some(rate),
        }))
    }

    /// Counts a job that is about to be admitted, or refuses it. True: [`Ingest::give_up_place`] if it is not
    /// admitted after all.
    pub(crate) async fn take_place(
        &self,
        tenant: &Tenant,
        job: &JobId,
        items: usize,
    ) -> Result<bool, Refusal> {
        let limits = self.limits_of(tenant).await;
        limits.takes_items(items)?;
        if !limits.counts() {
            return Ok(false);
        }
        let now = self.now();
        let today = day(now);
        let mut reserved = match self.jobstore.reserve(tenant, job, &today).await {
            Ok(reserved) => reserved,
            Err(error) => {
                tracing::warn!(%tenant, error = error_chain(&error), "quotas are not counted");
                return Ok(false);
            }
        };
        if !reserved.based && (limits.gpu_seconds_per_day.or(limits.cost_per_day_usd)).is_some() {
            let (gpu_seconds, cost_usd) = self.base_day(tenant, &today).await;
            reserved.standing.gpu_seconds += gpu_seconds;
            reserved.standing.cost_usd += cost_usd;
        }
        if let Err(exceeded) = limits.takes_job(&reserved.standing, now) {
            if reserved.added {
                self.give_up_place(tenant, job).await;
            }
            return Err(exceeded.into());
        }
        Ok(reserved.added)
    }

    /// A job that was counted is not admitted. Best effort: by itself it counts for some minutes.
    pub(crate) async fn give_up_place(&self, tenant: &Tenant, job: &JobId) {
        if let Err(error) = self.jobstore.release(tenant, job).await {
            tracing::debug!(%job, %error, "give a place up");
        }
    }

    /// Puts what the bucket knows of a tenant's day into Redis, which has forgotten it; what was added by this call.
    async fn base_day(&self, tenant: &Tenant, today: &str) -> (f64, f64) {
        let based = async {
            let written = self.objects.usage_of_day(tenant, today).await?;
            let written = written.unwrap_or_default();
            let amounts = (written.gpu_seconds, written.cost_usd);
            self.jobstore.base_day(tenant, today, amounts).await?;
            // Somebody else may have been faster: then it is in the sum that was read, or a moment later.
            Ok::<_, Error>(amounts)
        };
        based.await.unwrap_or_else(|error| {
            tracing::warn!(%tenant, error = error_chain(&error), "what was used today is not known");
            (0.0, 0.0)
        })
    }

    /// How a tenant stands today.
    pub(crate) async fn standing(&self, tenant: &Tenant) -> Result<(String, Standing), Refusal> {
        let today = day(self.now());
        let (mut standing, based) = self.jobstore.standing(tenant, &today).await?;
        if !based {
            let (gpu_seconds, cost_usd) = self.base_day(tenant, &today).await;
            standing.gpu_seconds += gpu_seconds;
            standing.cost_usd += cost_usd;
        }
        Ok((today, standing))
    }
}
