//! What can go wrong with the bucket, and whether trying again makes sense.

use object_store::Error as StoreError;

/// Whether another try can succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The bucket is away or busy: the same call may succeed later.
    Transient,
    /// The same call fails in the same way again.
    Permanent,
}

/// What this crate tried, and what came of it.
#[derive(Debug, thiserror::Error)]
pub enum ObjectsError {
    /// The bucket could not do it.
    #[error("{doing} {key}")]
    Store {
        /// What was tried.
        doing: &'static str,
        /// The object or prefix.
        key: String,
        /// What the store says.
        #[source]
        source: StoreError,
    },
    /// The answer did not come in time.
    #[error("{doing} {key}: no answer within {seconds} s")]
    Timeout {
        /// What was tried.
        doing: &'static str,
        /// The object or prefix.
        key: String,
        /// The limit.
        seconds: u64,
    },
    /// An object does not hold what it must hold.
    #[error("decode the document {key}")]
    Document {
        /// The object.
        key: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// An object's content does not have the hash that it is named by.
    #[error("the document {key} does not have the hash it is named by")]
    Hash {
        /// The object.
        key: String,
    },
    /// An upload got another number of bytes than announced.
    #[error("the output {key} has {got} bytes instead of {expected}")]
    Length {
        /// The object.
        key: String,
        /// Announced.
        expected: u64,
        /// Written, so far.
        got: u64,
    },
    /// An upload got other bytes than announced.
    #[error("the bytes of the output {key} do not have the announced SHA-256")]
    OutputHash {
        /// The object.
        key: String,
    },
    /// A call of our own got no answer.
    #[error("{doing} {key}")]
    Http {
        /// What was tried.
        doing: &'static str,
        /// The object.
        key: String,
        /// What the client says, without the address: it is signed.
        #[source]
        source: reqwest::Error,
    },
    /// A call of our own was refused.
    #[error("{doing} {key}: the bucket answered {status}: {said}")]
    Refused {
        /// What was tried.
        doing: &'static str,
        /// The object.
        key: String,
        /// Its HTTP status; 0 when there was none.
        status: u16,
        /// The beginning of what it said.
        said: String,
    },
    /// Somebody else wrote this version of a system record first: read again and redo.
    #[error("version {version} of {key} is there already")]
    Conflict {
        /// The record.
        key: String,
        /// The version that was to be written.
        version: u64,
    },
    /// A name that cannot be part of a key.
    #[error("not usable in a key: {0:?}")]
    Name(String),
    /// The bucket takes a second put-if-absent of one key: runs cannot be arbitrated in it.
    #[error("the bucket does not honour put-if-absent (If-None-Match: *)")]
    NoPutIfAbsent,
    /// The settings do not make a client.
    #[error("make an S3 client from the settings")]
    Settings(#[source] StoreError),
    /// No HTTP client can be built.
    #[error("build an HTTP client for the bucket")]
    Client(#[source] reqwest::Error),
}

impl ObjectsError {
    pub(crate) fn store(doing: &'static str, key: impl Into<String>, source: StoreError) -> Self {
        Self::Store {
            doing,
            key: key.into(),
            source,
        }
    }

    /// Whether another try can succeed.
    pub fn class(&self) -> Class {
        match self {
            Self::Store { source, .. } => store_class(source),
            // Refused credentials among them: see `store_class`.
            Self::Timeout { .. } | Self::Http { .. } | Self::Refused { .. } => Class::Transient,
            Self::Document { .. }
            | Self::Hash { .. }
            | Self::OutputHash { .. }
            | Self::Length { .. }
            | Self::Conflict { .. }
            | Self::Name(_)
            | Self::NoPutIfAbsent
            | Self::Settings(_)
            | Self::Client(_) => Class::Permanent,
        }
    }

    /// True when a system record was written by somebody else meanwhile.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. })
    }
}

/// Refused credentials count as transient: jobs must outlive an operator's mistake with them.
fn store_class(error: &StoreError) -> Class {
    match error {
        StoreError::InvalidPath { .. }
        | StoreError::NotSupported { .. }
        | StoreError::NotImplemented { .. }
        | StoreError::UnknownConfigurationKey { .. } => Class::Permanent,
        StoreError::Generic { .. }
        | StoreError::NotFound { .. }
        | StoreError::JoinError { .. }
        | StoreError::AlreadyExists { .. }
        | StoreError::Precondition { .. }
        | StoreError::NotModified { .. }
        | StoreError::PermissionDenied { .. }
        | StoreError::Unauthenticated { .. }
        | _ => Class::Transient,
    }
}

pub(crate) fn is_not_found(error: &StoreError) -> bool {
    matches!(error, StoreError::NotFound { .. })
}

pub(crate) fn is_already_there(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }
    )
}
