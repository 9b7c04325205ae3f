//! What is said no to, as both doors answer it.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use photofinish_contract::problem::{PROBLEM_CONTENT_TYPE, Problem, ProblemError};
use photofinish_model::Code;
use std::time::Duration;

/// A problem on its way to the client.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// The document.
    pub problem: Problem,
    /// When to come again.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// A refusal with its HTTP status, code and sentence.
    pub fn new(status: u16, code: Code, detail: impl Into<String>) -> Self {
        Self { problem: Problem::new(status, code, detail), retry_after: None }
    }

    /// A request with these faults.
    pub fn invalid(errors: Vec<ProblemError>) -> Self {
        let count = errors.len();
        let detail = format!("the request has {count} fault(s); mend each of `errors`");
        let problem = Problem::new(422, Code::InvalidRequest, detail).with_errors(errors);
        Self { problem, retry_after: None }
    }

    /// Something of ours is away for the moment.
    pub fn unavailable() -> Self {
        Self {
            problem: Problem::new(
                503,
                Code::Unavailable,
                "a part of the service is away; send the same request again in a few seconds",
            ),
            retry_after: Some(Duration::from_secs(5)),
        }
    }

    /// No such thing, or another tenant's.
    pub fn not_found(what: &str) -> Self {
        Self::new(404, Code::NotFound, format!("there is no such {what}"))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.problem.status)
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self.problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_CONTENT_TYPE));
        if let Some(wait) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
        }
        response
    }
}
