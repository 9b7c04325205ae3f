//! Runs, their status, and the endpoint's health: RunPod's data plane as a client sees it.
//!
//! One [`Client`] per process: it holds the connections and the rate limits of each operation,
//! set well below RunPod's own. It makes each call once; retrying is the caller's decision,
//! because only the caller knows whether doing it twice is harmless.

mod error;
mod limiter;
mod types;

use std::time::Duration;

use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Method, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

pub use self::error::{BuildError, RunError, StatusError, Unknown};
pub use self::limiter::OperationLimit;
pub use self::types::{
    Health, JobCounts, JobFault, JobStatus, RunAccepted, RunRequest, StatusAnswer, WorkerCounts,
};

use self::limiter::Limiter;

/// RunPod's own data plane.
pub const DEFAULT_BASE_URL: &str = "https://api.runpod.ai/v2";

/// What RunPod accepts as the body of `/run`, in bytes (its documents say 10 MB).
pub const RUN_BODY_BYTES_MAX: usize = 10_000_000;

/// The most that is read of any answer, in bytes: a status carries up to 20 MB of output.
pub const ANSWER_BYTES_MAX: usize = 24 * 1024 * 1024;

/// How much of a refusal's body is kept for people, in characters.
const DETAIL_CHARS_MAX: usize = 512;

/// How the client reaches RunPod and how often it may.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// Base of the data plane with `/v2`, without a trailing slash.
    pub base_url: String,
    /// The account's key, sent as a bearer token.
    pub api_key: SecretString,
    /// Time to open a connection, TLS included.
    pub connect_timeout: Duration,
    /// Whole call of `/run`.
    pub run_timeout: Duration,
    /// Whole call of `/status`.
    pub status_timeout: Duration,
    /// Whole call of `/cancel` and of `/health`.
    pub control_timeout: Duration,
    /// Limit of `/run`. RunPod's own: 1000 in 10 s, 200 at once.
    pub run_limit: OperationLimit,
    /// Limit of `/status`. RunPod's own: 2000 in 10 s, 400 at once.
    pub status_limit: OperationLimit,
    /// Limit of `/cancel`. RunPod's own: 100 in 10 s, 20 at once.
    pub cancel_limit: OperationLimit,
    /// Limit of `/health`. RunPod publishes none.
    pub health_limit: OperationLimit,
    /// Largest body of `/run` that is sent at all, in bytes.
    pub run_body_bytes_max: usize,
}

impl ClientSettings {
    /// Settings with the defaults for everything but the address and the key.
    pub fn new(base_url: impl Into<String>, api_key: SecretString) -> Self {
        Self {
            base_url: base_url.into(),
            api_key,
            connect_timeout: Duration::from_secs(5),
            run_timeout: Duration::from_secs(15),
            status_timeout: Duration::from_secs(10),
            control_timeout: Duration::from_secs(10),
            run_limit: OperationLimit {
                per_10s: 500,
                concurrent: 100,
            },
            status_limit: OperationLimit {
                per_10s: 1000,
                concurrent: 200,
            },
            cancel_limit: OperationLimit {
                per_10s: 50,
                concurrent: 10,
            },
            health_limit: OperationLimit {
                per_10s: 50,
                concurrent: 10,
            },
            run_body_bytes_max: RUN_BODY_BYTES_MAX,
        }
    }
}

/// The data plane of RunPod, for all endpoints of one account.
///
/// Shared by reference (`Arc`) among tasks; dropping a call's future abandons the call.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    base_url: String,
    settings: ClientSettings,
    run_limiter: Limiter,
    status_limiter: Limiter,
    cancel_limiter: Limiter,
    health_limiter: Limiter,
}

impl Client {
    /// Makes a client; opens no connection yet.
    pub fn new(settings: ClientSettings) -> Result<Self, BuildError> {
        crate::install_tls_provider();
        let bearer = format!("Bearer {}", settings.api_key.expose_secret());
        let mut authorization =
            HeaderValue::try_from(bearer).map_err(|_| BuildError::KeyNotAHeader)?;
        authorization.set_sensitive(true);
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, authorization);
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let base_url = settings.base_url.trim_end_matches('/').to_owned();
        let base = reqwest::Url::parse(&base_url).map_err(|_| BuildError::BaseUrl)?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(BuildError::BaseUrl);
        }
        let http = reqwest::Client::builder()
            .default_headers(headers)
            .user_agent(concat!("photofinish/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(settings.connect_timeout)
            .pool_idle_timeout(Duration::from_secs(30))
            .tcp_nodelay(true)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(BuildError::Http)?;
        Ok(Self {
            http,
            base_url,
            run_limiter: Limiter::new(settings.run_limit),
            status_limiter: Limiter::new(settings.status_limit),
            cancel_limiter: Limiter::new(settings.cancel_limit),
            health_limiter: Limiter::new(settings.health_limit),
            settings,
        })
    }

    /// Submits a run, once. [`RunError::is_refused`] says whether it may be submitted again;
    /// anything else may already be in RunPod's queue.
    pub async fn run(
        &self,
        endpoint_id: &str,
        request: &RunRequest,
    ) -> Result<RunAccepted, RunError> {
        let body = request.to_body();
        let (bytes, max) = (body.len(), self.settings.run_body_bytes_max);
        if bytes > max {
            return Err(RunError::TooLarge { bytes, max });
        }
        let _permit = self.run_limiter.admit().await;
        let sent = self
            .http
            .post(self.url(endpoint_id, "run", None))
            .header(header::CONTENT_TYPE, "application/json")
            .timeout(self.settings.run_timeout)
            .body(body)
            .send()
            .await;
        let result = match sent {
            Ok(response) => read_run_answer(response).await,
            Err(source) if source.is_connect() => Err(RunError::NotSent {
                source: source.without_url(),
            }),
            Err(source) => Err(RunError::Unknown(Unknown::Transport(source.without_url()))),
        };
        count(
            "run",
            result.as_ref().map_or_else(RunError::label, |_| "ok"),
        );
        result
    }

    /// Asks for the state of a run.
    pub async fn status(
        &self,
        endpoint_id: &str,
        run_id: &str,
    ) -> Result<StatusAnswer, StatusError> {
        let _permit = self.status_limiter.admit().await;
        let url = self.url(endpoint_id, "status", Some(run_id));
        let timeout = self.settings.status_timeout;
        let result = self
            .call(Method::GET, url, timeout, None)
            .await
            .and_then(answer_of);
        count(
            "status",
            result.as_ref().map_or_else(StatusError::label, |_| "ok"),
        );
        result
    }

    /// Cancels a run, queued or running. [`StatusError::NotFound`] means that there is nothing
    /// left to cancel. A run that has already ended may be answered with its final state or
    /// with a refusal: the caller asks `/status` for the truth.
    pub async fn cancel(
        &self,
        endpoint_id: &str,
        run_id: &str,
    ) -> Result<StatusAnswer, StatusError> {
        let _permit = self.cancel_limiter.admit().await;
        let url = self.url(endpoint_id, "cancel", Some(run_id));
        let timeout = self.settings.control_timeout;
        let body = Some(json!({}));
        let result = self
            .call(Method::POST, url, timeout, body)
            .await
            .and_then(answer_of);
        count(
            "cancel",
            result.as_ref().map_or_else(StatusError::label, |_| "ok"),
        );
        result
    }

    /// Counts of jobs and workers of an endpoint. Counters that RunPod leaves out are 0.
    pub async fn health(&self, endpoint_id: &str) -> Result<Health, StatusError> {
        let _permit = self.health_limiter.admit().await;
        let url = self.url(endpoint_id, "health", None);
        let timeout = self.settings.control_timeout;
        let result = self
            .call(Method::GET, url, timeout, None)
            .await
            .and_then(|value| {
                serde_json::from_value(value).map_err(|_| StatusError::not_understood("health"))
            });
        count(
            "health",
            result.as_ref().map_or_else(StatusError::label, |_| "ok"),
        );
        result
    }

    async fn call(
        &self,
        method: Method,
        url: String,
        timeout: Duration,
        body: Option<Value>,
    ) -> Result<Value, StatusError> {
        let mut request = self.http.request(method, url).timeout(timeout);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.map_err(StatusError::transport)?;
        let status = response.status();
        let retry_after = retry_after(response.headers());
        let body = read_body(response).await;
        if status.is_success() {
            let body = body?;
            return serde_json::from_slice(&body)
                .map_err(|_| StatusError::not_understood("the answer is not JSON"));
        }
        let detail = body.map(|bytes| detail_of(&bytes)).unwrap_or_default();
        Err(StatusError::from_status(
            status.as_u16(),
            retry_after,
            detail,
        ))
    }

    fn url(&self, endpoint_id: &str, operation: &str, id: Option<&str>) -> String {
        let endpoint_id = crate::encode_segment(endpoint_id);
        let base = &self.base_url;
        match id {
            Some(id) => format!(
                "{base}/{endpoint_id}/{operation}/{}",
                crate::encode_segment(id)
            ),
            None => format!("{base}/{endpoint_id}/{operation}"),
        }
    }
}

fn answer_of(value: Value) -> Result<StatusAnswer, StatusError> {
    StatusAnswer::from_value(value)
        .ok_or_else(|| StatusError::not_understood("the answer has no status"))
}

/// A 4xx is a refusal, except 408, which RunPod's edge may send after passing the call on.
async fn read_run_answer(response: Response) -> Result<RunAccepted, RunError> {
    let status = response.status();
    let retry_after = retry_after(response.headers());
    let body = read_body(response).await;
    if status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT {
        let detail = body.map(|bytes| detail_of(&bytes)).unwrap_or_default();
        return Err(RunError::Refused {
            status: status.as_u16(),
            retry_after,
            detail,
        });
    }
    if !status.is_success() {
        let detail = body.map(|bytes| detail_of(&bytes)).unwrap_or_default();
        return Err(RunError::Unknown(Unknown::Answer {
            status: status.as_u16(),
            detail,
        }));
    }
    let not_understood = |detail: String| {
        RunError::Unknown(Unknown::Answer {
            status: status.as_u16(),
            detail,
        })
    };
    let body = body.map_err(|error| match error {
        StatusError::Transport(source) => RunError::Unknown(Unknown::Transport(source)),
        other @ (StatusError::NotFound { .. }
        | StatusError::Unauthorized { .. }
        | StatusError::RateLimited { .. }
        | StatusError::Transient { .. }) => not_understood(other.to_string()),
    })?;
    let value: Value =
        serde_json::from_slice(&body).map_err(|_| not_understood(detail_of(&body)))?;
    RunAccepted::from_value(&value).ok_or_else(|| not_understood(detail_of(&body)))
}

/// Reads an answer up to [`ANSWER_BYTES_MAX`].
async fn read_body(mut response: Response) -> Result<Vec<u8>, StatusError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(StatusError::transport)? {
        if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(StatusError::not_understood(
                "the answer is larger than 24 MiB",
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

fn count(operation: &'static str, outcome: &'static str) {
    metrics::counter!(
        "photofinish_runpod_calls_total", "operation" => operation, "outcome" => outcome
    )
    .increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(
            retry_after(&headers(&[(header::RETRY_AFTER, "soon")])),
            None
        );
    }

    #[test]
    fn details_come_from_problem_bodies_and_from_edge_pages() {
        assert_eq!(
            detail_of(br#"{"detail":"endpoint not found"}"#),
            "endpoint not found"
        );
        assert_eq!(
            detail_of(b"<html>bad gateway</html>"),
            "<html>bad gateway</html>"
        );
        assert_eq!(detail_of(&[b'x'; 4000]).len(), DETAIL_CHARS_MAX);
    }

    #[test]
    fn a_base_url_must_be_http() {
        let build = |url: &str| Client::new(ClientSettings::new(url, "key".into()));
        assert!(matches!(
            build("ftp://example.org"),
            Err(BuildError::BaseUrl)
        ));
        assert!(matches!(build("nonsense"), Err(BuildError::BaseUrl)));
        let client = build("http://127.0.0.1:1/v2/").unwrap();
        assert_eq!(
            client.url("ep", "status", Some("a/b")),
            "http://127.0.0.1:1/v2/ep/status/a%2Fb"
        );
    }
}
