//! Faults played on the whole product while it works.
//!
//! Nouns: a [`Stage`] is a stack of real processes with a Redis of its own, a virtual host of its own (or a whole
//! RabbitMQ node, where that is the victim) and a receiver of webhooks; its workers render, or are stand-ins that
//! write bytes where pictures do not matter. A [`Scene`] is a stage with a [`Victim`] that is killed, and a [`Shelf`] of
//! pictures of which some are held back where workers render. The [`Emulator`] is told what RunPod is to do wrong; the
//! [`Doubler`] publishes every internal message again; [`bucket`] reads what lies in the S3 server's directory, past
//! every process of ours; [`laws`] says what must hold afterwards, whatever befell.
//!
//! Guarantee: the moment of the fault is a state and not a guess: outputs are stored, and some cannot be, because they
//! are held back. Whatever a stage started is ended with it.
//!
//! Not for faults of one crate: its own tests play those.
#![expect(
    clippy::disallowed_methods,
    reason = "test support has no runtime of ours around it"
)]

pub mod bucket;
mod doubler;
mod emulator;
pub mod laws;
pub mod recorder;
mod scene;
mod shelf;
mod stage;

pub use doubler::Doubler;
pub use emulator::Emulator;
pub use rustix::process::Signal;
pub use scene::{PICTURES, Scene, Victim};
pub use shelf::Shelf;
pub use stage::{Making, Setup, Stage};
