//! From a picture to frames: [`decode`] a file, set a [`stage`], move a [`camera`], [`pump`] frames.

pub mod camera;
pub mod decode;
pub mod pump;
pub mod stage;
