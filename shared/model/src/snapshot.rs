//! A job in one run, whole: what a status shows, what `end-{run}` keeps, what Redis is rebuilt to.

use crate::estimate::Forecast;
use crate::{Fault, ItemRow, ItemState, JobId, Operation, Priority, Tenant};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where a job stands. The last three are never left within a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobStatus {
    /// Taken, nothing runs yet.
    Accepted,
    /// A worker has begun.
    Running,
    /// Ended well.
    Completed,
    /// Ended by a fault.
    Failed,
    /// Ended by a person.
    Cancelled,
}

impl JobStatus {
    /// True for the three that end a run.
    pub fn is_final(self) -> bool {
        match self {
            Self::Completed | Self::Failed | Self::Cancelled => true,
            Self::Accepted | Self::Running => false,
        }
    }

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What an item that fails for good means for its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum OnItemError {
    /// It ends the job.
    #[default]
    Fail,
    /// The good items are delivered, the bad ones listed.
    Skip,
}

/// What a job has cost so far, summed over its attempts.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Seconds that workers spent on it, as RunPod counts them.
    pub gpu_seconds: f64,
    /// Seconds that workers waited to be fetched from.
    pub linger_s: f64,
    /// Attempts that were submitted.
    pub attempts: u32,
    /// Outputs that came by rescue.
    pub rescued: u32,
    /// What the attempts cost whose endpoint had a price then, in US dollars.
    #[serde(default)]
    pub cost_usd: f64,
    /// The GPU seconds that `cost_usd` is for.
    #[serde(default)]
    pub priced_s: f64,
}

impl Usage {
    /// What is known and may be told of the cost in US dollars: each attempt at the price of its
    /// time, and what had none at `usd_per_second`. `None`: nothing had a price.
    pub fn cost_estimate(&self, usd_per_second: Option<f64>) -> Option<f64> {
        let unpriced = (self.gpu_seconds - self.priced_s).max(0.0);
        match usd_per_second {
            Some(price) => Some(self.cost_usd + price * unpriced),
            None => (self.priced_s > 0.0).then_some(self.cost_usd),
        }
    }
}

/// Items by where they stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// All items of the job.
    pub total: u32,
    /// Stored.
    pub stored: u32,
    /// Failed for good.
    pub failed: u32,
}

impl Counts {
    /// Items to which nothing more happens.
    pub fn settled(self) -> u32 {
        self.stored + self.failed
    }

    /// Items still to be settled.
    pub fn pending(self) -> u32 {
        self.total.saturating_sub(self.settled())
    }
}

/// One job in one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobSnapshot {
    /// The job.
    pub job: JobId,
    /// Whose it is.
    pub tenant: Tenant,
    /// The run, from 1.
    pub run: u32,
    /// What is asked for.
    pub operation: Operation,
    /// How urgently.
    pub priority: Priority,
    /// Where it stands.
    pub status: JobStatus,
    /// When run 1 was accepted.
    pub created_at: Timestamp,
    /// When the first worker of the run began.
    pub started_at: Option<Timestamp>,
    /// When the run ended.
    pub finished_at: Option<Timestamp>,
    /// When the run ends at the latest.
    pub deadline_at: Timestamp,
    /// What a failed item means.
    pub on_item_error: OnItemError,
    /// One row for each item, in the order of the request.
    pub items: Vec<ItemRow>,
    /// Parts of the plan.
    pub parts: u16,
    /// What the run was expected to take when it was planned.
    #[serde(default)]
    pub forecast: Forecast,
    /// Why it failed.
    pub error: Option<Fault>,
    /// What it has cost.
    pub usage: Usage,
    /// The client's own data, echoed.
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
    /// The job's own receivers (`webhook_url`) as its plan froze them; nothing: the plan knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receivers: Option<Vec<String>>,
    /// When its outputs were deleted; they stay listed as they were stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs_deleted_at: Option<Timestamp>,
    /// SHA-256 of the request as a canonical JSON value, for idempotency.
    pub body_sha256: String,
}

impl JobSnapshot {
    /// Items by where they stand.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts {
            total: self.items.len() as u32,
            ..Counts::default()
        };
        for row in &self.items {
            match row.state {
                ItemState::Stored(_) => counts.stored += 1,
                ItemState::Failed(_) => counts.failed += 1,
                ItemState::Pending | ItemState::Rendering | ItemState::Ready => {}
            }
        }
        counts
    }
}
