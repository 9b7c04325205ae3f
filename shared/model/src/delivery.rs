//! One event on its way to one receiver: delivered, tried again, or given up.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Pauses before the second and every further try.
pub const SCHEDULE: [Duration; 9] = [
    Duration::from_secs(5),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 3600),
    Duration::from_secs(5 * 3600),
    Duration::from_secs(10 * 3600),
    Duration::from_secs(14 * 3600),
    Duration::from_secs(20 * 3600),
    Duration::from_secs(24 * 3600),
];
/// Each pause is longer or shorter by up to this share.
pub const JITTER: f64 = 0.1;
/// A `Retry-After` is obeyed up to this.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryStatus {
    /// Due, or waiting for its next try.
    Pending,
    /// The receiver has it.
    Delivered,
    /// Given up.
    Failed,
}

/// How a try came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The receiver answered.
    Status {
        /// The HTTP status.
        status: u16,
        /// Its `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// No answer in time, or no connection.
    NoAnswer,
    /// The address may never be called, or the receiver is gone or disabled.
    Refused,
}

/// What follows from a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Next {
    /// The receiver has it.
    Delivered,
    /// Try again after this.
    RetryIn(Duration),
    /// Given up.
    GiveUp,
    /// Given up, and the endpoint is disabled: it said 410.
    Disable,
}

impl Next {
    /// Where the delivery stands from now on.
    pub fn status(self) -> DeliveryStatus {
        match self {
            Self::Delivered => DeliveryStatus::Delivered,
            Self::RetryIn(_) => DeliveryStatus::Pending,
            Self::GiveUp | Self::Disable => DeliveryStatus::Failed,
        }
    }
}

/// Decides what follows from a try.
///
/// `tries` counts the tries made, this one included; `jitter` is drawn outside, 0 to 1.
pub fn after(status: DeliveryStatus, tries: u16, answer: Answer, jitter: f64) -> Next {
    match status {
        DeliveryStatus::Delivered => return Next::Delivered,
        DeliveryStatus::Failed => return Next::GiveUp,
        DeliveryStatus::Pending => {}
    }
    match answer {
        Answer::Status {
            status: 200..=299, ..
        } => Next::Delivered,
        Answer::Status { status: 410, .. } => Next::Disable,
        Answer::Status {
            status: 429 | 503,
            retry_after: Some(wanted),
        } => scheduled(tries, jitter).map_or(Next::GiveUp, |_| {
            Next::RetryIn(wanted.clamp(Duration::from_secs(1), RETRY_AFTER_MAX))
        }),
        Answer::Status { .. } | Answer::NoAnswer => {
            scheduled(tries, jitter).map_or(Next::GiveUp, Next::RetryIn)
        }
        Answer::Refused => Next::GiveUp,
    }
}

fn scheduled(tries: u16, jitter: f64) -> Option<Duration> {
    let pause = SCHEDULE.get(usize::from(tries.max(1)) - 1)?;
    Some(pause.mul_f64(1.0 - JITTER + 2.0 * JITTER * jitter.clamp(0.0, 1.0)))
}
