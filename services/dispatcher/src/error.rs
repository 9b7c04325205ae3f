//! What can go wrong here, and what becomes of the message.

use photofinish_broker::Disposition;
use photofinish_runtime::error_chain;
use std::time::Duration;

/// A fault while handling a message.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Redis did not do it.
    #[error("use the job store")]
    JobStore(#[from] photofinish_jobstore::JobStoreError),
    /// S3 did not do it.
    #[error("use the object store")]
    Objects(#[from] photofinish_objects::ObjectsError),
    /// RabbitMQ did not hand a message out.
    #[error("get from a queue")]
    Get(#[from] photofinish_broker::GetError),
    /// RabbitMQ did not do it.
    #[error("publish")]
    Publish(#[from] photofinish_broker::PublishError),
    /// A value of ours that JSON cannot express.
    #[error("write JSON")]
    Json(#[from] serde_json::Error),
    /// Another process changed the same record again and again.
    #[error("part {part} of {job} kept changing under us")]
    Contended {
        /// The job.
        job: photofinish_model::JobId,
        /// The part.
        part: u16,
    },
    /// A document that must be there is not.
    #[error("{what} of {job} is missing")]
    Missing {
        /// Which document.
        what: &'static str,
        /// The job.
        job: photofinish_model::JobId,
    },
    /// A stored record cannot be read.
    #[error("read the stored part")]
    Record(#[source] serde_json::Error),
}

/// The pause before a message is handled again after a fault that will pass.
const AGAIN: Duration = Duration::from_secs(2);
/// Tries after which a message that fails for a reason of its own is parked.
const TRIES_MAX: u32 = 10;

impl Error {
    /// True when the same message may well succeed later, whatever it holds.
    pub fn is_transient(&self) -> bool {
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
            Self::Get(_) | Self::Contended { .. } => true,
            Self::Json(_) | Self::Missing { .. } | Self::Record(_) => false,
        }
    }

    /// What becomes of the message.
    pub fn disposition(&self, tries: u32) -> Disposition {
        if self.is_transient() || tries < TRIES_MAX {
            return Disposition::RetryLater(AGAIN);
        }
        Disposition::DeadLetter {
            code: "internal_error",
            reason: error_chain(self),
        }
    }
}
