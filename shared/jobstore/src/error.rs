//! What can go wrong with Redis, and whether trying again makes sense.

/// Whether another try can succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Redis is away, busy or starting: the same call may succeed later.
    Transient,
    /// The same call fails in the same way again.
    Permanent,
}

/// What this crate tried, and what came of it.
#[derive(Debug, thiserror::Error)]
pub enum JobStoreError {
    /// No connection could be had.
    #[error("connect to Redis for {doing}")]
    Connect {
        /// What was to be done.
        doing: &'static str,
        /// Why there is none.
        #[source]
        source: redis::RedisError,
    },
    /// The command failed, or its answer never came.
    #[error("{doing} in Redis")]
    Command {
        /// What was tried.
        doing: &'static str,
        /// What Redis or the connection says.
        #[source]
        source: redis::RedisError,
    },
    /// A value is not what this version writes.
    #[error("decode {what} from Redis")]
    Value {
        /// What was read.
        what: &'static str,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// An answer of a script that this version does not know.
    #[error("unexpected answer to {doing}: {answer}")]
    Answer {
        /// What was tried.
        doing: &'static str,
        /// The answer.
        answer: String,
    },
    /// An item that the job does not have.
    #[error("the job has no item {index}")]
    NoSuchItem {
        /// The place that was named.
        index: u16,
    },
    /// A cursor that we did not give out.
    #[error("not a cursor of ours")]
    Cursor,
    /// The settings do not make a client.
    #[error("make a Redis client from the settings: {0}")]
    Settings(String),
}

impl JobStoreError {
    /// Whether another try can succeed.
    pub fn class(&self) -> Class {
        match self {
            // Whatever Redis answers may be over later (loading, read-only, out of memory, a wrong
            // password): a job must outlive an operator's mistake.
            Self::Connect { .. } | Self::Command { .. } => Class::Transient,
            Self::Value { .. }
            | Self::Answer { .. }
            | Self::NoSuchItem { .. }
            | Self::Cursor
            | Self::Settings(_) => Class::Permanent,
        }
    }

    pub(crate) fn value(what: &'static str) -> impl Fn(serde_json::Error) -> Self {
        move |source| Self::Value { what, source }
    }

    pub(crate) fn answer(doing: &'static str, answer: &str) -> Self {
        Self::Answer {
            doing,
            answer: answer.to_owned(),
        }
    }
}
