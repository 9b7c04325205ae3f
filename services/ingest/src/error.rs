//! Faults of our own; a client sees them as `unavailable` or `internal_error`.

use crate::refusal::Refusal;
use photofinish_model::Code;

/// A fault while serving a client.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Redis did not do it.
    #[error("use the job store")]
    JobStore(#[from] photofinish_jobstore::JobStoreError),
    /// S3 did not do it.
    #[error("use the object store")]
    Objects(#[from] photofinish_objects::ObjectsError),
    /// RabbitMQ did not do it.
    #[error("publish")]
    Publish(#[from] photofinish_broker::PublishError),
    /// More jobs are in flight than the deployment takes.
    #[error("wait for room")]
    Busy,
    /// A value of ours that JSON cannot express.
    #[error("write JSON")]
    Json(#[from] serde_json::Error),
    /// A secret cannot be sealed or opened.
    #[error("open a sealed secret")]
    Seal(#[from] photofinish_objects::SealError),
}

/// A fault of ours, or a client's.
#[derive(Debug)]
pub enum Fault {
    /// Ours: try again.
    Ours(Error),
    /// The client's: the same request is refused again.
    Theirs(Box<Refusal>),
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self::Theirs(Box::new(refusal))
    }
}

impl<E: Into<Error>> From<E> for Fault {
    fn from(error: E) -> Self {
        Self::Ours(error.into())
    }
}

impl Error {
    fn refusal(&self) -> Refusal {
        match self {
            Self::JobStore(_) | Self::Objects(_) | Self::Publish(_) | Self::Busy => {
                Refusal::unavailable()
            }
            Self::Json(_) | Self::Seal(_) => {
                Refusal::new(500, Code::InternalError, "something failed here; tell the operator")
            }
        }
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Theirs(refusal) => *refusal,
            Fault::Ours(error) => {
                tracing::warn!(error = chain(&error), "a request failed");
                error.refusal()
            }
        }
    }
}

impl axum::response::IntoResponse for Fault {
    fn into_response(self) -> axum::response::Response {
        Refusal::from(self).into_response()
    }
}

/// An error with its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
