//! What can go wrong between us and RunPod's data plane.

use std::time::Duration;

use super::gate::Went;

/// Why a client could not be made; always a fault of the configuration or of the machine.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The base URL is no http or https URL.
    #[error("runpod base URL is not an http or https URL")]
    BaseUrl,
    /// The key has characters that no header may have.
    #[error("runpod API key has characters that cannot be sent in a header")]
    KeyNotAHeader,
    /// TLS or the certificate store could not be set up.
    #[error("set up the HTTP client for runpod")]
    Http(#[source] reqwest::Error),
}

/// Why a submit gave no run id. All but [`RunError::Unknown`] are definite refusals: nothing
/// was queued and the same attempt may be submitted again.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// RunPod answered 4xx (429 included): nothing was queued.
    #[error("runpod refused the run with status {status}: {detail}")]
    Refused {
        /// HTTP status, 400 to 499.
        status: u16,
        /// When RunPod would like to be asked again, if it said so.
        retry_after: Option<Duration>,
        /// What its answer said, cut to 512 characters.
        detail: String,
    },
    /// The body is over the limit and was not sent.
    #[error("run request of {bytes} bytes is above the limit of {max} bytes")]
    TooLarge {
        /// Size of the body that would have been sent.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The connection never opened.
    #[error("connect to runpod")]
    NotSent {
        /// What the connector said.
        #[source]
        source: reqwest::Error,
    },
    /// The endpoint kept failing, so nothing was sent: later, or elsewhere, it may go.
    #[error("not sent, runpod's endpoint keeps failing: not before {retry_after:?}")]
    Open {
        /// When it may be tried again.
        retry_after: Duration,
    },
    /// The run may or may not be queued.
    #[error("submit a run, outcome unknown")]
    Unknown(#[source] Unknown),
}

impl RunError {
    /// Whether it is certain that RunPod queued nothing.
    pub fn is_refused(&self) -> bool {
        match self {
            Self::Refused { .. }
            | Self::TooLarge { .. }
            | Self::NotSent { .. }
            | Self::Open { .. } => true,
            Self::Unknown(_) => false,
        }
    }

    /// The wait that RunPod asked for, or that of the breaker, if any.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            Self::Open { retry_after } => Some(*retry_after),
            Self::TooLarge { .. } | Self::NotSent { .. } | Self::Unknown(_) => None,
        }
    }

    /// A word for logs and metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Refused { status: 429, .. } => "rate_limited",
            Self::Refused { .. } => "refused",
            Self::TooLarge { .. } => "too_large",
            Self::NotSent { .. } => "not_sent",
            Self::Open { .. } => "breaker_open",
            Self::Unknown(_) => "unknown",
        }
    }

    /// What the breaker makes of a submit that was sent: a refusal is an answer, but for 429.
    pub(super) fn went(error: Option<&Self>) -> Went {
        match error {
            Some(Self::Refused {
                status: 429,
                retry_after,
                ..
            }) => Went::Failed {
                retry_after: *retry_after,
            },
            None | Some(Self::Refused { .. } | Self::TooLarge { .. } | Self::Open { .. }) => {
                Went::Answered
            }
            Some(Self::NotSent { .. } | Self::Unknown(_)) => Went::Failed { retry_after: None },
        }
    }
}

/// Why the outcome of a submit is not known.
#[derive(Debug, thiserror::Error)]
pub enum Unknown {
    /// Timed out or cut after the connection was open.
    #[error("the call was cut or timed out")]
    Transport(#[source] reqwest::Error),
    /// An answer that does not say: 5xx, a redirect, an edge page, a success without an id.
    #[error("answer with status {status}: {detail}")]
    Answer {
        /// HTTP status.
        status: u16,
        /// What the answer said, cut to 512 characters.
        detail: String,
    },
}

/// Why a question (`status`, `cancel`, `health`) got no answer.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// 404: expired, never known, or an endpoint that does not exist. Not a transport fault.
    #[error("runpod does not know it: {detail}")]
    NotFound {
        /// What the answer said.
        detail: String,
    },
    /// 401 or 403: the key is wrong or lacks the permission. Someone must act.
    #[error("runpod refused the key with status {status}: {detail}")]
    Unauthorized {
        /// HTTP status.
        status: u16,
        /// What the answer said.
        detail: String,
    },
    /// 429.
    #[error("runpod's rate limit is reached")]
    RateLimited {
        /// When RunPod would like to be asked again, if it said so.
        retry_after: Option<Duration>,
    },
    /// Any other answer; asking again later is right.
    #[error("runpod answered with status {status}: {detail}")]
    Transient {
        /// HTTP status; 0 for a success that could not be understood.
        status: u16,
        /// What the answer said.
        detail: String,
    },
    /// The endpoint kept failing, so it was not asked; asking again later is right.
    #[error("not asked, runpod's endpoint keeps failing: not before {retry_after:?}")]
    NotAsked {
        /// When it may be asked again.
        retry_after: Duration,
    },
    /// No whole answer; asking again later is right.
    #[error("call runpod")]
    Transport(#[source] reqwest::Error),
}

impl StatusError {
    pub(super) fn transport(source: reqwest::Error) -> Self {
        Self::Transport(source.without_url())
    }

    pub(super) fn not_understood(what: &str) -> Self {
        Self::Transient {
            status: 0,
            detail: format!("answer not understood: {what}"),
        }
    }

    pub(super) fn from_status(status: u16, retry_after: Option<Duration>, detail: String) -> Self {
        match status {
            404 => Self::NotFound { detail },
            401 | 403 => Self::Unauthorized { status, detail },
            429 => Self::RateLimited { retry_after },
            _ => Self::Transient { status, detail },
        }
    }

    /// Whether asking again later can help without anyone acting.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::RateLimited { .. }
            | Self::Transient { .. }
            | Self::NotAsked { .. }
            | Self::Transport(_) => true,
            Self::NotFound { .. } | Self::Unauthorized { .. } => false,
        }
    }

    /// Whether RunPod answered and would not do it: a 4xx that is none of the others, nor
    /// the 408 of an edge.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Transient {
                status: 400..=407 | 409..=499,
                ..
            }
        )
    }

    /// A word for logs and metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not_found",
            Self::Unauthorized { .. } => "unauthorized",
            Self::RateLimited { .. } => "rate_limited",
            Self::Transient { .. } => "transient",
            Self::NotAsked { .. } => "breaker_open",
            Self::Transport(_) => "transport",
        }
    }

    /// What the breaker makes of it: a refusal is an answer, but for 429.
    pub(super) fn went(error: Option<&Self>) -> Went {
        match error {
            None
            | Some(
                Self::NotFound { .. }
                | Self::Unauthorized { .. }
                | Self::NotAsked { .. }
                | Self::Transient {
                    status: 400..=499, ..
                },
            ) => Went::Answered,
            Some(Self::RateLimited { retry_after }) => Went::Failed {
                retry_after: *retry_after,
            },
            Some(Self::Transient { .. } | Self::Transport(_)) => Went::Failed { retry_after: None },
        }
    }
}
