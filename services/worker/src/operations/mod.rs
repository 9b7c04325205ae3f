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
pub mod img2vid;
pub mod inputs;
pub mod srt;
pub mod studio;
pub mod video;

/// A finished file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Made {
    /// Its length in seconds.
    pub duration_s: f64,
}
