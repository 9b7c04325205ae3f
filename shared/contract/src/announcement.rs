//! What a worker tells: one schema for RunPod progress, for signals, for the report in the bucket
//! and for the final result.
//!
//! An announcement is cumulative, everything so far each time, because RunPod keeps only the last
//! progress update.
//!
//! There are two ways to the output server: the worker's exposed TCP port, with TLS whose certificate
//! is announced, and RunPod's proxy, which speaks plain HTTP to the same port.
//!
//! The worker's output server, per attempt, all with `Authorization: Bearer <output_token>`:
//!
//! | call | answer |
//! |---|---|
//! | `GET /attempts/{nonce}` | 200 the announcement as of now; counts as first contact |
//! | `GET`, `HEAD /attempts/{nonce}/outputs/{name}` | the file; `Range`, `ETag` = its SHA-256 |
//! | `DELETE /attempts/{nonce}/outputs/{name}` | 204: stored, the worker frees it; again 204 |
//! | `POST /attempts/{nonce}/rescue` | 202: push what is unacknowledged, now |
//! | `POST /attempts/{nonce}/wanted` | 204; body [`Wanted`]: other items are not rendered any more |

use photofinish_model::{Fault, ItemIndex, Nonce};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Which moment an announcement is made at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AnnouncementKind {
    /// The worker has taken the job; nothing is made yet.
    Started,
    /// One more output is ready, one more item failed, or one more is begun.
    Ready,
    /// The worker has pushed outputs itself.
    Rescued,
    /// Nothing more will come.
    Final,
}

/// Everything an attempt has to tell so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Announcement {
    /// The moment.
    pub kind: AnnouncementKind,
    /// RunPod's job id, as the worker was given it.
    pub run_id: String,
    /// The attempt's fencing token.
    pub nonce: Nonce,
    /// RunPod's id of the worker.
    pub worker_id: String,
    /// Random, new at each start of the worker process.
    pub boot: String,
    /// Where the outputs are served, best first.
    #[serde(default)]
    pub addresses: Vec<Address>,
    /// Every output made so far, also those acknowledged or pushed.
    #[serde(default)]
    pub outputs: Vec<ReadyOutput>,
    /// Items pushed under the rescue prefix.
    #[serde(default)]
    pub rescued: Vec<ItemIndex>,
    /// Items that failed.
    #[serde(default)]
    pub errors: Vec<ItemError>,
    /// Items that it is at: suspects, should it not be heard any more.
    #[serde(default)]
    pub rendering: Vec<ItemIndex>,
    /// What it cost so far.
    #[serde(default)]
    pub spent: Spent,
    /// No push was begun so far; false also when it is not known.
    #[serde(default)]
    pub nothing_pushed: bool,
}

/// An address of the worker's output server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The base URL, without a path's end slash: `https://ip:port` for a direct TLS address. The
    /// proxy's is told for people; whoever fetches makes its host from RunPod's word.
    pub url: String,
    /// SHA-256 of the DER of the certificate to be pinned, 64 hexadecimal digits; for a direct TLS
    /// address only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_sha256: Option<String>,
}

/// An output that lies on the worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReadyOutput {
    /// The item's place in the request.
    pub index: ItemIndex,
    /// The client's id of the item.
    pub item: String,
    /// The file's name on the output server.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, 64 hexadecimal digits.
    pub sha256: String,
    /// Its length in seconds.
    pub duration_s: f64,
    /// Who encoded its pictures, in ffmpeg's words; absent when they are as they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<String>,
    /// Seconds it took to make, without its downloads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub render_s: Option<f64>,
}

/// An item that failed on the worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemError {
    /// The item's place in the request.
    pub index: ItemIndex,
    /// What went wrong.
    #[serde(flatten)]
    pub fault: Fault,
    /// True when another attempt would fail in the same way.
    pub permanent: bool,
}

/// What an attempt cost.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Spent {
    /// Seconds from take until now.
    pub taken_s: f64,
    /// Seconds of it that the worker only waited to be fetched from.
    pub linger_s: f64,
}

/// The answer to a signal, and the body of `POST …/wanted`: items that still count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Wanted {
    /// Places in the request; empty: the worker may return at once.
    pub wanted: Vec<ItemIndex>,
}
