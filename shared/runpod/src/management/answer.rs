//! An answer of REST v2: JSON, or a problem document, or a page of whoever stands between.

use reqwest::{Response, StatusCode};
use serde_json::Value;

use super::error::ManagementError;
use super::quota;

/// Most that is read of an answer, bytes.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Characters of a refusal that are kept.
const DETAIL_CHARS_MAX: usize = 512;
/// Faults of a refusal that are kept.
const ERRORS_MAX: usize = 20;

/// An answer in a shape that REST v2 does not have.
pub(super) fn not_understood(path: &str) -> ManagementError {
    ManagementError::Unavailable {
        call: format!("/v2/{path}"),
        status: 200,
        detail: "the answer is not one of REST v2".to_owned(),
    }
}

/// The answer as JSON (nothing: null), or what it says went wrong.
pub(super) async fn read(mut response: Response, call: String) -> Result<Value, ManagementError> {
    let status = response.status();
    let retry_after = quota::wait_of(response.headers());
    let mut bytes = Vec::new();
    let cut = |source: reqwest::Error| ManagementError::Cut {
        call: call.clone(),
        source: source.without_url(),
    };
    while let Some(chunk) = response.chunk().await.map_err(cut)? {
        if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
            break;
        }
        bytes.extend_from_slice(&chunk);
    }
    let parsed: Option<Value> = serde_json::from_slice(&bytes).ok();
    if status.is_success() {
        return match parsed {
            Some(value) => Ok(value),
            None if bytes.is_empty() => Ok(Value::Null),
            None => Err(not_understood(
                call.rsplit("/v2/").next().unwrap_or_default(),
            )),
        };
    }
    let (detail, errors) = match &parsed {
        Some(value) => (detail_of(value), errors_of(value)),
        None => (beginning(&String::from_utf8_lossy(&bytes)), Vec::new()),
    };
    let code = status.as_u16();
    Err(match status {
        StatusCode::NOT_FOUND => ManagementError::NotFound { call, detail },
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ManagementError::Unauthorized {
            call,
            status: code,
            detail,
        },
        StatusCode::TOO_MANY_REQUESTS => ManagementError::RateLimited { call, retry_after },
        // The edge may answer 408 after it has passed the call on.
        other if other.is_client_error() && other != StatusCode::REQUEST_TIMEOUT => {
            ManagementError::Refused {
                call,
                status: code,
                detail,
                errors,
            }
        }
        _ => ManagementError::Unavailable {
            call,
            status: code,
            detail,
        },
    })
}

/// The sentence of a problem document, or of version 1's `message`.
fn detail_of(value: &Value) -> String {
    let names = ["detail", "message", "error", "title"];
    let named = names.iter().find_map(|name| value[*name].as_str());
    beginning(
        named
            .map_or_else(|| value.to_string(), str::to_owned)
            .as_str(),
    )
}

/// `errors` of a problem document: texts, or objects with a place and a message.
fn errors_of(value: &Value) -> Vec<String> {
    let rows = value["errors"].as_array().map(Vec::as_slice);
    let one = |row: &Value| {
        let first = |names: &[&str]| names.iter().find_map(|name| row[*name].as_str());
        let place = first(&["field", "location", "pointer", "path"]);
        let message = first(&["message", "detail", "reason"]);
        match (row.as_str(), place, message) {
            (Some(text), ..) => beginning(text),
            (None, Some(place), Some(message)) => beginning(&format!("{place}: {message}")),
            (None, None, Some(message)) => beginning(message),
            _ => beginning(&row.to_string()),
        }
    };
    rows.unwrap_or_default()
        .iter()
        .take(ERRORS_MAX)
        .map(one)
        .collect()
}

fn beginning(text: &str) -> String {
    text.trim().chars().take(DETAIL_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_fault_of_a_problem_is_kept_whatever_its_shape() {
        let value = json!({"title": "Unprocessable Entity", "status": 422, "detail": "two faults",
            "errors": ["a text", {"location": "body.name", "message": "is required"},
                       {"message": "alone"}, {"odd": 1}]});
        assert_eq!(detail_of(&value), "two faults");
        assert_eq!(
            errors_of(&value),
            ["a text", "body.name: is required", "alone", "{\"odd\":1}"]
        );
        assert_eq!(detail_of(&json!({"message": "version 1"})), "version 1");
    }
}
