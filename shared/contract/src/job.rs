//! The job as a client reads it.

use jiff::Timestamp;
use photofinish_model::estimate::eta;
use photofinish_model::{
    Counts, Fault, ItemRow, ItemState, JobId, JobSnapshot, JobStatus, Operation, Priority,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::time::Duration;
use utoipa::ToSchema;

/// Outputs are always MP4.
pub const OUTPUT_CONTENT_TYPE: &str = "video/mp4";
/// Final events of jobs with at most so many items carry their outputs.
pub const OUTPUTS_IN_EVENT_MAX: usize = 100;

/// A job, as GET answers it and as events and manifests carry it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[expect(missing_docs, reason = "the public contract describes each field")]
pub struct Job {
    pub id: JobId,
    pub run: u32,
    pub status: JobStatus,
    pub operation: Operation,
    pub priority: Priority,
    pub created_at: Timestamp,
    #[schema(required = true)]
    pub started_at: Option<Timestamp>,
    #[schema(required = true)]
    pub finished_at: Option<Timestamp>,
    pub deadline_at: Timestamp,
    pub progress: Progress,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs: Option<Vec<OutputRow>>,
    #[schema(required = true)]
    pub error: Option<Fault>,
    pub usage: JobUsage,
    #[schema(required = true)]
    pub metadata: Option<Map<String, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs_deleted_at: Option<Timestamp>,
    pub links: Links,
}

/// How far a job is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[expect(missing_docs, reason = "the public contract describes each field")]
pub struct Progress {
    pub items_total: u32,
    pub items_done: u32,
    pub items_failed: u32,
    pub ratio: f64,
    #[schema(required = true)]
    pub eta_s: Option<f64>,
}

/// One item's row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[expect(missing_docs, reason = "the public contract describes each field")]
pub struct OutputRow {
    pub item: String,
    pub index: u16,
    pub status: OutputStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_expires_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_s: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Fault>,
}

/// Where an output stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the public contract describes each value")]
pub enum OutputStatus {
    Pending,
    Rendering,
    Ready,
    Stored,
    Failed,
}

/// What a job has cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[expect(missing_docs, reason = "the public contract describes each field")]
pub struct JobUsage {
    pub gpu_seconds: f64,
    pub linger_s: f64,
    pub attempts: u32,
    pub parts: u16,
    pub rescued: u32,
    #[schema(required = true)]
    pub cost_estimate: Option<Cost>,
}

/// An amount of money.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[expect(missing_docs, reason = "the public contract describes each field")]
pub struct Cost {
    pub amount: f64,
    pub currency: String,
}

/// Where to go from here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[expect(missing_docs, reason = "the public contract describes each field")]
pub struct Links {
    #[serde(rename = "self")]
    pub this: String,
    pub events: String,
    pub outputs: String,
}

/// What a view of a job needs besides the job.
#[derive(Debug, Clone, Copy, Default)]
pub struct ViewSettings<'a> {
    /// Put before the links' paths, without a slash at its end; empty for relative links.
    pub public_url: &'a str,
    /// US dollars per second of GPU; none: no estimate.
    pub usd_per_gpu_second: Option<f64>,
    /// The time of day, for how long the job will take yet; none: that is not told.
    pub now: Option<Timestamp>,
}

impl Progress {
    /// How far a job is with its items counted so; `model::estimate::eta` says how long yet. That
    /// is not known while it waits for its first worker.
    pub fn of(snapshot: &JobSnapshot, counts: Counts, now: Option<Timestamp>) -> Self {
        let running = match snapshot.status {
            JobStatus::Running => now.zip(snapshot.started_at),
            JobStatus::Accepted
            | JobStatus::Completed
            | JobStatus::Failed
            | JobStatus::Cancelled => None,
        };
        let eta = running.and_then(|(now, started_at)| {
            let elapsed = now.duration_since(started_at);
            let elapsed = Duration::try_from(elapsed).unwrap_or_default();
            eta(snapshot.forecast, counts.pending(), elapsed)
        });
        Self {
            items_total: counts.total,
            items_done: counts.stored,
            items_failed: counts.failed,
            ratio: f64::from(counts.stored) / f64::from(counts.total.max(1)),
            eta_s: eta.map(|eta| (eta.as_secs_f64() * 10.0).round() / 10.0),
        }
    }
}

impl Job {
    /// The job without its outputs.
    pub fn without_outputs(snapshot: &JobSnapshot, settings: ViewSettings<'_>) -> Self {
        let base = format!("{}/v1/jobs/{}", settings.public_url, snapshot.job);
        Self {
            id: snapshot.job.clone(),
            run: snapshot.run,
            status: snapshot.status,
            operation: snapshot.operation,
            priority: snapshot.priority,
            created_at: snapshot.created_at,
            started_at: snapshot.started_at,
            finished_at: snapshot.finished_at,
            deadline_at: snapshot.deadline_at,
            progress: Progress::of(snapshot, snapshot.counts(), settings.now),
            outputs: None,
            error: snapshot.error.clone(),
            usage: JobUsage {
                gpu_seconds: snapshot.usage.gpu_seconds,
                linger_s: snapshot.usage.linger_s,
                attempts: snapshot.usage.attempts,
                parts: snapshot.parts,
                rescued: snapshot.usage.rescued,
                cost_estimate: snapshot
                    .usage
                    .cost_estimate(settings.usd_per_gpu_second)
                    .map(|amount| Cost {
                        amount,
                        currency: "USD".to_owned(),
                    }),
            },
            metadata: snapshot.metadata.clone(),
            outputs_deleted_at: snapshot.outputs_deleted_at,
            links: Links {
                events: format!("{base}/events"),
                outputs: format!("{base}/outputs"),
                this: base,
            },
        }
    }

    /// The job with a row for each item; `sign` gives a presigned URL and its end for a key.
    pub fn with_outputs(
        snapshot: &JobSnapshot,
        settings: ViewSettings<'_>,
        sign: impl Fn(&str) -> Option<(String, Timestamp)>,
    ) -> Self {
        let rows = snapshot
            .items
            .iter()
            .map(|row| OutputRow::of(row, &sign))
            .collect();
        Self {
            outputs: Some(rows),
            ..Self::without_outputs(snapshot, settings)
        }
    }
}

impl OutputRow {
    /// The row of an item; `sign` gives a presigned URL and its end for a key.
    pub fn of(row: &ItemRow, sign: impl Fn(&str) -> Option<(String, Timestamp)>) -> Self {
        let mut view = Self {
            item: row.item.clone(),
            index: row.index,
            status: OutputStatus::Pending,
            key: None,
            url: None,
            url_expires_at: None,
            bytes: None,
            sha256: None,
            content_type: None,
            duration_s: None,
            error: None,
        };
        match &row.state {
            ItemState::Pending => {}
            ItemState::Rendering => view.status = OutputStatus::Rendering,
            ItemState::Ready => view.status = OutputStatus::Ready,
            ItemState::Stored(output) => {
                view.status = OutputStatus::Stored;
                let signed = sign(&output.key);
                view.url_expires_at = signed.as_ref().map(|(_, until)| *until);
                view.url = signed.map(|(url, _)| url);
                view.key = Some(output.key.clone());
                view.bytes = Some(output.bytes);
                view.sha256 = Some(output.sha256.clone());
                view.content_type = Some(OUTPUT_CONTENT_TYPE.to_owned());
                view.duration_s = Some(output.duration_s);
            }
            ItemState::Failed(fault) => {
                view.status = OutputStatus::Failed;
                view.error = Some(fault.clone());
            }
        }
        view
    }
}
