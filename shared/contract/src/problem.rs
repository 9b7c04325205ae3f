//! RFC 9457 problem documents.

use photofinish_model::Code;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `application/problem+json`.
pub const PROBLEM_CONTENT_TYPE: &str = "application/problem+json";

/// A problem, as HTTP and AMQP answer it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Where it is explained: `…/docs/problems.md#{code}`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The HTTP status' phrase.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The stable code.
    pub code: Code,
    /// A sentence that says what to do.
    pub detail: String,
    /// The request that it is of: `/requests/{x-request-id}`; over HTTP only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// For validation: every fault at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub errors: Vec<ProblemError>,
}

/// One fault of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProblemError {
    /// A JSON pointer to the field.
    pub pointer: String,
    /// The stable code.
    pub code: Code,
    /// A sentence that says what to do.
    pub detail: String,
}

impl Problem {
    /// A problem with its status, code and sentence.
    pub fn new(status: u16, code: Code, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("https://photofinish.dev/docs/problems.md#{code}"),
            title: title(status).to_owned(),
            status,
            code,
            detail: detail.into(),
            instance: None,
            errors: Vec::new(),
        }
    }

    /// The same problem, naming every fault.
    #[must_use]
    pub fn with_errors(mut self, errors: Vec<ProblemError>) -> Self {
        self.errors = errors;
        self
    }
}

fn title(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        503 => "Service Unavailable",
        500 => "Internal Server Error",
        _ => "Error",
    }
}
