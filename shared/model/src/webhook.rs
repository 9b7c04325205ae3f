//! A webhook endpoint: whether it is well, when it is disabled, and which secrets sign for it.
//!
//! The nouns: a *streak* ([`Failing`]) is a row of failed calls without a good one between them; a [`Former`] secret
//! was replaced and signs beside its successor until its end.
//!
//! The guarantee: an endpoint is disabled for failing only when nothing was taken for [`FAILING_MAX`] and it was
//! called in that time without long gaps, whatever was forgotten meanwhile; a good call ends a streak at once. What
//! must be kept ([`owed`]) changes a few times a day, not with each call.
//!
//! Not for: what becomes of a delivery (`delivery`).

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use utoipa::ToSchema;

/// An endpoint that has failed for so long is disabled.
pub const FAILING_MAX: SignedDuration = SignedDuration::from_hours(5 * 24);
/// Between two failed calls of one streak. The schedule's longest pause is 26.4 hours.
const GAP_MAX: SignedDuration = SignedDuration::from_hours(48);
/// A streak of this length is kept where nothing is forgotten.
const KEPT_FROM: SignedDuration = SignedDuration::from_hours(1);
/// And kept anew so often: less than [`GAP_MAX`] less the longest pause.
const KEPT_EVERY: SignedDuration = SignedDuration::from_hours(12);

/// How long a replaced secret goes on signing when nothing is said.
pub const OVERLAP_DEFAULT: Duration = Duration::from_secs(24 * 3600);
/// And at most.
pub const OVERLAP_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Replaced secrets that sign at once, at most: each is a signature in a header.
pub const FORMER_MAX: usize = 9;

/// A streak of failed calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failing {
    /// The first one.
    pub since: Timestamp,
    /// The newest one.
    pub last: Timestamp,
}

/// What a call says about the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// It took the webhook.
    Good,
    /// It did not.
    Bad,
    /// It said 410.
    Gone,
}

/// Why an endpoint was disabled by us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It answered 410.
    Gone,
    /// Nothing was taken for five days.
    Failing,
}

impl Cause {
    /// What happened and what to do, for the endpoint's owner.
    pub fn detail(self) -> &'static str {
        match self {
            Self::Gone => {
                "it answered 410 Gone; enable it again when it is back, with replay_since for what it missed"
            }
            Self::Failing => {
                "it took nothing for five days; mend it, then enable it again, with replay_since for what it missed"
            }
        }
    }
}

/// What follows from a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Judgement {
    /// The streak as it stands now.
    pub failing: Option<Failing>,
    /// Whether the endpoint is to be disabled.
    pub disable: Option<Cause>,
}

/// Judges an endpoint after a call; `failing` is what is known of it.
pub fn judge(failing: Option<Failing>, call: Call, now: Timestamp) -> Judgement {
    let bad = || match failing {
        Some(streak) if now.duration_since(streak.last) <= GAP_MAX => Failing {
            since: streak.since.min(now),
            last: streak.last.max(now),
        },
        Some(_) | None => Failing {
            since: now,
            last: now,
        },
    };
    match call {
        Call::Good => Judgement {
            failing: None,
            disable: None,
        },
        Call::Gone => Judgement {
            failing: None,
            disable: Some(Cause::Gone),
        },
        Call::Bad => {
            let streak = bad();
            let length = streak.last.duration_since(streak.since);
            Judgement {
                failing: Some(streak),
                disable: (length >= FAILING_MAX).then_some(Cause::Failing),
            }
        }
    }
}

/// Whether `known` must be written where nothing is forgotten, which has `kept`.
pub fn owed(kept: Option<Failing>, known: Option<Failing>) -> bool {
    let Some(known) = known else {
        return kept.is_some();
    };
    match kept {
        Some(kept) if kept.since == known.since => {
            known.last.duration_since(kept.last) >= KEPT_EVERY
        }
        Some(_) | None => known.last.duration_since(known.since) >= KEPT_FROM,
    }
}

/// What of an endpoint decides whether a wish to disable it still counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Whether it is enabled.
    pub enabled: bool,
    /// When its owner last enabled it.
    pub enabled_at: Option<Timestamp>,
    /// When we last disabled it, if its owner did not enable it since.
    pub disabled_at: Option<Timestamp>,
}

/// What becomes of a wish to disable an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Disabling {
    /// It is disabled now, and that is told.
    Now,
    /// This very wish has disabled it: it is told again.
    Done,
    /// It was disabled otherwise, or enabled since.
    Void,
}

/// Decides about a wish of the moment `at` to disable an endpoint.
pub fn disabling(standing: Standing, at: Timestamp) -> Disabling {
    if !standing.enabled {
        return if standing.disabled_at == Some(at) {
            Disabling::Done
        } else {
            Disabling::Void
        };
    }
    if standing.enabled_at.is_some_and(|enabled| enabled >= at) {
        Disabling::Void
    } else {
        Disabling::Now
    }
}

/// A secret that was replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// The secret, sealed.
    pub sealed: String,
    /// It signs until then.
    pub until: Timestamp,
}

/// More secrets than [`FORMER_MAX`] would sign beside the new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{FORMER_MAX} replaced secrets still sign")]
pub struct TooManySecrets;

/// The replaced secrets after `current` was replaced, the newest first. Those before it keep their ends; an overlap
/// of nothing ends all of them, since that is for a secret that got out.
pub fn rotate(
    former: &[Former],
    current: String,
    overlap: Duration,
    now: Timestamp,
) -> Result<Vec<Former>, TooManySecrets> {
    if overlap.is_zero() {
        return Ok(Vec::new());
    }
    let until = now
        .checked_add(overlap.min(OVERLAP_MAX))
        .unwrap_or(Timestamp::MAX);
    let newest = Former {
        sealed: current,
        until,
    };
    let left: Vec<Former> = std::iter::once(newest)
        .chain(former.iter().filter(|old| old.until > now).cloned())
        .collect();
    if left.len() > FORMER_MAX {
        return Err(TooManySecrets);
    }
    Ok(left)
}

/// What signs now, the newest first.
pub fn signing<'a>(
    current: &'a str,
    former: &'a [Former],
    now: Timestamp,
) -> impl Iterator<Item = &'a str> {
    let left = former.iter().filter(move |old| old.until > now);
    std::iter::once(current).chain(left.map(|old| old.sealed.as_str()))
}
