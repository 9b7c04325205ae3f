//! The headers of Standard Webhooks 1.0. Public so that the standard's official libraries can be held against it.

use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use standardwebhooks::{
    HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook, WebhookError,
};

/// A webhook cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// There is no secret to sign with.
    #[error("there is no signing secret")]
    NoSecret,
    /// A secret or an id that is none of Standard Webhooks.
    #[error("sign by Standard Webhooks")]
    Standard(#[from] WebhookError),
}

/// The headers that sign `body` under every one of the secrets; while one is being replaced there are two.
///
/// `secrets` is what sealed secrets open to: one or more `whsec_…`, the newest first, with spaces between.
pub fn headers(
    secrets: &str,
    event_id: &str,
    now: Timestamp,
    body: &[u8],
) -> Result<HeaderMap, SignError> {
    let signatures = secrets
        .split_whitespace()
        .map(|secret| Webhook::new(secret)?.sign(event_id, now.as_second(), body))
        .collect::<Result<Vec<String>, WebhookError>>()?;
    if signatures.is_empty() {
        return Err(SignError::NoSecret);
    }
    let mut headers = HeaderMap::new();
    let content_type = HeaderValue::from_static("application/json");
    headers.insert(http::header::CONTENT_TYPE, content_type);
    for (name, value) in [
        (HEADER_WEBHOOK_ID, event_id.to_owned()),
        (HEADER_WEBHOOK_TIMESTAMP, now.as_second().to_string()),
        (HEADER_WEBHOOK_SIGNATURE, signatures.join(" ")),
    ] {
        let value = HeaderValue::try_from(value).map_err(|_| WebhookError::InvalidHeader(name))?;
        headers.insert(HeaderName::from_static(name), value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use photofinish_runtime::Clock;

    const NEW: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const OLD: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

    #[test]
    fn a_reader_with_either_secret_accepts_while_one_is_replaced() {
        let (now, body) = (Clock::system().now(), b"{\"type\":\"job.completed\"}");
        let headers = headers(&format!("{NEW} {OLD}"), "evt_1", now, body).unwrap();
        assert_eq!(headers[HEADER_WEBHOOK_ID], "evt_1");
        for secret in [NEW, OLD] {
            Webhook::new(secret)
                .unwrap()
                .verify(body, &headers)
                .unwrap();
        }
        let other = Webhook::new("whsec_AAAAAAAAAAAAAAAAAAAAAAAA").unwrap();
        assert!(other.verify(body, &headers).is_err());
        assert!(Webhook::new(NEW).unwrap().verify(b"{}", &headers).is_err());
    }

    #[test]
    fn the_signatures_are_those_of_the_standards_own_examples() {
        for (secret, at, id, body, expected) in [
            (
                NEW,
                1_614_265_330,
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                r#"{"test": 2432232314}"#,
                "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            ),
            (
                OLD,
                1_649_367_553,
                "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
                r#"{"email":"test@example.com","username":"test_user"}"#,
                "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
            ),
        ] {
            let at = Timestamp::from_second(at).unwrap();
            let headers = headers(secret, id, at, body.as_bytes()).unwrap();
            assert_eq!(headers[HEADER_WEBHOOK_SIGNATURE], expected);
        }
    }

    #[test]
    fn a_secret_that_is_none_is_an_error() {
        let now = Timestamp::UNIX_EPOCH;
        assert!(headers("", "evt_1", now, b"{}").is_err());
        assert!(headers("whsec_no base64!", "evt_1", now, b"{}").is_err());
    }
}
