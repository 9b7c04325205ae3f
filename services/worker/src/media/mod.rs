//! Media files and the programs that read and write them.

pub mod container;
pub mod encoder;
pub mod ffmpeg;
pub mod probe;
