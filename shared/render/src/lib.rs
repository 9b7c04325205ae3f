//! From a picture to frames: [`decode`] a file, set a [`stage`], move a [`camera`], [`pump`] frames.
//!
//! A stage is the picture as planes ([`convert`]); a frame is each plane resampled at the camera's exact rectangle
//! ([`resample`], by the taps of [`axis`] and the inner loops of [`kernel`]).
//!
//! Guarantee: the same picture and motion give the same bytes of raw BT.709 limited-range video, whatever the number of
//! threads and whichever vector instructions the processor has, with a bounded number of frames in memory.
//!
//! Not for: files, encoders, anything of a job. It knows neither ffmpeg nor RunPod.
#![expect(
    clippy::cast_possible_wrap,
    reason = "samples are signed numbers in bytes; positions on pictures are far below any limit"
)]

mod axis;
pub mod camera;
mod convert;
pub mod decode;
pub mod kernel;
pub mod pump;
mod resample;
pub mod stage;
