//! What can go wrong here, and what becomes of the message.

use photofinish_broker::Disposition;
use std::time::Duration;

/// A fault while handling a message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Redis did not do it.
    #[error("use the job store")]
    JobStore(#[from] photofinish_jobstore::JobStoreError),
    /// The bucket did not do it.
    #[error("use the object store")]
    Objects(#[from] photofinish_objects::ObjectsError),
    /// RabbitMQ did not do it.
    #[error("publish")]
    Publish(#[from] photofinish_broker::PublishError),
    /// A value of ours that JSON cannot express.
    #[error("write JSON")]
    Json(#[from] serde_json::Error),
    /// A sealed secret does not open under `secrets.key`.
    #[error("open the signing secret of {whose}")]
    Secret {
        /// The tenant or endpoint.
        whose: String,
        /// Why.
        #[source]
        source: photofinish_objects::SealError,
    },
    /// A secret that is none of Standard Webhooks.
    #[error("sign a webhook")]
    Sign(#[from] crate::sign::SignError),
    /// A document that must be there is not (yet).
    #[error("{what} of {id} is missing")]
    Missing {
        /// Which document.
        what: &'static str,
        /// Whose.
        id: String,
    },
}

/// The pause before a message is handled again after a fault.
const AGAIN: Duration = Duration::from_secs(2);
/// Tries after which an event that fails for a reason of its own is parked.
const TRIES_MAX: u32 = 10;

impl Error {
    /// True when the same message may well succeed later, whatever it holds.
    fn is_transient(&self) -> bool {
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
            // The key may be the operator's mistake: no webhook is given up for it.
            Self::Secret { .. } => true,
            Self::Json(_) | Self::Sign(_) | Self::Missing { .. } => false,
        }
    }

    /// Whether a client's own queue refused an event.
    pub(crate) fn is_refused(&self) -> bool {
        matches!(
            self,
            Self::Publish(photofinish_broker::PublishError::Refused { .. })
        )
    }

    /// What becomes of a job event.
    pub(crate) fn disposition(&self, attempt: u32) -> Disposition {
        if self.is_transient() || attempt < TRIES_MAX {
            return Disposition::RetryLater(AGAIN);
        }
        Disposition::DeadLetter {
            code: "internal_error",
            reason: photofinish_runtime::error_chain(self),
        }
    }

    /// True when a delivery is given up for it: it is noted as failed, and never parked, since parking ends its job.
    pub(crate) fn gives_up(&self, attempt: u32) -> bool {
        !self.is_transient() && attempt >= TRIES_MAX
    }

    /// The pause before a delivery is handled again.
    pub(crate) fn again() -> Disposition {
        Disposition::RetryLater(AGAIN)
    }
}
