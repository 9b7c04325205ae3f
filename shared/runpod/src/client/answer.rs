//! Answers of RunPod, and of what stands before it: read with a limit, never trusted to be JSON.

use std::time::Duration;

use reqwest::header::{self, HeaderMap};
use reqwest::{Response, StatusCode};
use serde_json::Value;

use super::error::{RunError, StatusError, Unknown};
use super::types::{RunAccepted, StatusAnswer};

/// How much of a refusal's body is kept for people, in characters.
const DETAIL_CHARS_MAX: usize = 512;

/// An answer as JSON, or what its status means.
pub(super) async fn read_json(response: Response, bytes_max: usize) -> Result<Value, StatusError> {
    let status = response.status();
    let retry_after = retry_after(response.headers());
    let body = read_body(response, bytes_max).await;
    if status.is_success() {
        let body = body?;
        return serde_json::from_slice(&body)
            .map_err(|_| StatusError::not_understood("the answer is not JSON"));
    }
    let detail = body.map(|bytes| detail_of(&bytes)).unwrap_or_default();
    let status = status.as_u16();
    Err(StatusError::from_status(status, retry_after, detail))
}

/// The state in an answer.
pub(super) fn state_of(value: Value) -> Result<StatusAnswer, StatusError> {
    StatusAnswer::from_value(value)
        .ok_or_else(|| StatusError::not_understood("the answer has no status"))
}

/// The answer to a submit. A 4xx is a refusal, except 408, which RunPod's edge may send after
/// passing the call on.
pub(super) async fn read_run_answer(
    response: Response,
    bytes_max: usize,
) -> Result<RunAccepted, RunError> {
    let status = response.status();
    let retry_after = retry_after(response.headers());
    let body = read_body(response, bytes_max).await;
    if status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT {
        let detail = body.map(|bytes| detail_of(&bytes)).unwrap_or_default();
        return Err(RunError::Refused {
            status: status.as_u16(),
            retry_after,
            detail,
        });
    }
    let unknown = |detail: String| {
        RunError::Unknown(Unknown::Answer {
            status: status.as_u16(),
            detail,
        })
    };
    if !status.is_success() {
        return Err(unknown(
            body.map(|bytes| detail_of(&bytes)).unwrap_or_default(),
        ));
    }
    let body = match body {
        Ok(body) => body,
        Err(StatusError::Transport(source)) => {
            return Err(RunError::Unknown(Unknown::Transport(source)));
        }
        Err(other) => return Err(unknown(other.to_string())),
    };
    let value: Value = serde_json::from_slice(&body).map_err(|_| unknown(detail_of(&body)))?;
    RunAccepted::from_value(&value).ok_or_else(|| unknown(detail_of(&body)))
}

async fn read_body(mut response: Response, bytes_max: usize) -> Result<Vec<u8>, StatusError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(StatusError::transport)? {
        if bytes.len() + chunk.len() > bytes_max {
            return Err(StatusError::not_understood(
                "the answer is larger than the limit",
            ));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// The sentence in a problem body, or the beginning of whatever came instead.
fn detail_of(body: &[u8]) -> String {
    let parsed: Option<Value> = serde_json::from_slice(body).ok();
    let named = parsed.as_ref().and_then(|value| {
        ["detail", "error", "message", "title"]
            .iter()
            .find_map(|key| value[*key].as_str())
    });
    let text = match named {
        Some(text) => text.to_owned(),
        None => String::from_utf8_lossy(body).into_owned(),
    };
    text.chars().take(DETAIL_CHARS_MAX).collect()
}

/// Seconds, or a date measured against the answer's own `Date`, so that no clock is read here.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    let now = headers.get(header::DATE)?.to_str().ok()?;
    let now = jiff::fmt::rfc2822::parse(now).ok()?.timestamp();
    Some(Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    fn headers(pairs: &[(header::HeaderName, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(k, v)| (k.clone(), HeaderValue::from_static(v)))
            .collect()
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        let seconds = headers(&[(header::RETRY_AFTER, "7")]);
        assert_eq!(retry_after(&seconds), Some(Duration::from_secs(7)));
        let date = headers(&[
            (header::RETRY_AFTER, "Wed, 21 Oct 2026 07:28:30 GMT"),
            (header::DATE, "Wed, 21 Oct 2026 07:28:00 GMT"),
        ]);
        assert_eq!(retry_after(&date), Some(Duration::from_secs(30)));
        let soon = headers(&[(header::RETRY_AFTER, "soon")]);
        assert_eq!(retry_after(&soon), None);
    }

    #[test]
    fn details_come_from_problem_bodies_and_from_edge_pages() {
        let problem = detail_of(br#"{"detail":"endpoint not found"}"#);
        assert_eq!(problem, "endpoint not found");
        let page = detail_of(b"<html>bad gateway</html>");
        assert_eq!(page, "<html>bad gateway</html>");
        assert_eq!(detail_of(&[b'x'; 4000]).len(), DETAIL_CHARS_MAX);
    }
}
