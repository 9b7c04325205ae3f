//! The three operations: img2vid, caption, addaudio.
//!
//! Nouns: the [`studio::Studio`] is what all work shares; [`inputs`] are fetched from strangers; a
//! [`Made`] is a finished file.
//!
//! Guarantee: ffmpeg only ever sees local files that we fetched and recognised, with the demuxer
//! forced and no protocol but files and pipes. Not for: what becomes of a finished file.

pub mod addaudio;
pub mod ass;
pub mod caption;
pub mod encode;
pub mod fonts;
pub mod img2vid;
pub mod inputs;
pub mod links;
pub mod picture;
pub mod progress;
pub mod srt;
pub mod studio;
pub mod video;

use std::time::Duration;

use crate::media::plan::Encoder;

/// A finished file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Made {
    /// Its length in seconds.
    pub duration_s: f64,
    /// Who encoded its pictures; `None`: they are as they were.
    pub encoder: Option<Encoder>,
    /// How long that took, from the slot it was given.
    pub took: Duration,
}
