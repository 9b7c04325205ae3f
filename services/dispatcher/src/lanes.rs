//! Lanes in which something waits: marked, so that a grant picks one of them.
//!
//! A publish marks its lane at once. What lies in a retry tier comes up without a publish of ours,
//! so its lane is expected and marked every second while it is due; and since a mark may be lost
//! with Redis or with a process, all lanes are looked at every 10 s.

use crate::core::{Core, broker_priority};
use crate::error::Error;
use photofinish_broker::WorkQueue;
use photofinish_model::{Priority, Tenant};
use photofinish_runtime::{Shutdown, error_chain};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often expected lanes are marked.
const LOOK: Duration = Duration::from_secs(1);
/// How often all lanes are looked at.
const REMARK: Duration = Duration::from_secs(10);
/// A walk through the tiers is late by a little at each hop.
const LATE_MAX: Duration = Duration::from_secs(5);

/// Tenants whose lanes are remembered; above it all are forgotten, and looked up again.
const TENANTS_MAX: usize = 10_000;

/// The lanes of tenants, which never change once a tenant is made.
#[derive(Debug, Default)]
pub struct TenantLanes(Mutex<HashMap<Tenant, u16>>);

impl TenantLanes {
    /// A tenant's lane, if it was looked up.
    pub fn get(&self, tenant: &Tenant) -> Option<u16> {
        let lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.get(tenant).copied()
    }

    /// Keeps the lane that a tenant's record names, and gives it.
    pub fn keep(&self, tenant: &Tenant, lane: u16) -> u16 {
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lanes.len() >= TENANTS_MAX {
            lanes.clear();
        }
        lanes.insert(tenant.clone(), lane);
        lane
    }
}

/// Lanes in which a message will come up, and until when that is believed.
#[derive(Debug, Default)]
pub struct Expected(Mutex<HashMap<(Priority, u16), Instant>>);

impl Expected {
    /// Something comes up in a lane after a wait in the tiers.
    pub fn after(&self, priority: Priority, lane: u16, wait: Duration) {
        let until = Instant::now() + wait + wait / 2 + LATE_MAX;
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = lanes.entry((priority, lane)).or_insert(until);
        *entry = until.max(*entry);
    }

    fn due(&self, now: Instant) -> Vec<(Priority, u16)> {
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.retain(|_, until| *until > now);
        lanes.keys().copied().collect()
    }
}

/// A wait in whole seconds: the rest of a second would be waited in hand, by the submit loop.
pub fn whole_seconds(wait: Duration) -> Duration {
    Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
}

/// Marks lanes for as long as the process lives.
pub async fn run(core: Arc<Core>, shutdown: Shutdown) {
    let mut looked: Option<Instant> = None;
    while !shutdown.stopping() {
        let marked = if looked.is_none_or(|at| at.elapsed() >= REMARK) {
            looked = Some(Instant::now());
            core.mark_by_depth().await
        } else {
            core.mark_expected().await
        };
        if let Err(error) = marked {
            tracing::warn!(error = error_chain(&error), "mark waiting lanes");
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = shutdown.wait() => {}
        }
    }
}

impl Core {
    async fn mark_expected(&self) -> Result<(), Error> {
        for (priority, lane) in self.expected.due(Instant::now()) {
            self.mark(priority, lane).await?;
        }
        Ok(())
    }

    async fn mark_by_depth(&self) -> Result<(), Error> {
        for priority in Priority::ALL {
            for lane in 0..self.config.lanes {
                let queue = WorkQueue::Submit {
                    priority: broker_priority(priority),
                    lane,
                };
                if self.broker.depth(queue).await? > 0 {
                    self.mark(priority, lane).await?;
                }
            }
        }
        Ok(())
    }

    /// Marks a lane and rings for the submit loop.
    pub async fn mark(&self, priority: Priority, lane: u16) -> Result<(), Error> {
        // Whichever endpoint has a slot first takes from it; each clears its own mark.
        for endpoint in &self.config.endpoints {
            self.jobstore
                .mark_lane(&endpoint.id, priority, lane)
                .await?;
        }
        self.work.notify_one();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_expected_until_its_walk_must_be_over() {
        let (expected, now) = (Expected::default(), Instant::now());
        expected.after(Priority::Normal, 3, Duration::from_secs(60));
        expected.after(Priority::Normal, 3, Duration::from_secs(1));
        let lane = [(Priority::Normal, 3)];
        assert_eq!(expected.due(now + Duration::from_secs(90)), lane);
        assert!(expected.due(now + Duration::from_secs(100)).is_empty());
    }

    #[test]
    fn as_many_tenants_are_remembered_as_may_be() {
        let (lanes, tenant) = (TenantLanes::default(), |n: usize| format!("t{n}").parse());
        for n in 0..=TENANTS_MAX {
            let tenant: Tenant = tenant(n).unwrap();
            assert_eq!(lanes.keep(&tenant, 7), 7);
            assert_eq!(lanes.get(&tenant), Some(7));
        }
        assert_eq!(
            lanes.0.lock().unwrap().len(),
            1,
            "all others were forgotten"
        );
    }

    #[test]
    fn no_part_of_a_second_is_left_over() {
        let whole = |millis| whole_seconds(Duration::from_millis(millis)).as_millis();
        assert_eq!([0, 200, 1000, 1500].map(whole), [0, 1000, 1000, 2000]);
    }
}
