//! The calls of the worker protocol, each made once.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{self, HeaderMap, HeaderValue};
use serde_json::Value;

use super::{StartError, WorkerEnv, WorkerSettings};

/// The most that is read of an answer to a poll, in bytes.
const POLL_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a poll brought.
#[derive(Debug)]
pub(super) enum Polled {
    /// A JSON document.
    Json(Value),
    /// Nothing to do: 204, an empty answer, or the 400 that FlashBoot gives.
    Nothing,
    /// RunPod asks for patience.
    Slower,
    /// Anything else, in words for the log.
    Fault(String),
}

/// How a post ended.
#[derive(Debug)]
pub(super) enum Posted {
    /// 2xx.
    Accepted,
    /// 4xx but 408 and 429: posting it again cannot help.
    Refused(u16),
    /// Posting it again may help.
    Fault(String),
}

#[derive(Debug)]
pub(super) struct Calls {
    http: reqwest::Client,
    poll_timeout: Duration,
}

/// A client with the headers of RunPod's SDK (but for its name).
pub(super) fn client_builder(env: &WorkerEnv) -> Result<reqwest::ClientBuilder, StartError> {
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, super::ping::authorization(env)?);
    Ok(reqwest::Client::builder()
        .default_headers(headers)
        .user_agent(concat!(
            "photofinish-worker/",
            env!("CARGO_PKG_VERSION"),
            " Language/Rust"
        ))
        .connect_timeout(Duration::from_secs(5))
        .pool_idle_timeout(Duration::from_secs(15))
        .tcp_nodelay(true)
        .redirect(reqwest::redirect::Policy::none()))
}

impl Calls {
    pub(super) fn new(env: &WorkerEnv, settings: &WorkerSettings) -> Result<Self, StartError> {
        let http = client_builder(env)?.build().map_err(StartError::Http)?;
        Ok(Self {
            http,
            poll_timeout: settings.poll_timeout,
        })
    }

    /// One long poll.
    pub(super) async fn poll(&self, url: String) -> Polled {
        let sent = self
            .http
            .get(url)
            .header(header::CONTENT_TYPE, "application/json")
            .timeout(self.poll_timeout)
            .send()
            .await;
        let mut response = match sent {
            Ok(response) => response,
            // The server may hold a poll for longer than we do: that is no fault.
            Err(error) if error.is_timeout() && !error.is_connect() => return Polled::Nothing,
            Err(error) => return Polled::Fault(describe(error)),
        };
        match response.status().as_u16() {
            200 => {}
            204 | 400 => return Polled::Nothing,
            429 => return Polled::Slower,
            status => return Polled::Fault(format!("status {status}")),
        }
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > POLL_BYTES_MAX => {
                    return Polled::Fault("answer above 64 MiB".to_owned());
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(error) => return Polled::Fault(describe(error)),
            }
        }
        if body.is_empty() {
            return Polled::Nothing;
        }
        match serde_json::from_slice(&body) {
            Ok(value) => Polled::Json(value),
            Err(_) => Polled::Fault("answer is not JSON".to_owned()),
        }
    }

    /// One post of progress or of a result. The odd content type is that of RunPod's SDK: the
    /// body is JSON all the same, and nobody knows whether RunPod takes another.
    pub(super) async fn post(
        &self,
        url: String,
        job_id: &str,
        body: Bytes,
        timeout: Duration,
    ) -> Posted {
        let mut request = self
            .http
            .post(url)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header("charset", "utf-8")
            .timeout(timeout)
            .body(body);
        if let Ok(id) = HeaderValue::from_str(job_id) {
            request = request.header("X-Request-ID", id);
        }
        match request.send().await {
            Ok(response) => match response.status().as_u16() {
                200..=299 => Posted::Accepted,
                status @ (408 | 429) => Posted::Fault(format!("status {status}")),
                status @ 400..=499 => Posted::Refused(status),
                status => Posted::Fault(format!("status {status}")),
            },
            Err(error) => Posted::Fault(describe(error)),
        }
    }
}

/// The error and its causes, without the URL, which carries ids and a query.
fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
