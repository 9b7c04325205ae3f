//! The documents of a job, as they lie in the bucket. Unknown fields are ignored.

use jiff::Timestamp;
use photofinish_contract::messages::Receiver;
use photofinish_contract::request::JobRequest;
use photofinish_model::estimate::Forecast;
use photofinish_model::plan::PartPlan;
use photofinish_model::{Fault, ItemIndex, ItemRow, JobId, Tenant};
use serde::{Deserialize, Serialize};

/// `run-{n}.json`: all that a run needs, put once; a redelivery uses the stored one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunDoc {
    /// The job.
    pub job: JobId,
    /// Whose it is.
    pub tenant: Tenant,
    /// The run, from 1.
    pub run: u32,
    /// The parts, in order.
    pub plan: Vec<PartPlan>,
    /// What it was expected to take when it was planned.
    #[serde(default)]
    pub forecast: Forecast,
    /// What was asked for, canonical.
    pub request: JobRequest,
    /// Who is told.
    pub receivers: Vec<Receiver>,
    /// When the run was accepted.
    pub accepted_at: Timestamp,
    /// When the run ends at the latest.
    pub deadline_at: Timestamp,
    /// When run 1 was accepted.
    pub created_at: Timestamp,
    /// SHA-256 of the body as a canonical JSON value.
    pub body_sha256: String,
    /// Rows with stored outputs of earlier runs, which a retry keeps.
    #[serde(default)]
    pub carried: Vec<ItemRow>,
}

/// `part-{n}-{part}.json`: what failed for good in a finished part, written before it is counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartRecord {
    /// The run.
    pub run: u32,
    /// The part.
    pub part: u16,
    /// The attempt after which it was written.
    pub attempt: u16,
    /// The items that failed.
    pub errors: Vec<ItemFault>,
}

/// An item that failed for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemFault {
    /// The place in the request.
    pub index: ItemIndex,
    /// What the client reads.
    pub fault: Fault,
    /// What an operator reads: what was seen, attempt by attempt.
    #[serde(default)]
    pub evidence: String,
}
