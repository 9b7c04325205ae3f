//! An emulator of RunPod serverless endpoints: queues, workers, autoscalers, proxy, webhooks.
//!
//! Jobs come in by the client API and wait in a queue ([`state`], no I/O); the scaler starts real
//! worker processes when they wait too long and stops them when they idle; workers speak RunPod's
//! worker protocol; what a worker serves is reached through the proxy and by TCP only. Time is a
//! [`Clock`](clock::Clock) that can go faster than real, and everything can be made to fail.
//!
//! Guarantee: a job ends once and stays so; a worker that has had SIGTERM is never given a job; a
//! job whose worker vanished runs again with `retries` raised; every process that was started is
//! ended with the emulator.
//!
//! Not for: production, performance of RunPod itself, load-balancing endpoints, batch jobs.

mod auth;
mod client_api;
pub mod clock;
pub mod config;
mod control;
pub mod endpoints;
mod faults;
mod limits;
mod management;
mod process;
mod proxy;
mod scaler;
mod server;
mod site;
pub mod state;
mod tcp;
mod webhook;
mod worker_api;
mod workers;

pub use config::Config;
pub use server::{Sim, StartError};
