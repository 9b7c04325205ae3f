//! An emulator of one RunPod serverless endpoint: queue, workers, autoscaler, proxy.
//!
//! Jobs come in by the client API and wait in a queue ([`state`], no I/O); the scaler starts real
//! worker processes when they wait too long and stops them when they idle; workers speak RunPod's
//! worker protocol; what a worker serves is reached through the proxy over TCP only.
//!
//! Guarantee: a job ends once and stays so; a worker that has had SIGTERM is never given a job; a
//! job whose worker vanished runs again with `retries` raised; every process that was started is
//! ended with the emulator.
//!
//! Not for: production, performance of RunPod itself, the management API.

mod client_api;
mod config;
mod control;
mod proxy;
mod scaler;
mod server;
pub mod state;
mod webhook;
mod worker_api;
mod workers;

pub use config::Config;
pub use server::{Sim, StartError};
