//! Runs, their status, and the endpoint's health: RunPod's data plane as a client sees it.
//!
//! One [`Client`] per process: it holds the connections, and for each RunPod endpoint the rate
//! limits of each operation, set well below RunPod's own, and the circuit breakers. It makes each
//! call once; retrying is the caller's decision, because only the caller knows whether doing it
//! twice is harmless. While a breaker is open nothing goes out, and the caller is told so at once.
//!
//! Not for: RunPod's management API, and not for waiting (`/runsync`, `/stream`): whoever waits
//! polls `/status`.

mod answer;
mod error;
mod gate;
mod limiter;
mod settings;
mod types;

use std::time::{Duration, Instant};

use reqwest::Method;
use reqwest::header::{self, HeaderMap, HeaderValue};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tracing::Instrument as _;
use tracing::field::Empty;

pub use photofinish_model::breaker::BreakerPolicy;

pub use self::error::{BuildError, RunError, StatusError, Unknown};
pub use self::limiter::OperationLimit;
pub use self::settings::ClientSettings;
pub use self::types::{
    Health, JobCounts, JobFault, JobStatus, RunAccepted, RunRequest, Shortage, StatusAnswer,
    WorkerCounts,
};

use self::gate::{Gates, Operation};

/// RunPod's own data plane.
pub const DEFAULT_BASE_URL: &str = "https://api.runpod.ai/v2";

/// What RunPod accepts as the body of `/run`, in bytes (its documents say 10 MB).
pub const RUN_BODY_BYTES_MAX: usize = 10_000_000;

/// The most that is read of any answer, in bytes: a status carries up to 20 MB of output.
pub const ANSWER_BYTES_MAX: usize = 24 * 1024 * 1024;

/// The data plane of RunPod, for all endpoints of one account.
///
/// Shared by reference (`Arc`) among tasks; dropping a call's future abandons the call.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    base_url: String,
    host: String,
    settings: ClientSettings,
    gates: Gates,
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
            .retry(reqwest::retry::never())
            .build()
            .map_err(BuildError::Http)?;
        let host = base.host_str().unwrap_or_default().to_owned();
        Ok(Self {
            http,
            base_url,
            host,
            gates: Gates::new(settings.clone()),
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
        let (span, begun) = (self.span(endpoint_id, Operation::Run), Instant::now());
        let result = self.run_once(endpoint_id, request);
        let result = result.instrument(span.clone()).await;
        let label = result.as_ref().map_or_else(RunError::label, |_| "ok");
        count(Operation::Run, label, begun);
        if result.is_err() {
            span.record("otel.status_code", "ERROR");
            span.record("error.type", label);
        }
        result
    }

    async fn run_once(
        &self,
        endpoint_id: &str,
        request: &RunRequest,
    ) -> Result<RunAccepted, RunError> {
        let body = request.to_body();
        let (bytes, max) = (body.len(), self.settings.run_body_bytes_max);
        if bytes > max {
            return Err(RunError::TooLarge { bytes, max });
        }
        let turn = self.gates.admit(endpoint_id, Operation::Run).await;
        let turn = turn.map_err(|retry_after| RunError::Open { retry_after })?;
        let sent = self
            .http
            .post(self.url(endpoint_id, Operation::Run, None))
            .header(header::CONTENT_TYPE, "application/json")
            .timeout(self.settings.run_timeout)
            .body(body)
            .send()
            .await;
        let result = match sent {
            Ok(response) => answer::read_run_answer(response, self.settings.answer_bytes_max).await,
            Err(source) if source.is_connect() => Err(RunError::NotSent {
                source: source.without_url(),
            }),
            Err(source) => Err(RunError::Unknown(Unknown::Transport(source.without_url()))),
        };
        turn.went(RunError::went(result.as_ref().err()));
        result
    }

    /// For how long submits to this endpoint are refused, because it kept failing; `None` if
    /// [`run`](Self::run) would go out. Asked before work is taken in hand for a submit.
    pub fn submits_refused_for(&self, endpoint_id: &str) -> Option<Duration> {
        self.gates.submits_refused_for(endpoint_id)
    }

    /// Asks for the state of a run.
    pub async fn status(
        &self,
        endpoint_id: &str,
        run_id: &str,
    ) -> Result<StatusAnswer, StatusError> {
        let value = self
            .ask(endpoint_id, Operation::Status, Some(run_id))
            .await?;
        answer::state_of(value)
    }

    /// Cancels a run, queued or running. [`StatusError::NotFound`] means that there is nothing
    /// left to cancel. A run that has already ended may be answered with its final state or
    /// with a refusal: the caller asks `/status` for the truth.
    pub async fn cancel(
        &self,
        endpoint_id: &str,
        run_id: &str,
    ) -> Result<StatusAnswer, StatusError> {
        let value = self
            .ask(endpoint_id, Operation::Cancel, Some(run_id))
            .await?;
        answer::state_of(value)
    }

    /// Counts of jobs and workers of an endpoint. Counters that RunPod leaves out are 0.
    pub async fn health(&self, endpoint_id: &str) -> Result<Health, StatusError> {
        let value = self.ask(endpoint_id, Operation::Health, None).await?;
        Health::from_value(&value).ok_or_else(|| StatusError::not_understood("health"))
    }

    /// Drops all that is queued at an endpoint, whoever queued it; running jobs go on. Returns
    /// how many were dropped, 0 when RunPod does not say.
    pub async fn purge_queue(&self, endpoint_id: &str) -> Result<u64, StatusError> {
        let value = self.ask(endpoint_id, Operation::PurgeQueue, None).await?;
        Ok(value["removed"].as_u64().unwrap_or(0))
    }

    /// One call but `/run`, counted. What cannot be read as JSON is a failure of the call.
    async fn ask(
        &self,
        endpoint_id: &str,
        operation: Operation,
        id: Option<&str>,
    ) -> Result<Value, StatusError> {
        let (span, begun) = (self.span(endpoint_id, operation), Instant::now());
        let result = self.ask_once(endpoint_id, operation, id);
        let result = result.instrument(span.clone()).await;
        let label = result.as_ref().map_or_else(StatusError::label, |_| "ok");
        count(operation, label, begun);
        if result.is_err() {
            span.record("otel.status_code", "ERROR");
            span.record("error.type", label);
        }
        result
    }

    async fn ask_once(
        &self,
        endpoint_id: &str,
        operation: Operation,
        id: Option<&str>,
    ) -> Result<Value, StatusError> {
        let turn = self.gates.admit(endpoint_id, operation).await;
        let turn = turn.map_err(|retry_after| StatusError::NotAsked { retry_after })?;
        let settings = &self.settings;
        let (method, timeout) = match operation {
            Operation::Status => (Method::GET, settings.status_timeout),
            Operation::Health => (Method::GET, settings.control_timeout),
            Operation::Run | Operation::Cancel | Operation::PurgeQueue => {
                (Method::POST, settings.control_timeout)
            }
        };
        let url = self.url(endpoint_id, operation, id);
        let mut request = self.http.request(method.clone(), url).timeout(timeout);
        if method == Method::POST {
            request = request.json(&json!({}));
        }
        let result = match request.send().await {
            Ok(response) => answer::read_json(response, settings.answer_bytes_max).await,
            Err(source) => Err(StatusError::transport(source)),
        };
        turn.went(StatusError::went(result.as_ref().err()));
        result
    }

    /// Of a call. Questions are many and say little: they are traced where everything is.
    fn span(&self, endpoint_id: &str, operation: Operation) -> tracing::Span {
        let template = format!("/{{endpoint}}/{}", operation.name());
        match operation {
            Operation::Run | Operation::Cancel | Operation::PurgeQueue => tracing::info_span!(
                "runpod",
                otel.name = format!("POST {template}"),
                otel.kind = "client",
                otel.status_code = Empty,
                "error.type" = Empty,
                "http.request.method" = "POST",
                "url.template" = template,
                "server.address" = self.host.as_str(),
                "photofinish.endpoint" = endpoint_id,
            ),
            Operation::Status | Operation::Health => tracing::debug_span!(
                "runpod",
                otel.name = format!("GET {template}"),
                otel.kind = "client",
                otel.status_code = Empty,
                "error.type" = Empty,
                "http.request.method" = "GET",
                "url.template" = template,
                "server.address" = self.host.as_str(),
                "photofinish.endpoint" = endpoint_id,
            ),
        }
    }

    fn url(&self, endpoint_id: &str, operation: Operation, id: Option<&str>) -> String {
        let endpoint_id = crate::encode_segment(endpoint_id);
        let (base, operation) = (&self.base_url, operation.name());
        match id {
            Some(id) => format!(
                "{base}/{endpoint_id}/{operation}/{}",
                crate::encode_segment(id)
            ),
            None => format!("{base}/{endpoint_id}/{operation}"),
        }
    }
}

fn count(operation: Operation, outcome: &'static str, begun: Instant) {
    // The wait for the limit's leave is part of it: what a caller waits for.
    metrics::histogram!("photofinish_runpod_call_seconds", "operation" => operation.name())
        .record(begun.elapsed().as_secs_f64());
    metrics::counter!(
        "photofinish_runpod_calls_total", "operation" => operation.name(), "outcome" => outcome
    )
    .increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

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
            client.url("ep", Operation::Status, Some("a/b")),
            "http://127.0.0.1:1/v2/ep/status/a%2Fb"
        );
    }
}
