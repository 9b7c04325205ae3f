//! One HTTP call and its answer.
//!
//! Guarantee: an answer is the service's JSON, or a typed error. Nothing is tried again here: a command that polls
//! or resumes decides that itself. The key goes to the service only, never to a presigned URL.

mod events;
mod upload;

use crate::error::{CliError, ProblemDoc};
pub(crate) use events::Events;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;
use std::time::Duration;
pub(crate) use upload::UploadError;
use url::{Host, Url};

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for a whole answer of the API.
const CALL_TIMEOUT: Duration = Duration::from_mins(1);
/// Longest wait between two chunks of a download.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Characters of a foreign answer that are shown.
const FOREIGN_SHOWN_MAX: usize = 200;

/// The service and a key.
pub(crate) struct Client {
    http: reqwest::Client,
    /// Without a limit on silence: a store says nothing until it has all.
    uploads: reqwest::Client,
    base: Url,
    key: String,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("base", &self.base.as_str())
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client of the service at `base`.
    pub(crate) fn new(base: &Url, key: &str) -> Result<Self, CliError> {
        if base.cannot_be_a_base() || !matches!(base.scheme(), "http" | "https") {
            return Err(CliError::Usage(format!(
                "{base} is not an http or https URL"
            )));
        }
        let builder = || {
            let builder = reqwest::Client::builder()
                .user_agent(concat!("photofinish/", env!("CARGO_PKG_VERSION")))
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(CONNECT_TIMEOUT);
            if is_local(base) {
                builder.no_proxy()
            } else {
                builder
            }
        };
        let http = builder().read_timeout(READ_TIMEOUT).build();
        Ok(Self {
            http: http.map_err(CliError::Client)?,
            uploads: builder().build().map_err(CliError::Client)?,
            base: base.clone(),
            key: key.to_owned(),
        })
    }

    /// The service's own address, for messages.
    pub(crate) fn base(&self) -> &Url {
        &self.base
    }

    /// GET of `/v1/…`; the segments are encoded here.
    pub(crate) async fn get(
        &self,
        path: &[&str],
        query: &[(String, String)],
    ) -> Result<Value, CliError> {
        self.call(self.request(Method::GET, path, query)).await
    }

    /// DELETE of `/v1/…`.
    pub(crate) async fn delete(&self, path: &[&str]) -> Result<Value, CliError> {
        self.call(self.request(Method::DELETE, path, &[])).await
    }

    /// PUT of `/v1/…`, without a body.
    pub(crate) async fn put(&self, path: &[&str]) -> Result<Value, CliError> {
        self.call(self.request(Method::PUT, path, &[])).await
    }

    /// PATCH of `/v1/…`.
    pub(crate) async fn patch(&self, path: &[&str], body: &Value) -> Result<Value, CliError> {
        let request = self.request(Method::PATCH, path, &[]);
        let request = request.header("content-type", "application/json");
        self.call(request.body(body.to_string())).await
    }

    /// POST of JSON to `/v1/…`.
    pub(crate) async fn send(&self, path: &[&str], body: &Value) -> Result<Value, CliError> {
        let body = body.to_string().into_bytes();
        self.post(path, &[], Some(body), None).await
    }

    /// POST to `/v1/…` with a body, if there is one.
    pub(crate) async fn post(
        &self,
        path: &[&str],
        query: &[(String, String)],
        body: Option<Vec<u8>>,
        idempotency_key: Option<&str>,
    ) -> Result<Value, CliError> {
        let mut request = self.request(Method::POST, path, query);
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .body(body);
        }
        if let Some(key) = idempotency_key {
            request = request.header("idempotency-key", key);
        }
        self.call(request).await
    }

    /// GET of `/v1/…`, where the answer goes on for as long as it likes.
    async fn stream(&self, path: &[&str], last: Option<&str>) -> Result<Response, CliError> {
        let mut request = self.http.get(self.address(path)).bearer_auth(&self.key);
        request = request.header("accept", "text/event-stream");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        request
            .send()
            .await
            .map_err(|source| unreachable(self.base.to_string(), source))
    }

    /// What answers at a path of the service, whatever it is: for `doctor`.
    pub(crate) async fn probe(&self, path: &[&str]) -> Result<Response, CliError> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let request = self.http.get(url).bearer_auth(&self.key);
        request
            .timeout(CALL_TIMEOUT)
            .send()
            .await
            .map_err(|source| unreachable(self.base.to_string(), source))
    }

    /// A mark of service and key together, which does not tell the key.
    pub(crate) fn key_mark(&self) -> String {
        use sha2::{Digest as _, Sha256};
        let hash = Sha256::digest(format!("{}\n{}", self.base, self.key));
        hex::encode(&hash[..8])
    }

    /// GET of a presigned URL from byte `from` on, without our key.
    pub(crate) async fn download(&self, url: &str, from: u64) -> Result<Response, CliError> {
        let mut request = self.http.get(url);
        if from > 0 {
            request = request.header("range", format!("bytes={from}-"));
        }
        request
            .send()
            .await
            .map_err(|source| unreachable(url_without_query(url), source))
    }

    fn address(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        // It can be a base, so it has segments.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(path);
        }
        url
    }

    fn request(&self, method: Method, path: &[&str], query: &[(String, String)]) -> RequestBuilder {
        let mut url = self.address(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.http
            .request(method, url)
            .bearer_auth(&self.key)
            .timeout(CALL_TIMEOUT)
    }

    async fn call(&self, request: RequestBuilder) -> Result<Value, CliError> {
        let unreachable = |source| unreachable(self.base.to_string(), source);
        let answer = request.send().await.map_err(unreachable)?;
        let (status, call) = (answer.status(), answer.url().path().to_owned());
        let body = answer.bytes().await.map_err(unreachable)?;
        if status.is_success() {
            if body.is_empty() {
                return Ok(Value::Null);
            }
            if let Ok(value) = serde_json::from_slice(&body) {
                return Ok(value);
            }
        } else if let Ok(problem) = serde_json::from_slice::<ProblemDoc>(&body) {
            return Err(CliError::Problem(problem));
        }
        let text = String::from_utf8_lossy(&body)
            .chars()
            .take(FOREIGN_SHOWN_MAX)
            .collect();
        Err(CliError::Foreign {
            call,
            status: status.as_u16(),
            text,
        })
    }
}

/// The answer to a call in its own type.
pub(crate) fn read<T: serde::de::DeserializeOwned>(
    call: &str,
    answer: Value,
) -> Result<T, CliError> {
    serde_json::from_value(answer).map_err(|error| CliError::Foreign {
        call: call.to_owned(),
        status: 200,
        text: error.to_string(),
    })
}

fn unreachable(url: String, source: reqwest::Error) -> CliError {
    // The URL is said once, and a presigned one holds a signature.
    CliError::Unreachable {
        url,
        source: source.without_url(),
    }
}

fn url_without_query(url: &str) -> String {
    url.split(['?', '#']).next().unwrap_or_default().to_owned()
}

fn is_local(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}
