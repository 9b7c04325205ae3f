//! The worker against real files, real ffmpeg and real HTTP.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests have no runtime of ours around them, and fail by panicking"
)]

mod attempts;
mod bench;
mod clips;
mod door;
mod process;
mod support;
mod videos;
