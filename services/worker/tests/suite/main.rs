//! The worker against real files, real ffmpeg and real HTTP.
#![expect(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests have no runtime of ours around them, and fail by panicking"
)]

mod attempts;
mod bench;
mod byhand;
mod captioned;
mod captions;
mod clips;
mod door;
mod encoders;
mod inputs;
mod orphans;
mod process;
mod support;
mod videos;
