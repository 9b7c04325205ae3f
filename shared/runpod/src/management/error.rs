//! What can go wrong between us and RunPod's management API.

use std::time::Duration;

/// Why a call did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum ManagementError {
    /// The base URL, the key or the machine's TLS set-up cannot be used.
    #[error("set up the client of runpod's management API: {0}")]
    Setup(String),
    /// RunPod refused, and nothing was changed.
    #[error("runpod refused {call} with status {status}: {detail}{}", rows(.errors))]
    Refused {
        /// Method and path.
        call: String,
        /// HTTP status, 400 to 499.
        status: u16,
        /// What it said, cut to 512 characters.
        detail: String,
        /// Each fault that it named.
        errors: Vec<String>,
    },
    /// 404: no such endpoint, or not this account's.
    #[error("runpod does not know {call}: {detail}")]
    NotFound {
        /// Method and path.
        call: String,
        /// What it said.
        detail: String,
    },
    /// 401 or 403: the key is wrong or lacks the permission.
    #[error("runpod refused the key for {call} with status {status}: {detail}")]
    Unauthorized {
        /// Method and path.
        call: String,
        /// HTTP status.
        status: u16,
        /// What it said.
        detail: String,
    },
    /// 429, again and again.
    #[error("runpod's rate limit for {call} is reached")]
    RateLimited {
        /// Method and path.
        call: String,
        /// When it would like to be asked again, if it said so.
        retry_after: Option<Duration>,
    },
    /// 5xx, or an answer that is not RunPod's. Whether a change was made is not known.
    #[error("runpod answered {call} with status {status}: {detail}")]
    Unavailable {
        /// Method and path.
        call: String,
        /// HTTP status.
        status: u16,
        /// The beginning of what came.
        detail: String,
    },
    /// The connection never opened: nothing was changed.
    #[error("connect to runpod for {call}")]
    NotSent {
        /// Method and path.
        call: String,
        /// What the connector said.
        #[source]
        source: reqwest::Error,
    },
    /// The call was cut or timed out. Whether a change was made is not known.
    #[error("{call} of runpod was cut or timed out")]
    Cut {
        /// Method and path.
        call: String,
        /// What the transport said.
        #[source]
        source: reqwest::Error,
    },
    /// A create whose answer never came, and no endpoint of that name has appeared since.
    #[error("create the endpoint {name}, outcome unknown")]
    CreateUnknown {
        /// The name that was looked for.
        name: String,
        /// How the create failed.
        #[source]
        source: Box<ManagementError>,
    },
    /// More than one endpoint has the name.
    #[error("{count} endpoints are named {name}{}", rows(.ids))]
    NameTaken {
        /// The name.
        name: String,
        /// How many there are.
        count: usize,
        /// Their ids.
        ids: Vec<String>,
    },
}

/// Each on a line of its own.
fn rows(rows: &[String]) -> String {
    rows.iter()
        .fold(String::new(), |text, row| format!("{text}\n  {row}"))
}

impl ManagementError {
    /// Whether it is unknown if a change was made.
    pub fn is_unknown(&self) -> bool {
        match self {
            Self::Unavailable { .. } | Self::Cut { .. } | Self::CreateUnknown { .. } => true,
            Self::Setup(_)
            | Self::Refused { .. }
            | Self::NotFound { .. }
            | Self::Unauthorized { .. }
            | Self::RateLimited { .. }
            | Self::NotSent { .. }
            | Self::NameTaken { .. } => false,
        }
    }

    /// Whether asking again a moment later can help without anyone acting.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable { .. }
            | Self::Cut { .. }
            | Self::NotSent { .. }
            | Self::RateLimited { .. } => true,
            Self::Setup(_)
            | Self::Refused { .. }
            | Self::NotFound { .. }
            | Self::Unauthorized { .. }
            | Self::CreateUnknown { .. }
            | Self::NameTaken { .. } => false,
        }
    }
}
