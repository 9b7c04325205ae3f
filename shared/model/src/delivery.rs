//! One event on its way to one receiver: delivered, tried again, or given up.
//!
//! The nouns: a *try* is one call of the receiver; the *schedule* holds the pauses between tries; a *round* is the
//! schedule from its begin, and a replay begins a new one.
//!
//! The guarantee: a delivery ends within [`TRIES_MAX`] tries and about the length of the schedule, and no receiver
//! shortens that by asking to be called again soon: what a `Retry-After` brings forward spends no step. What waits
//! because its receiver cannot be called spends none either, and ends at [`LATE_MAX`].
//!
//! Not for: what a try says about the receiver as such (`webhook`), and whether it may be called now (`line`).

use serde::{Deserialize, Serialize};
use std::time::Duration;
use utoipa::ToSchema;

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
/// The shortest pause that a `Retry-After` can ask for.
pub const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);
/// Tries within which a `Retry-After` is obeyed to the second; later ones wait for a tenth of the schedule's own pause
/// at least, so that nobody is called every second for three days.
pub const OBEYED_EXACTLY_MAX: u16 = 30;
/// Tries of a round at most.
pub const TRIES_MAX: u16 = 150;
/// A round that is so old is given up when its receiver still cannot be called: longer than the schedule by far, and
/// shorter than it takes to disable an endpoint.
pub const LATE_MAX: Duration = Duration::from_secs(4 * 24 * 3600);
/// Waits may come out shorter than they were drawn by this share: they are rounded on their way.
const SLACK: f64 = 0.01;

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
/// `tries` counts the tries of the round, this one included; `age` is the time since the round's first one; `jitter`
/// is drawn outside, 0 to 1.
pub fn after(
    status: DeliveryStatus,
    tries: u16,
    age: Duration,
    answer: Answer,
    jitter: f64,
) -> Next {
    match status {
        DeliveryStatus::Delivered => return Next::Delivered,
        DeliveryStatus::Failed => return Next::GiveUp,
        DeliveryStatus::Pending => {}
    }
    let scheduled = scheduled(tries, age, jitter);
    match answer {
        Answer::Status {
            status: 200..=299, ..
        } => Next::Delivered,
        Answer::Status { status: 410, .. } => Next::Disable,
        Answer::Status {
            status: 429 | 503,
            retry_after: Some(wanted),
        } => scheduled.map_or(Next::GiveUp, |own| {
            let least = if tries <= OBEYED_EXACTLY_MAX {
                RETRY_AFTER_MIN
            } else {
                (own / 10).clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX)
            };
            Next::RetryIn(wanted.clamp(least, RETRY_AFTER_MAX))
        }),
        Answer::Status { .. } | Answer::NoAnswer => scheduled.map_or(Next::GiveUp, Next::RetryIn),
        Answer::Refused => Next::GiveUp,
    }
}

/// Decides what follows when a try is due and its receiver cannot be called: it waits so long and spends no try,
/// unless its round is older than [`LATE_MAX`].
pub fn uncalled(age: Duration, wait: Duration) -> Next {
    if age < LATE_MAX {
        Next::RetryIn(wait)
    } else {
        Next::GiveUp
    }
}

/// How many of a round's tries have spent a step of the schedule: no more than it has room for in `age`. Those that
/// came sooner were asked for by a `Retry-After`, or counted while nobody could be asked.
pub fn spent(tries: u16, age: Duration) -> u16 {
    let pauses = SCHEDULE.iter().scan(Duration::ZERO, |sum, pause| {
        *sum += pause.mul_f64((1.0 - JITTER) * (1.0 - SLACK));
        Some(*sum)
    });
    let possible = 1 + pauses.filter(|since| *since <= age).count();
    tries.min(u16::try_from(possible).unwrap_or(u16::MAX))
}

fn scheduled(tries: u16, age: Duration, jitter: f64) -> Option<Duration> {
    if tries >= TRIES_MAX {
        return None;
    }
    let pause = SCHEDULE.get(usize::from(spent(tries, age).max(1)) - 1)?;
    Some(pause.mul_f64(1.0 - JITTER + 2.0 * JITTER * jitter.clamp(0.0, 1.0)))
}
