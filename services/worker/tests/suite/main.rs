//! The worker against real files, real ffmpeg and real HTTP.
#![expect(
    clippy::disallowed_methods,
    reason = "tests have no runtime of ours around them"
)]

mod attempts;
mod clips;
mod pixels;
mod process;
mod support;
mod videos;
