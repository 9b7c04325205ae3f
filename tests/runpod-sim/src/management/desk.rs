//! What the management APIs have of their own: templates and a quota.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderName, HeaderValue};
use serde_json::Value;

/// RunPod's sample quota: calls in a minute.
const CALLS: f64 = 60.0;
const WINDOW: Duration = Duration::from_mins(1);

/// Templates and the quota.
#[derive(Debug)]
pub(super) struct Desk {
    /// Calls in a minute; `None`: as many as one likes.
    calls_max: Option<u64>,
    window: Mutex<Option<(Instant, u64)>>,
    templates: Mutex<BTreeMap<String, Value>>,
}

impl Desk {
    /// `factor` multiplies the quota, `None` lifts it.
    pub(super) fn new(factor: Option<f64>) -> Self {
        Self {
            calls_max: factor.map(|factor| (CALLS * factor).ceil() as u64),
            window: Mutex::default(),
            templates: Mutex::default(),
        }
    }

    /// Templates by id, as REST v2 writes them.
    pub(super) fn templates(&self) -> MutexGuard<'_, BTreeMap<String, Value>> {
        self.templates
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call. `factor` is how much faster than real the clock goes: callers wait in real
    /// time.
    pub(super) fn count(&self, now: Instant, factor: f64) -> Quota {
        let Some(max) = self.calls_max else {
            return Quota {
                is_over: false,
                left: CALLS as u64,
                max: CALLS as u64,
                reset_s: 0,
            };
        };
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, count) = match *window {
            Some((since, count)) if now.saturating_duration_since(since) < WINDOW => (since, count),
            Some(_) | None => (now, 0),
        };
        let is_over = count >= max;
        let count = count + u64::from(!is_over);
        *window = Some((since, count));
        let rest = WINDOW.saturating_sub(now.saturating_duration_since(since));
        Quota {
            is_over,
            left: max - count,
            max,
            reset_s: (rest.as_secs_f64() / factor).ceil() as u64,
        }
    }
}

/// What is left of the quota after a call.
#[derive(Debug)]
pub(super) struct Quota {
    /// The call is one too many.
    pub(super) is_over: bool,
    left: u64,
    max: u64,
    /// Real seconds until there is a new one.
    pub(super) reset_s: u64,
}

impl Quota {
    pub(super) fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        let limit = format!("\"minute\";r={};t={}", self.left, self.reset_s);
        let policy = format!("\"minute\";q={};w=60", self.max);
        let pairs = [("ratelimit", limit), ("ratelimit-policy", policy)];
        pairs
            .into_iter()
            .filter_map(|(name, value)| {
                Some((
                    HeaderName::from_static(name),
                    HeaderValue::try_from(value).ok()?,
                ))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minutes_quota_is_used_up_and_comes_back() {
        let (desk, start) = (Desk::new(Some(0.05)), Instant::now());
        let over = |at: Duration| desk.count(start + at, 1.0).is_over;
        assert!(!over(Duration::ZERO) && !over(Duration::ZERO) && !over(Duration::ZERO));
        let quota = desk.count(start + Duration::from_secs(20), 10.0);
        assert!(quota.is_over);
        assert_eq!(quota.reset_s, 4, "40 s of the clock, 4 s of the caller");
        let headers = quota.headers();
        assert_eq!(headers[0].1, "\"minute\";r=0;t=4");
        assert!(!over(Duration::from_secs(61)));
        assert!(!Desk::new(None).count(start, 1.0).is_over);
    }
}
