//! What can go wrong here: a refusal that the client can mend, or a fault that is ours.

use crate::quotas::Over;
use photofinish_contract::problem::Problem;
use photofinish_model::Code;

/// A fault of ours or of what we stand on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Redis did not do it.
    #[error("use the job store")]
    JobStore(#[from] photofinish_jobstore::JobStoreError),
    /// S3 did not do it.
    #[error("use the object store")]
    Objects(#[from] photofinish_objects::ObjectsError),
    /// RabbitMQ did not do it.
    #[error("publish")]
    Publish(#[from] photofinish_broker::PublishError),
    /// A value of ours that JSON cannot express.
    #[error("write JSON")]
    Json(#[from] serde_json::Error),
    /// A sealed secret cannot be opened.
    #[error("open a secret")]
    Seal(#[from] photofinish_objects::SealError),
    /// RabbitMQ's management API did not do it.
    #[error("manage the broker")]
    Management(#[from] photofinish_broker::ManagementError),
    /// Somebody else changed the same record again and again.
    #[error("change the {0}: they kept changing")]
    Contended(&'static str),
    /// Parked messages could not be looked at or sent back.
    #[error("look after parked messages")]
    Parked(#[from] photofinish_broker::ParkedError),
}

impl Error {
    /// True when the same call may well succeed later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::JobStore(error) => match error.class() {
                photofinish_jobstore::Class::Transient => true,
                photofinish_jobstore::Class::Permanent => false,
            },
            Self::Objects(error) => match error.class() {
                photofinish_objects::Class::Transient => true,
                photofinish_objects::Class::Permanent => false,
            },
            Self::Publish(error) => error.is_transient(),
            Self::Management(_) | Self::Parked(_) | Self::Contended(_) => true,
            Self::Json(_) | Self::Seal(_) => false,
        }
    }
}

/// Why a call is not answered as it was meant.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// The client can read what to do.
    #[error("refused: {}", .0.code)]
    Problem(Box<Problem>),
    /// The tenant is over one of its limits.
    #[error("refused: {}", .0.code)]
    Over(Over),
    /// It is not the client's fault.
    #[error(transparent)]
    Fault(#[from] Error),
}

impl Refusal {
    pub(crate) fn new(status: u16, code: Code, detail: impl Into<String>) -> Self {
        Problem::new(status, code, detail).into()
    }

    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(
            404,
            Code::NotFound,
            format!("there is no such {what}, or it is not yours"),
        )
    }

    /// The problem document; a fault of ours is written to the log and told without its causes.
    pub(crate) fn into_problem(self) -> Problem {
        match self {
            Self::Problem(problem) => *problem,
            Self::Over(over) => Problem::new(429, over.code, over.detail),
            Self::Fault(error) if error.is_transient() => {
                tracing::warn!(
                    error = photofinish_runtime::error_chain(&error),
                    "not answered: a dependency is away"
                );
                Problem::new(
                    503,
                    Code::Unavailable,
                    "a dependency is away; try again in a while",
                )
            }
            Self::Fault(error) => {
                tracing::error!(
                    error = photofinish_runtime::error_chain(&error),
                    "not answered"
                );
                let detail = "something of ours failed; the operator has the evidence";
                Problem::new(500, Code::InternalError, detail)
            }
        }
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::Problem(Box::new(problem))
    }
}

macro_rules! fault_from {
    ($($source:ty),+) => {
        $(impl From<$source> for Refusal {
            fn from(source: $source) -> Self {
                Self::Fault(Error::from(source))
            }
        })+
    };
}

fault_from!(
    photofinish_jobstore::JobStoreError,
    photofinish_objects::ObjectsError,
    photofinish_broker::PublishError,
    photofinish_objects::SealError,
    photofinish_broker::ManagementError,
    photofinish_broker::ParkedError,
    serde_json::Error
);
