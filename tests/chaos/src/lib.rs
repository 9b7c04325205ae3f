//! Faults played on the whole product while it works.
//!
//! Nouns: a [`Scene`] is a stack of real processes with a Redis of its own, a virtual host of its own (or a whole
//! RabbitMQ node, where that is the victim), a [`Shelf`] of pictures of which some are held back, and a receiver of
//! webhooks; a [`Victim`] is what is killed; [`bucket`] reads what lies in the S3 server's directory, past every
//! process of ours; [`laws`] says what must hold afterwards, whatever was killed.
//!
//! Guarantee: the moment of the fault is a state and not a guess: outputs are stored, and some cannot be, because their
//! pictures are held back. Whatever a scene started is ended with it.
//!
//! Not for faults of one crate: its own tests play those.
#![expect(
    clippy::disallowed_methods,
    reason = "test support has no runtime of ours around it"
)]

pub mod bucket;
pub mod laws;
mod scene;
mod shelf;

pub use scene::{PICTURES, Scene, Victim};
pub use shelf::Shelf;
