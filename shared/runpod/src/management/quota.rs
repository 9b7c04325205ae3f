//! RunPod's quota, as it tells it with each answer: `RateLimit: "minute";r=0;t=12`.

use std::time::Duration;

use reqwest::header::{self, HeaderMap};

/// Longest wait that an answer can talk us into; its longest window is a day.
pub(super) const WAIT_MAX: Duration = Duration::from_mins(2);

/// How long to leave RunPod alone: `Retry-After`, else the longest reset of a used-up window.
pub(super) fn wait_of(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let seconds = seconds.or_else(|| {
        let lines = headers.get_all("ratelimit").iter();
        let lines = lines.filter_map(|line| line.to_str().ok());
        lines.filter_map(used_up).max()
    });
    seconds.map(|seconds| Duration::from_secs(seconds).min(WAIT_MAX))
}

/// Seconds until the reset of the window that has nothing left. Both drafts are read:
/// `"minute";r=0;t=12, "hour";r=5;t=900` and `limit=60, remaining=0, reset=12`.
fn used_up(line: &str) -> Option<u64> {
    if line.contains("remaining") {
        return window(line.split(','));
    }
    line.split(',')
        .filter_map(|one| window(one.split(';')))
        .max()
}

fn window<'a>(parts: impl Iterator<Item = &'a str>) -> Option<u64> {
    let (mut left, mut reset) = (None, None);
    for part in parts {
        let Some((name, value)) = part.split_once('=') else {
            continue;
        };
        match name.trim() {
            "r" | "remaining" => left = value.trim().parse::<u64>().ok(),
            "t" | "reset" => reset = value.trim().parse::<u64>().ok(),
            _ => {}
        }
    }
    reset.filter(|_| left == Some(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::{HeaderName, HeaderValue};

    fn wait(name: &'static str, value: &'static str) -> Option<u64> {
        let mut headers = HeaderMap::new();
        let name = HeaderName::from_static(name);
        headers.insert(name, HeaderValue::from_static(value));
        wait_of(&headers).map(|wait| wait.as_secs())
    }

    #[test]
    fn a_used_up_window_says_how_long_to_wait() {
        for (line, seconds) in [
            ("\"minute\";r=0;t=12", Some(12)),
            ("\"minute\";r=3;t=12", None),
            ("\"minute\";r=0;t=12, \"hour\";r=0;t=90", Some(90)),
            ("\"minute\";r=0;t=12, \"hour\";r=9;t=90", Some(12)),
            ("limit=60, remaining=0, reset=7", Some(7)),
            ("limit=60, remaining=1, reset=7", None),
            ("\"day\";r=0;t=86400", Some(120)),
            ("nonsense", None),
        ] {
            assert_eq!(wait("ratelimit", line), seconds, "{line}");
        }
        assert_eq!(wait("retry-after", "3"), Some(3));
        assert_eq!(wait("retry-after", "soon"), None);
    }
}
