//! What can go wrong, and whether it is worth trying again.

/// The settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The URL is not an AMQP URL; the text says why and holds no password.
    #[error("broker.url is not an AMQP URL: {0}")]
    Url(String),
    /// A number lies outside of its bounds.
    #[error("broker.{name} must be {rule}")]
    Bounds {
        /// The setting.
        name: &'static str,
        /// What it must be.
        rule: &'static str,
    },
    /// A file for TLS cannot be read.
    #[error(transparent)]
    Tls(#[from] crate::tls::TlsFileError),
    /// Half a certificate of our own.
    #[error("broker.tls.cert_file and broker.tls.key_file: set both or neither")]
    HalfACertificate,
}

/// The topology could not be declared or is not there.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// RabbitMQ refused one declaration, or the channel was lost.
    #[error("declare {name} on the broker")]
    Declare {
        /// The exchange or queue.
        name: String,
        /// What RabbitMQ or lapin said.
        #[source]
        source: lapin::Error,
    },
    /// The connection was lost meanwhile, or the broker does not answer.
    #[error("prepare {name} on the broker: no answer")]
    NoAnswer {
        /// The exchange, queue or channel.
        name: String,
    },
    /// A name is longer than 255 bytes.
    #[error("the name {0:?} is too long for the broker")]
    Name(String),
}

/// A message was not confirmed by the broker, so it must be taken as not sent (it may be there all the same).
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// No confirm came in time: the broker is away, blocked or slow.
    #[error("publish to {target}: not confirmed within {timeout_ms} ms")]
    Timeout {
        /// Where to.
        target: &'static str,
        /// The setting `publish_timeout_s`.
        timeout_ms: u64,
    },
    /// A client's own queue refused it: it is full, or has no leader at the moment. Whether it is
    /// published once more, the author of the message decides; nobody else shall wait for it.
    #[error("publish to {target}: a queue of a client's takes nothing more")]
    Refused {
        /// Where to.
        target: &'static str,
    },
    /// The broker returned it: the queue or binding is missing.
    #[error("publish to {target}: returned as unroutable")]
    Unroutable {
        /// Where to.
        target: &'static str,
    },
    /// The body is too large for an internal message: put it into S3 and send its name.
    #[error("publish to {target}: a body of {bytes} bytes is over the limit of {bytes_max}")]
    TooLarge {
        /// Where to.
        target: &'static str,
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// A property or header does not fit into AMQP, or a header is not one of ours.
    #[error("publish to {target}: {what} cannot be sent")]
    Invalid {
        /// Where to.
        target: &'static str,
        /// Which property or header.
        what: String,
    },
    /// A `reply_to` that names a queue of ours.
    #[error("publish to a reply queue: its name is reserved")]
    ReservedReply,
    /// The process is ending and its connections are closed.
    #[error("publish to {target}: the connection is closed for good")]
    Closed {
        /// Where to.
        target: &'static str,
    },
}

impl PublishError {
    /// The word in traces.
    pub(crate) const fn label(&self) -> &'static str {
        match self {
            Self::Timeout { .. } => "timeout",
            Self::Refused { .. } => "refused",
            Self::Unroutable { .. } => "returned",
            Self::TooLarge { .. } => "too_large",
            Self::Invalid { .. } => "invalid",
            Self::ReservedReply => "reserved_reply",
            Self::Closed { .. } => "closed",
        }
    }

    /// Whether the same message may succeed later; one that a client's queue refused, only if its author says so.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Timeout { .. } | Self::Unroutable { .. } | Self::Closed { .. } => true,
            Self::Refused { .. }
            | Self::TooLarge { .. }
            | Self::Invalid { .. }
            | Self::ReservedReply => false,
        }
    }
}

/// [`crate::Broker::get`] or [`crate::Broker::depth`] failed: the connection is away or the queue is missing.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// There is no connection at the moment.
    #[error("ask for a message of {queue}: no connection to the broker")]
    Away {
        /// The queue.
        queue: String,
    },
    /// The broker refused, or the channel was lost.
    #[error("ask for a message of {queue}")]
    Refused {
        /// The queue.
        queue: String,
        /// What RabbitMQ or lapin said.
        #[source]
        source: lapin::Error,
    },
}

/// A body that is not what it should be: a refused submission, or a parked internal message.
#[derive(Debug, thiserror::Error)]
#[error("decode a message as {expected}")]
pub struct Undecodable {
    /// The Rust type that was expected.
    pub expected: &'static str,
    /// Where and why.
    #[source]
    pub source: serde_json::Error,
}
