//! The body of /run and /runsync: read, checked, and stripped of what RunPod does not know.

use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value};

use crate::Config;
use crate::faults::problem;
use crate::state::NewJob;

/// Ranges of the policy: RunPod's own, both ends included.
const EXECUTION_TIMEOUT_MIN: Duration = Duration::from_secs(5);
const TTL_MIN: Duration = Duration::from_secs(10);
const POLICY_MAX: Duration = Duration::from_hours(7 * 24);

/// Reads a job, or says why not.
pub(crate) async fn read_job(
    config: &Config,
    body: Body,
    bytes_max: usize,
) -> Result<NewJob, Response> {
    let Ok(bytes) = axum::body::to_bytes(body, bytes_max).await else {
        let size = size(bytes_max);
        return Err(refused(&format!("body: exceeded max body size of {size}")));
    };
    let Ok(Value::Object(body)) = serde_json::from_slice(&bytes) else {
        return Err(refused("body: not a JSON object"));
    };
    new_job(body, !config.lenient_policy).map_err(|detail| refused(&detail))
}

fn refused(detail: &str) -> Response {
    let detail = format!("bad request: {detail}");
    problem(StatusCode::BAD_REQUEST, &detail)
}

fn size(bytes: usize) -> String {
    const MIB: usize = 1024 * 1024;
    if bytes >= MIB {
        format!("{}MiB", bytes / MIB)
    } else {
        format!("{bytes}B")
    }
}

/// Unknown keys of a request are discarded, as RunPod does.
fn new_job(mut body: Map<String, Value>, is_strict: bool) -> Result<NewJob, String> {
    let input = match body.remove("input") {
        None | Some(Value::Null) => return Err("input is required".to_owned()),
        Some(input) => input,
    };
    let webhook = match body.remove("webhook") {
        None | Some(Value::Null) => None,
        Some(Value::String(url)) => Some(url).filter(|url| !url.is_empty()),
        Some(_) => return Err("webhook is not a string".to_owned()),
    };
    body.retain(|key, value| matches!(key.as_str(), "policy" | "s3Config") && value.is_object());
    let policy = body.get("policy").unwrap_or(&Value::Null);
    let execution_timeout = time(policy, "executionTimeout", EXECUTION_TIMEOUT_MIN, is_strict)?;
    let ttl = time(policy, "ttl", TTL_MIN, is_strict)?;
    let low_priority = policy["lowPriority"].as_bool().unwrap_or(false);
    Ok(NewJob {
        input,
        webhook,
        extras: body,
        execution_timeout,
        ttl,
        low_priority,
        sync: false,
    })
}

/// A time of the policy; 0 and `null` mean the default.
fn time(
    policy: &Value,
    key: &str,
    least: Duration,
    is_strict: bool,
) -> Result<Option<Duration>, String> {
    let given = &policy[key];
    if given.is_null() {
        return Ok(None);
    }
    let time = given.as_u64().map(Duration::from_millis);
    let time = time.ok_or_else(|| format!("policy.{key} is not a number of milliseconds"))?;
    if time.is_zero() {
        return Ok(None);
    }
    if is_strict && !(least..=POLICY_MAX).contains(&time) {
        let (least, most) = (least.as_millis(), POLICY_MAX.as_millis());
        return Err(format!("policy.{key} is from {least} to {most}"));
    }
    Ok(Some(time))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(body: Value, is_strict: bool) -> Result<NewJob, String> {
        let Value::Object(body) = body else {
            return Err("not an object".to_owned());
        };
        new_job(body, is_strict)
    }

    #[test]
    fn what_runpod_does_not_know_is_discarded() {
        let body = json!({"input": 1, "policy": {"lowPriority": true}, "s3Config": {"accessId": "a"},
                          "webhook": "", "webhookV2": "x", "other": 1});
        let new = job(body, true).unwrap();
        assert_eq!(
            (new.input, new.webhook, new.low_priority),
            (json!(1), None, true)
        );
        let extras = json!({"policy": {"lowPriority": true}, "s3Config": {"accessId": "a"}});
        assert_eq!(Value::Object(new.extras), extras);
        assert!(job(json!({"input": null}), true).is_err());
        assert!(job(json!({"input": {}, "webhook": 3}), true).is_err());
    }

    #[test]
    fn the_ranges_of_the_policy_hold_unless_lenient() {
        let week = 7 * 24 * 3600 * 1000_u64;
        let with = |key: &str, ms: u64| json!({"input": {}, "policy": {key: ms}});
        for (key, least) in [("executionTimeout", 5000), ("ttl", 10_000)] {
            assert!(job(with(key, least), true).is_ok() && job(with(key, week), true).is_ok());
            assert!(job(with(key, least - 1), true).is_err());
            assert!(job(with(key, week + 1), true).is_err());
            assert!(job(with(key, 1), false).is_ok());
        }
        assert!(job(json!({"input": {}, "policy": {"ttl": "1h"}}), false).is_err());
    }
}
