//! Problem documents over HTTP, also for what the router itself refuses, and bodies as JSON.

use crate::bodies::Bodies;
use crate::error::Refusal;
use crate::quotas::Over;
use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::{self, FromRequest, FromRequestParts, Request};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use photofinish_contract::problem::{PROBLEM_CONTENT_TYPE, Problem};
use photofinish_contract::request::BODY_BYTES_MAX;
use photofinish_model::{Code, Tenant};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

/// Seconds after which a client may come again when something is away.
const RETRY_AFTER_S: &str = "5";

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let over = match &self {
            Self::Over(over) => Some(over.clone()),
            Self::Problem(_) | Self::Fault(_) => None,
        };
        let problem = self.into_problem();
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::BAD_REQUEST);
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_CONTENT_TYPE));
        let later = [
            StatusCode::SERVICE_UNAVAILABLE,
            StatusCode::TOO_MANY_REQUESTS,
        ];
        if later.contains(&status) {
            headers.insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
        }
        if let Some(over) = over {
            over_headers(headers, &over);
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        metrics::counter!("photofinish_ingest_refusals_total", "code" => problem.code.as_str())
            .increment(1);
        response.extensions_mut().insert(problem);
        response
    }
}

/// A problem with the request that it is of; any other answer as it is.
pub(crate) fn with_instance(mut response: Response, request_id: &str) -> Response {
    let Some(mut problem) = response.extensions_mut().remove::<Problem>() else {
        return response;
    };
    problem.instance = Some(format!("/requests/{request_id}"));
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    Response::from_parts(parts, Body::from(body))
}

/// When to come again, in whole seconds, and of a rate what it is.
fn over_headers(headers: &mut HeaderMap, over: &Over) {
    let wait = over.retry_after;
    let wait = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    headers.insert(RETRY_AFTER, HeaderValue::from(wait.max(1)));
    if let Some(rate) = over.rate {
        headers.insert("ratelimit-limit", HeaderValue::from(rate));
        headers.insert("ratelimit-remaining", HeaderValue::from(0));
        headers.insert("ratelimit-reset", HeaderValue::from(wait.max(1)));
    }
}

/// No such path.
pub(crate) async fn not_found() -> Refusal {
    no_such_path()
}

fn no_such_path() -> Refusal {
    Refusal::new(404, Code::NotFound, "there is no such path")
}

/// The path is there, the method is not.
pub(crate) async fn method_not_allowed() -> Refusal {
    Refusal::new(405, Code::MethodNotAllowed, "this path has no such method")
}

/// A handler panicked.
pub(crate) fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    metrics::counter!("photofinish_ingest_handler_panics_total").increment(1);
    let detail = "something of ours failed; the operator has the evidence";
    Refusal::new(500, Code::InternalError, detail).into_response()
}

/// What a body may take while it comes.
#[derive(Debug, Clone)]
pub(crate) struct Arriving {
    /// Until it is there.
    pub(crate) timeout: Duration,
    /// Of the memory.
    pub(crate) bodies: Arc<Bodies>,
}

/// Whose body it is.
#[derive(Debug, Clone)]
pub(crate) struct BodyOf(pub(crate) Tenant);

impl Arriving {
    /// Reads a body whole.
    async fn read<S: Send + Sync>(&self, request: Request, state: &S) -> Result<Bytes, Refusal> {
        let owner = request.extensions().get::<BodyOf>().cloned();
        let said = request.body().size_hint().upper();
        let bytes = said.and_then(|bytes| usize::try_from(bytes).ok());
        let bytes = bytes.map_or(BODY_BYTES_MAX, |bytes| bytes.min(BODY_BYTES_MAX));
        let share = self.bodies.take(owner.map(|BodyOf(owner)| owner), bytes);
        let _share = share.ok_or_else(|| {
            let detail = "too many bodies are on their way at the moment; send it again in a while";
            Refusal::new(503, Code::Unavailable, detail)
        })?;
        let arrived = tokio::time::timeout(self.timeout, Bytes::from_request(request, state)).await;
        let arrived = arrived.map_err(|_elapsed| {
            let detail = "the body did not arrive in time; send it again";
            Refusal::new(408, Code::RequestTimeout, detail)
        })?;
        arrived.map_err(|rejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                too_large()
            } else {
                Refusal::new(400, Code::Malformed, "the body did not arrive whole")
            }
        })
    }
}

/// A body as a JSON value.
#[derive(Debug, Clone)]
pub(crate) struct JsonBody(pub(crate) Value);

impl<S: Send + Sync> FromRequest<S> for JsonBody {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let content_type = request.headers().get(CONTENT_TYPE);
        if !content_type.is_none_or(|value| value.to_str().is_ok_and(is_json)) {
            let detail = "send the body as application/json";
            return Err(Refusal::new(415, Code::WrongType, detail));
        }
        let arriving = request.extensions().get::<Arriving>().cloned();
        let arriving = arriving.ok_or_else(|| {
            let detail = "the limits of bodies are not known here";
            Refusal::new(500, Code::InternalError, detail)
        })?;
        decode(&arriving.read(request, state).await?).map(Self)
    }
}

/// A body as a JSON value, or none at all.
#[derive(Debug, Clone)]
pub(crate) struct MaybeJsonBody(pub(crate) Option<Value>);

impl<S: Send + Sync> FromRequest<S> for MaybeJsonBody {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        if request.body().size_hint().exact() == Some(0) {
            return Ok(Self(None));
        }
        let JsonBody(body) = JsonBody::from_request(request, state).await?;
        Ok(Self(Some(body)))
    }
}

/// The parts of a path. What cannot be read, such as `%ff`, names nothing that is there.
#[derive(Debug, Clone)]
pub(crate) struct Path<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let read = extract::Path::<T>::from_request_parts(parts, state).await;
        read.map(|extract::Path(read)| Self(read))
            .map_err(|_| no_such_path())
    }
}

/// A body of any door as a JSON value.
pub(crate) fn decode(body: &[u8]) -> Result<Value, Refusal> {
    if body.len() > BODY_BYTES_MAX {
        return Err(too_large());
    }
    serde_json::from_slice(body).map_err(|error| {
        let detail = format!(
            "the body is not JSON: line {}, column {}",
            error.line(),
            error.column()
        );
        Refusal::new(400, Code::Malformed, detail)
    })
}

fn too_large() -> Refusal {
    let detail = format!("a body has at most {BODY_BYTES_MAX} bytes");
    Refusal::new(413, Code::BodyTooLarge, detail)
}

/// Whether a media type is JSON, whatever its parameters.
pub(crate) fn is_json(content_type: &str) -> bool {
    let kind = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}
