//! What crosses a boundary: the public wire types, the internal messages, the worker's input and
//! announcements, and the tokens that guard them.
//!
//! The guarantee: a type here is a shape on the wire and nothing else. Requests refuse unknown
//! fields; everything that we read from our own messages ignores them, so that old and new
//! versions of the services can run side by side.
//!
//! Not for: decisions (`model`), records (`jobstore`, `objects`).

pub mod announcement;
pub mod attempt_input;
pub mod doctor;
pub mod endpoint;
pub mod event;
pub mod job;
pub mod messages;
pub mod problem;
pub mod request;
pub mod telling;
pub mod token;
pub mod upkeep;
pub mod webhook;
