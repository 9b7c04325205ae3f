//! The calls of the worker protocol, each made once.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{self, HeaderMap, HeaderValue};
use secrecy::ExposeSecret;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{StartError, WorkerEnv, WorkerSettings};

/// The most that is read of an answer to a poll, in bytes.
const POLL_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A poll whose connection is given up may still answer so long: what lies in its buffer may be
/// a job.
const CUT_GRACE: Duration = Duration::from_millis(250);

/// What a poll brought.
#[derive(Debug)]
pub(super) enum Polled {
    /// A JSON document.
    Json(Value),
    /// Nothing to do: 204, an empty answer, or the 400 that FlashBoot gives.
    Nothing,
    /// RunPod asks for patience (429), perhaps for so long.
    Slower(Option<Duration>),
    /// The connections were given up after a thaw: poll afresh.
    Cut,
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
    Fault {
        /// In words for the log.
        fault: String,
        /// The wait that RunPod asked for.
        retry_after: Option<Duration>,
        /// True when it may have arrived all the same.
        may_have_arrived: bool,
    },
}

/// The connections in use.
#[derive(Debug, Clone)]
struct Line {
    http: reqwest::Client,
    /// Cancelled when they are given up.
    cut: CancellationToken,
}

#[derive(Debug)]
pub(super) struct Calls {
    /// `None`: the next call opens one.
    line: Mutex<Option<Line>>,
    env: WorkerEnv,
    poll_timeout: Duration,
}

/// A client with the headers of RunPod's SDK (but for its name).
pub(super) fn client_builder(env: &WorkerEnv) -> Result<reqwest::ClientBuilder, StartError> {
    let mut authorization = HeaderValue::try_from(env.api_key.expose_secret())
        .map_err(|_| StartError::KeyNotAHeader)?;
    authorization.set_sensitive(true);
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, authorization);
    let builder = reqwest::Client::builder()
        .default_headers(headers)
        .user_agent(concat!(
            "photofinish-worker/",
            env!("CARGO_PKG_VERSION"),
            " Language/Rust"
        ))
        .connect_timeout(Duration::from_secs(5))
        .pool_idle_timeout(Duration::from_secs(15))
        .tcp_nodelay(true)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never());
    // Reading the machine's certificates takes longer than all else of a start.
    Ok(if env.uses_tls() {
        builder
    } else {
        builder.tls_certs_only([])
    })
}

impl Calls {
    /// Nothing is opened yet.
    pub(super) fn new(env: &WorkerEnv, settings: &WorkerSettings) -> Self {
        Self {
            line: Mutex::default(),
            env: env.clone(),
            poll_timeout: settings.poll_timeout,
        }
    }

    /// Makes the first call a little faster, and tells early what cannot work.
    pub(super) fn open(&self) -> Result<(), StartError> {
        self.line().map(drop)
    }

    /// Gives all connections up, those in use as well: the next call begins with a fresh one.
    pub(super) fn renew(&self) {
        let old = self.locked().take();
        if let Some(old) = old {
            old.cut.cancel();
        }
    }

    fn line(&self) -> Result<Line, StartError> {
        let mut line = self.locked();
        if let Some(line) = &*line {
            return Ok(line.clone());
        }
        let fresh = Line {
            http: client_builder(&self.env)?
                .build()
                .map_err(StartError::Http)?,
            cut: CancellationToken::new(),
        };
        *line = Some(fresh.clone());
        Ok(fresh)
    }

    fn locked(&self) -> MutexGuard<'_, Option<Line>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One long poll.
    pub(super) async fn poll(&self, url: String) -> Polled {
        let Line { http, cut } = match self.line() {
            Ok(line) => line,
            Err(error) => return Polled::Fault(error.to_string()),
        };
        let given_up = async {
            cut.cancelled().await;
            tokio::time::sleep(CUT_GRACE).await;
        };
        tokio::select! {
            biased;
            polled = poll_once(&http, url, self.poll_timeout) => polled,
            () = given_up => Polled::Cut,
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
        let fault = |fault, retry_after, may_have_arrived| Posted::Fault {
            fault,
            retry_after,
            may_have_arrived,
        };
        let Line { http, cut } = match self.line() {
            Ok(line) => line,
            Err(error) => return fault(error.to_string(), None, false),
        };
        let mut request = http
            .post(url)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header("charset", "utf-8")
            .timeout(timeout)
            .body(body);
        if let Ok(id) = HeaderValue::from_str(job_id) {
            request = request.header("X-Request-ID", id);
        }
        let sent = tokio::select! {
            biased;
            sent = request.send() => sent,
            () = cut.cancelled() => {
                return fault("connections given up after a thaw".to_owned(), None, true);
            }
        };
        match sent {
            Ok(response) => match response.status().as_u16() {
                200..=299 => Posted::Accepted,
                status @ (408 | 429) => {
                    let wait = retry_after(response.headers());
                    fault(format!("status {status}"), wait, status == 408)
                }
                status @ 400..=499 => Posted::Refused(status),
                status => fault(
                    format!("status {status}"),
                    retry_after(response.headers()),
                    true,
                ),
            },
            Err(error) => {
                let opened = !error.is_connect();
                fault(describe(error), None, opened)
            }
        }
    }
}

async fn poll_once(http: &reqwest::Client, url: String, timeout: Duration) -> Polled {
    let sent = http
        .get(url)
        .header(header::CONTENT_TYPE, "application/json")
        .timeout(timeout)
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
        429 => return Polled::Slower(retry_after(response.headers())),
        status @ (401 | 403) => {
            return Polled::Fault(format!("status {status}: the worker key was refused"));
        }
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

/// Seconds of `Retry-After`; a date is not worth a clock here.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

/// The error and its causes, without the URL, which carries ids and a query.
pub(super) fn describe(error: reqwest::Error) -> String {
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
