//! The GPU worker: takes attempts from RunPod, renders their items, serves and rescues the outputs.
//!
//! Nouns: an [`attempt`] is what the dispatcher submitted, one of its items yields one output; the
//! three [`operations`] make outputs, img2vid with our own renderer (`shared/render`), and [`media`] drives
//! ffmpeg; [`inbound`] has the two entrances, RunPod's jobs and the output server.
//!
//! The story of an attempt: it is taken; a directory of its own is made and announced empty; items
//! are fetched, recognised and encoded, several at once; each finished output is hashed, announced
//! (RunPod's progress, the signal address) and served at once; whoever stores one acknowledges it,
//! and its file goes. When rendering is over the worker lingers for what is not fetched, pushes it
//! to presigned addresses when nobody comes, and answers RunPod with the last announcement.
//!
//! The guarantee: an output exists under its name only when it is whole; it is served until it is
//! acknowledged, pushed, unwanted or its time is over; one item's fault never disturbs another;
//! nothing the client wrote is an argument, a path or a filter of a program we start.
//!
//! Not for: deciding what is retried, knowing S3 or holding any credentials.

pub mod app;
pub mod attempt;
pub mod config;
pub mod doctor;
pub mod error;
mod exposed;
pub mod inbound;
mod machine;
pub mod media;
pub mod offline;
pub mod operations;
mod orphan;
