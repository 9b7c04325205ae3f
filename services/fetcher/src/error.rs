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
}

/// The pause before a watch goes on after a fault of Redis, S3 or RabbitMQ. All of them pass by
/// themselves: the watch is kept, and the fault is not counted against it.
pub const AGAIN: Duration = Duration::from_secs(2);

/// Why one pull broke off.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The worker did not give it.
    #[error("read from the worker")]
    Worker(#[from] photofinish_runpod::proxy::ProxyError),
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
    /// What came is not what was announced.
    #[error("the bytes do not have the announced SHA-256")]
    Hash,
    /// It came too slowly to be worth waiting for.
    #[error("slower than {0} bytes a second")]
    Slow(u64),
    /// Nobody knows what it is: no announcement, no report.
    #[error("nothing is known of this output")]
    Unannounced,
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
