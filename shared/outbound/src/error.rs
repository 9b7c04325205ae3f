//! What can go wrong outside, and whether trying again may help.

use std::error::Error as StdError;
use std::time::Duration;

use crate::guard::Refused;

/// Whether a failure may pass by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The same again will fail the same way.
    Permanent,
    /// Trying later may help.
    Transient,
}

/// Which wait was too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// DNS, TCP and TLS.
    Connect,
    /// From the request to the head of the answer.
    FirstByte,
    /// Between two pieces of the body.
    Idle,
    /// All in all.
    Total,
}

impl Phase {
    fn text(self) -> &'static str {
        match self {
            Self::Connect => "connecting took too long",
            Self::FirstByte => "no answer in time",
            Self::Idle => "the answer stopped coming",
            Self::Total => "the whole exchange took too long",
        }
    }
}

/// The client could not be built.
#[derive(Debug, thiserror::Error)]
#[error("build the HTTP client (is a TLS crypto provider installed, are there CA certificates?)")]
pub enum BuildError {
    /// By the client itself.
    Client(#[from] reqwest::Error),
    /// By TLS.
    Tls(#[from] rustls::Error),
}

/// A call to a stranger's address failed.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// The address is not one we call.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// More redirects than allowed, or one without a target.
    #[error("more than {max} redirects, or one that leads nowhere")]
    Redirects {
        /// The limit.
        max: u8,
    },
    /// No connection, for another reason than time.
    #[error("connect")]
    Connect(#[source] reqwest::Error),
    /// A wait that was too long.
    #[error("{}", .0.text())]
    Timeout(Phase),
    /// The connection broke in the middle.
    #[error("the connection broke")]
    Interrupted(#[source] reqwest::Error),
    /// An answer other than 2xx (and 206 where asked for).
    #[error("the server answered {status}")]
    Status {
        /// HTTP status.
        status: u16,
        /// What the server asked to wait, if it did.
        retry_after: Option<Duration>,
    },
    /// The body is larger than allowed.
    #[error("the body is larger than {max} bytes")]
    TooLarge {
        /// The limit in bytes.
        max: u64,
    },
    /// The local file could not be written.
    #[error("write the downloaded file")]
    File(#[from] std::io::Error),
}

impl OutboundError {
    /// Whether trying again may help.
    pub fn class(&self) -> Class {
        match self {
            Self::Refused(_) | Self::Redirects { .. } | Self::TooLarge { .. } => Class::Permanent,
            Self::Status { status, .. } => match status {
                408 | 425 | 429 | 500..=599 => Class::Transient,
                _ => Class::Permanent,
            },
            Self::Connect(_) | Self::Timeout(_) | Self::Interrupted(_) | Self::File(_) => {
                Class::Transient
            }
        }
    }

    /// A label for metrics.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Refused(_) => "refused",
            Self::Redirects { .. } => "redirects",
            Self::Connect(_) => "connect",
            Self::Timeout(_) => "timeout",
            Self::Interrupted(_) => "interrupted",
            Self::Status { .. } => "status",
            Self::TooLarge { .. } => "too_large",
            Self::File(_) => "file",
        }
    }

    /// Sorts what reqwest says; the URL is taken out, since it may hold a capability.
    pub(crate) fn from_reqwest(error: reqwest::Error) -> Self {
        let error = error.without_url();
        if let Some(refused) = find::<Refused>(&error) {
            return Self::Refused(refused.clone());
        }
        match (error.is_connect(), error.is_timeout()) {
            (true, true) => Self::Timeout(Phase::Connect),
            (true, false) => Self::Connect(error),
            (false, true) => Self::Timeout(Phase::Total),
            (false, false) => Self::Interrupted(error),
        }
    }
}

fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}
