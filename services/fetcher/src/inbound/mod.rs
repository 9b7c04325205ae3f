//! One file for each entrance.

pub mod signals;
pub mod watch;
