//! What can go wrong here, and what becomes of the message.

use std::time::Duration;

/// A fault while watching an attempt.
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
    /// A value of ours that JSON cannot express.
    #[error("write JSON")]
    Json(#[from] serde_json::Error),
    /// RunPod did not take a cancel.
    #[error("cancel an attempt")]
    Cancel(#[source] photofinish_runpod::client::StatusError),
    /// The last pull of an output failed for a reason of ours: it must not count as lost.
    #[error("take an output over")]
    Pull(#[source] PullError),
}

/// The pause before a watch goes on after a fault of Redis, S3 or RabbitMQ. All of them pass by
/// themselves: the watch is kept, and the fault is not counted against it.
pub const AGAIN: Duration = Duration::from_secs(2);

/// Why one pull broke off.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The worker did not give it.
    #[error("read from the worker")]
    Worker(#[from] photofinish_runpod::port::PortError),
    /// S3 did not take it, or did not give a rescued file.
    #[error("use the object store")]
    Objects(#[from] photofinish_objects::ObjectsError),
    /// Redis did not record it.
    #[error("use the job store")]
    JobStore(#[from] photofinish_jobstore::JobStoreError),
    /// The notifier could not be told.
    #[error("tell of progress")]
    Tell(#[source] Box<Error>),
    /// It ended before its announced length.
    #[error("{got} of {expected} bytes came")]
    Short {
        /// Bytes that came.
        got: u64,
        /// Bytes announced.
        expected: u64,
    },
    /// It came too slowly to be worth waiting for.
    #[error("slower than {0} bytes a second")]
    Slow(u64),
    /// Nobody knows what it is: no announcement, no report.
    #[error("nothing is known of this output")]
    Unannounced,
    /// It is stored, and Redis does not know its job although it was told.
    #[error("the job's record cannot be restored")]
    Unrecorded,
}

impl PullError {
    /// True when the worker and what it pushed are not to blame: trying again may well help.
    pub fn is_ours(&self) -> bool {
        match self {
            Self::Objects(error) => match error.class() {
                photofinish_objects::Class::Transient => true,
                photofinish_objects::Class::Permanent => false,
            },
            Self::JobStore(_) | Self::Tell(_) | Self::Unrecorded => true,
            Self::Worker(_) | Self::Short { .. } | Self::Slow(_) | Self::Unannounced => false,
        }
    }
}
