//! What Photofinish decides, as pure functions.
//!
//! The nouns: a [`JobSnapshot`] is one job in one run with a row for each of its items; a *part*
//! ([`part`]) is the slice of a job that one GPU attempt does; an *attempt* ([`attempt`]) is one
//! submission of a part, watched until it is over; a *delivery* ([`delivery`]) is one event on its
//! way to one receiver, which may be a *webhook endpoint* ([`webhook`]) and is called over a *line* ([`line`]); a
//! *run* ([`run`]) is what ends.
//!
//! The guarantee: nothing here reads a clock, a socket or a random number. Time and jitter are
//! parameters, so every decision can be replayed, and the seven laws (total, final, replay, stale,
//! alive, bounded, conserved) are property tests in `tests/laws.rs`.
//!
//! Not for: wire formats (`contract`), records (`jobstore`, `objects`), anything that waits.

pub mod attempt;
pub mod breaker;
mod code;
pub mod delivery;
pub mod endpoint;
pub mod estimate;
mod ids;
mod item;
pub mod line;
mod operation;
pub mod part;
pub mod plan;
pub mod quota;
pub mod run;
pub mod sequence;
mod snapshot;
pub mod webhook;

pub use code::{Code, Fault};
pub use ids::{AttemptRef, IdError, ItemIndex, JobId, Nonce, RunPodId, SlotName, Tenant};
pub use item::{ItemRow, ItemState, OutputSource, StoredOutput};
pub use operation::{Operation, Priority};
pub use snapshot::{Counts, JobSnapshot, JobStatus, OnItemError, Usage};
