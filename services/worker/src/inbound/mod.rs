//! The two entrances: jobs from RunPod, and calls to the output server.

pub mod door;
mod idle;
pub mod outputs;
pub mod runpod;
