//! Who follows which job at this moment, and how they are woken.
//!
//! Nouns: a *seat* is one client that follows one job; its tenant is listened to as long as any seat of it is taken.
//!
//! Guarantee: seats are limited, for a tenant and for the process; a seat is free again when it is dropped, however
//! that comes about. A wake-up may be lost: whoever waits also looks by himself from time to time.

use crate::error::Refusal;
use photofinish_broker::{Heard, Listening};
use photofinish_model::{Code, JobId, Tenant};
use photofinish_runtime::Shutdown;
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Limits of the streams of a process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Streams at most.
    pub(crate) streams_max: usize,
    /// Streams of one tenant at most.
    pub(crate) per_tenant_max: usize,
}

/// Who is to be woken.
#[derive(Debug, Default)]
pub(crate) struct Seats {
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    tenants: HashMap<Tenant, usize>,
    jobs: HashMap<JobId, Followed>,
}

/// A job that somebody follows.
#[derive(Debug)]
struct Followed {
    tenant: Tenant,
    seats: usize,
    wake: watch::Sender<()>,
}

/// What of an event is looked at for a wake-up.
#[derive(Debug, Deserialize)]
struct Subject {
    subject: JobId,
}

impl Seats {
    /// Wakes whoever follows the job of an event, or any job of a tenant whose events only now come.
    pub(crate) fn hear(&self, heard: &Heard) {
        let taken = self.lock();
        match heard {
            Heard::Bound { tenant } => {
                let of_tenant = |followed: &&Followed| followed.tenant.as_str() == tenant;
                for followed in taken.jobs.values().filter(of_tenant) {
                    followed.wake.send_replace(());
                }
            }
            Heard::Event { body } => {
                let job = serde_json::from_slice(body).ok();
                let job = job.map(|Subject { subject }| subject);
                if let Some(followed) = job.and_then(|job| taken.jobs.get(&job)) {
                    followed.wake.send_replace(());
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        // Nothing between lock and unlock can leave a half-written entry behind.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The streams of this process.
#[derive(Debug)]
pub(crate) struct Streams {
    pub(crate) seats: Arc<Seats>,
    pub(crate) listening: Listening,
    pub(crate) limits: Limits,
    pub(crate) shutdown: Shutdown,
}

/// One client that follows one job.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Arc<Seats>,
    listening: Listening,
    tenant: Tenant,
    job: JobId,
    wake: watch::Receiver<()>,
}

impl Streams {
    /// Takes a seat, or says why there is none.
    pub(crate) fn take(&self, tenant: &Tenant, job: &JobId) -> Result<Seat, Refusal> {
        let mut taken = self.seats.lock();
        let of_tenant = taken.tenants.get(tenant).copied().unwrap_or(0);
        let full = |whose: &str| {
            let detail = format!("{whose} event streams are all in use; close one, or come again");
            Err(Refusal::new(429, Code::TooManyStreams, detail))
        };
        if of_tenant >= self.limits.per_tenant_max {
            return full("the tenant's");
        }
        if taken.total >= self.limits.streams_max {
            return full("this server's");
        }
        taken.total += 1;
        taken.tenants.insert(tenant.clone(), of_tenant + 1);
        let followed = taken.jobs.entry(job.clone()).or_insert_with(|| Followed {
            tenant: tenant.clone(),
            seats: 0,
            wake: watch::Sender::new(()),
        });
        followed.seats += 1;
        let wake = followed.wake.subscribe();
        metrics::gauge!("photofinish_ingest_streams").set(taken.total as f64);
        self.listening.want(tenant.as_str());
        Ok(Seat {
            seats: self.seats.clone(),
            listening: self.listening.clone(),
            tenant: tenant.clone(),
            job: job.clone(),
            wake,
        })
    }
}

impl Seat {
    /// Waits for a wake-up since the last one.
    pub(crate) async fn woken(&mut self) {
        // The sender lives as long as the seat is taken.
        let _ended = self.wake.changed().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.lock();
        taken.total = taken.total.saturating_sub(1);
        metrics::gauge!("photofinish_ingest_streams").set(taken.total as f64);
        let of_job = taken.jobs.get_mut(&self.job).map(|followed| {
            followed.seats = followed.seats.saturating_sub(1);
            followed.seats
        });
        if of_job == Some(0) {
            taken.jobs.remove(&self.job);
        }
        let of_tenant = taken.tenants.get_mut(&self.tenant).map(|seats| {
            *seats = seats.saturating_sub(1);
            *seats
        });
        if of_tenant == Some(0) {
            taken.tenants.remove(&self.tenant);
            self.listening.forget(self.tenant.as_str());
        }
    }
}
