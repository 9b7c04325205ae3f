//! One file for each entrance: the consumer of one queue.

pub mod outcome;
pub mod parked;
pub mod plan;
