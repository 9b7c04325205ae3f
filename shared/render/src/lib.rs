//! From a picture to frames: [`decode`] a file, set a [`stage`], move a [`camera`], [`pump`] frames.
//!
//! Guarantee: the same picture and motion give the same bytes of raw BT.709 limited-range video, whatever the number of
//! threads, with a bounded number of frames in memory.
//!
//! Not for: files, encoders, anything of a job. It knows neither ffmpeg nor RunPod.

pub mod camera;
pub mod decode;
pub mod pump;
pub mod stage;
