//! What must be queried fast, in Redis: job records, parts, slots, turns, deadlines, deliveries
//! and copies of the operator's records.
//!
//! The nouns: a *record* is a job in its newest run with its items; a *settled* item is stored or
//! failed and never changes within the run; a *slot* is the right to have one attempt in flight,
//! a *grant* a slot that has no attempt yet; a *lane* is one of the queues in which parts wait; a
//! *turn* is a message's number at each of its own republications; a *copy* is a system record as
//! it was read from the bucket a moment ago.
//!
//! The guarantee: every transition is one Lua script over one hash tag, safe to repeat, and every
//! time that is compared is Redis' own. What is missing is told as missing, never as an error:
//! after FLUSHALL everything goes on and is rebuilt from the bucket and the queues.
//!
//! Not for: anything that must outlive Redis (`objects`), what is in flight (RabbitMQ).

pub mod config;
mod connections;
mod deadlines;
mod deliveries;
mod endpoint_health;
mod error;
mod estimates;
mod events;
mod health;
mod jobs;
mod keys;
mod list;
mod parts;
mod quotas;
mod retention;
mod settle;
mod slots;
mod store;
mod system;
mod tls;
mod turns;
mod uploads;

pub use deliveries::{
    AttemptLog, Begun, Counted, DeliveryFilter, DeliveryRecord, DeliveryView, Receipt, Recorded,
};
pub use error::{Class, JobStoreError};
pub use estimates::Estimates;
pub use events::{Asked, EVENTS_MAX, EVENTS_PAGE_MAX, Logged, Telling};
pub use health::RedisHealth;
pub use jobs::{Created, Finished, Header, RunBegun};
pub use keys::{Key, LIFETIMES, Lifetime};
pub use list::{ListFilter, Page};
pub use parts::Swap;
pub use quotas::{DayUse, Rated, Reserved};
pub use retention::KeptOf;
pub use settle::{GoesOn, Settle, Started, Wanted};
pub use slots::{Grant, GrantAsk, LaneGrant, Slot, SlotFor, SlotKind};
pub use store::{JobStore, Settings};
pub use system::CachedRecord;
pub use tls::TlsFiles;
pub use turns::Turn;
pub use uploads::KeptUpload;
