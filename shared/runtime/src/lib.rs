//! The process around a service: settings, logs, traces, metrics, health, the admin port, tasks and the end.
//!
//! Nouns: a [`Service`] names the process and its embedded defaults; [`run`] loads its settings and calls the
//! service's own `build` with a [`Context`]; [`Tasks`] holds everything that runs; [`Shutdown`] tells it to end;
//! [`Health`] collects the [`Check`]s behind `/readyz`; [`Ports`] binds sockets and writes down where.
//!
//! Guarantee: every wrong setting is named at once before anything starts; every task is waited for at the end,
//! under a deadline, and the process says whether the end was clean (exit code 0) or not.
//!
//! Not for: anything of the domain. Jobs, parts, attempts and deliveries are unknown here.
//!
//! A service's `main.rs` is:
//! ```no_run
//! # #[derive(Debug, serde::Deserialize)] struct Settings {}
//! # async fn build(_: Settings, _: photofinish_runtime::Context) -> anyhow::Result<()> { Ok(()) }
//! use photofinish_runtime::{Service, run};
//! fn main() -> std::process::ExitCode {
//!     run(Service::<Settings>::new("fetcher", "[fetcher]\npulls_max = 16\n"), build)
//! }
//! ```

mod admin;
mod aside;
pub mod backoff;
pub mod clock;
pub mod config;
mod failure;
mod health;
mod healthcheck;
pub mod http;
mod log_lines;
mod ports;
mod run;
mod shutdown;
mod tasks;
mod telemetry;
pub mod tls;
pub mod trace;

pub use aside::Aside;
pub use clock::Clock;
pub use failure::error_chain;
pub use health::{Check, Health};
pub use ports::{ListenError, Ports};
pub use run::{Context, RunArgs, Service, run, run_with};
pub use shutdown::Shutdown;
pub use tasks::{Panicked, Tasks};
pub use telemetry::install_crypto;
