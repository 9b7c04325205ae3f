//! RabbitMQ: topology, confirmed publisher, consume loops with dispositions, retry tiers and turns.
//!
//! Nouns: a [`Broker`] holds two supervised connections. A [`Publisher`] sends [`Outgoing`] messages to a
//! [`Target`]. A handler gets an [`Incoming`] message of a [`WorkQueue`] and answers with a [`Disposition`]. The
//! [`topology`] is all that is declared, as data.
//!
//! Guarantee: every publish is persistent and confirmed; a message is acknowledged last, after all that follows
//! from it; nothing is nacked, retried or parked but by publishing its successor first. Connections, channels and
//! consumers are rebuilt for ever. Each message is handled at least once, so every effect must be keyed.
//!
//! Not for: what the messages mean (`contract`), whether a turn is a copy (`jobstore` keeps the register), or when
//! to try again (the handler's policy).

mod acks;
mod broker;
mod connection;
mod consumer;
mod driver;
mod error;
mod headers;
mod held;
mod incoming;
mod listening;
mod management;
mod names;
mod outgoing;
mod parked;
mod publisher;
mod settings;
mod settle;
mod signals;
mod target;
mod telemetry;
mod tls;
pub mod topology;
mod waiting;

pub use broker::Broker;
pub use consumer::Consumption;
pub use error::{GetError, PublishError, SettingsError, TopologyError, Undecodable};
pub use headers::{FIRST_KEY, REJECTED_CODE, REJECTED_DETAIL, TENANT};
pub use held::{GETS_MAX, Held};
pub use incoming::{Incoming, Parked, Turn};
pub use listening::{Heard, Listening};
pub use management::{Grants, Management, ManagementError, ServerHealth, TopicGrant, definitions};
pub use names::{Family, Priority, Route, UnknownFamily, WorkQueue, is_ours};
pub use outgoing::Outgoing;
pub use parked::{PARKED_MAX, ParkedError, ParkedIn, ParkedMessage};
pub use publisher::Publisher;
pub use settings::{
    Access, DELIVERIES_MAX, HEARTBEAT_S, INTERNAL_BYTES_MAX, PANIC_WAIT, PANICS_MAX, Settings,
};
pub use settle::Disposition;
pub use target::Target;
pub use tls::{TlsFileError, TlsFiles};

/// The section `[broker]` with its defaults and comments, to be put into a service's embedded defaults.
pub const DEFAULTS: &str = include_str!("defaults.toml");
