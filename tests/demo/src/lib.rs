//! The whole product on one machine: `photofinish-demo demo`, `up` and `down`, and the stack that the end-to-end
//! tests start.
//!
//! Nouns: the [`Stack`] is RabbitMQ, Redis, an S3 server, the RunPod emulator and the four services, each a process
//! of its own, under one directory; the [`Wiring`] is every address and key that they share; [`samples`] are the
//! inputs; [`jobs`] submits through both doors and follows; [`checks`] opens what came out; [`rescue`] stops the
//! fetcher and looks at what the worker then does; [`containers`] runs the same jobs through a stack that others
//! started.
//!
//! Guarantee: what was started is stopped, by its process id and start time, also by the next start after a crash;
//! the demo's exit code is 0 only if every check held.
//!
//! Not for production: secrets lie in plain files, everything listens on loopback.

pub mod checks;
pub mod containers;
pub mod demo;
pub mod jobs;
pub mod media;
pub mod pids;
pub mod progress;
pub mod receiver;
pub mod rescue;
pub mod samples;
pub mod say;
pub mod stack;
pub mod tables;
pub mod up;
pub mod wiring;

pub use stack::Stack;
pub use wiring::Wiring;
