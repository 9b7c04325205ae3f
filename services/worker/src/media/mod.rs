//! Media files and the programs that read and write them.

pub mod container;
pub mod encoder;
pub mod ffmpeg;
pub mod mp4;
pub mod plan;
pub mod probe;
pub mod rate;
