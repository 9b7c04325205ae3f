//! One item of a job and where its output stands.

use crate::{Fault, ItemIndex};
use serde::{Deserialize, Serialize};

/// How an output came into the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputSource {
    /// Pulled off the worker while RunPod still said IN_PROGRESS.
    PulledInProgress,
    /// Pulled off the worker after RunPod had called its job over.
    PulledLate,
    /// Pushed by the worker under the rescue prefix and taken from there.
    Rescued,
}

impl OutputSource {
    /// The name, as in object metadata.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PulledInProgress => "pulled_in_progress",
            Self::PulledLate => "pulled_late",
            Self::Rescued => "rescued",
        }
    }
}

/// A file in the bucket, whole and checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredOutput {
    /// Its key in the bucket.
    pub key: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its SHA-256, 64 hexadecimal digits.
    pub sha256: String,
    /// Its length in seconds.
    pub duration_s: f64,
    /// The run that made it.
    pub run: u32,
    /// The attempt that made it.
    pub attempt: u16,
    /// How it came here.
    pub source: OutputSource,
}

/// Where one item stands. The last two never change within a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ItemState {
    /// Nothing has happened yet.
    Pending,
    /// An attempt is at it.
    Rendering,
    /// Its file lies on a worker.
    Ready,
    /// Its file lies in the bucket.
    Stored(StoredOutput),
    /// It failed for good.
    Failed(Fault),
}

impl ItemState {
    /// True when nothing more happens to the item in this run.
    pub fn is_settled(&self) -> bool {
        match self {
            Self::Stored(_) | Self::Failed(_) => true,
            Self::Pending | Self::Rendering | Self::Ready => false,
        }
    }
}

/// One row of a job: an item of the request, in its place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ItemRow {
    /// The place in the request, from 0.
    pub index: ItemIndex,
    /// The client's id of the item.
    pub item: String,
    /// Where it stands.
    pub state: ItemState,
}
