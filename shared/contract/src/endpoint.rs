//! How one of RunPod's endpoints stands, by the dispatcher's word.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a dispatcher tells of an endpoint every few seconds; unknown fields are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EndpointNote {
    /// When.
    pub at: Timestamp,
    /// Attempts that may be in flight there.
    pub capacity: u32,
    /// Attempts in flight by RunPod's own count.
    pub in_flight: u32,
    /// Work waits there, and no worker is up.
    pub short: bool,
    /// RunPod refused or failed so often that it is left alone for a while.
    pub resting: bool,
}
