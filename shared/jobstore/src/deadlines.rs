//! Deadlines of runs, compared with Redis' own time alone.

use crate::keys::Key;
use crate::store::millis;
use crate::{JobStore, JobStoreError};
use jiff::Timestamp;
use photofinish_model::{JobId, JobSnapshot, Tenant};
use redis::Script;
use std::sync::LazyLock;
use std::time::Duration;

static DUE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/due.lua")));

/// A deadline that has passed is shown again after this, until it is cleared.
const DUE_PAUSE: Duration = Duration::from_secs(30);

impl JobStore {
    /// Sets the deadline of a run, unless it has an earlier one: whoever makes a record again must
    /// not take back that its end was brought near.
    pub async fn deadline_set(
        &self,
        job: &JobId,
        tenant: &Tenant,
        run: u32,
        at: Timestamp,
    ) -> Result<(), JobStoreError> {
        let mut pipe = redis::pipe();
        self.add_set_deadline(&mut pipe, &member(tenant, job, run), at);
        self.pipe("set a deadline", &pipe).await
    }

    /// Sets the deadline of a snapshot's run, with whatever else is done.
    pub(crate) fn add_deadline(&self, pipe: &mut redis::Pipeline, run: &JobSnapshot) {
        let name = member(&run.tenant, &run.job, run.run);
        self.add_set_deadline(pipe, &name, run.deadline_at);
    }

    fn add_set_deadline(&self, pipe: &mut redis::Pipeline, name: &str, at: Timestamp) {
        pipe.cmd("ZADD")
            .arg(self.key(Key::Deadlines))
            .arg("LT")
            .arg(at.as_millisecond())
            .arg(name)
            .ignore();
    }

    /// Runs whose deadline has passed, at most `limit`; each again after 30 s until it is cleared,
    /// which is when the run is closed.
    pub async fn deadlines_due(
        &self,
        limit: u32,
    ) -> Result<Vec<(Tenant, JobId, u32)>, JobStoreError> {
        let due: Vec<String> = self
            .script("ask for deadlines", &DUE, &[Key::Deadlines], |call| {
                call.arg(limit).arg(millis(DUE_PAUSE));
            })
            .await?;
        Ok(due.iter().filter_map(|member| parse(member)).collect())
    }

    /// Clears the deadline of a run that is closed; again is harmless.
    pub async fn deadline_clear(
        &self,
        job: &JobId,
        tenant: &Tenant,
        run: u32,
    ) -> Result<(), JobStoreError> {
        let mut pipe = redis::pipe();
        self.add_clear_deadline(&mut pipe, job, tenant, run);
        self.pipe("clear a deadline", &pipe).await
    }

    /// Clears the deadline of a run, with whatever else is done.
    pub(crate) fn add_clear_deadline(
        &self,
        pipe: &mut redis::Pipeline,
        job: &JobId,
        tenant: &Tenant,
        run: u32,
    ) {
        pipe.zrem(self.key(Key::Deadlines), member(tenant, job, run))
            .ignore();
    }
}

fn member(tenant: &Tenant, job: &JobId, run: u32) -> String {
    format!("{tenant}/{job}/{run}")
}

fn parse(member: &str) -> Option<(Tenant, JobId, u32)> {
    let mut parts = member.split('/');
    Some((
        parts.next()?.parse().ok()?,
        parts.next()?.parse().ok()?,
        parts.next()?.parse().ok()?,
    ))
}
