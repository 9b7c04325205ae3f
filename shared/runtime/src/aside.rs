//! What a service's program does besides running: for images that hold nothing but it.

use std::process::ExitCode;
use std::time::Duration;

use crate::Service;
use crate::healthcheck::{HealthcheckArgs, healthcheck};

/// Longest sleep, in seconds: an orchestrator's patience is shorter.
const WAIT_MAX_S: u16 = 600;

/// The sub-commands that every service has. Flatten them into sub-commands of one's own.
#[derive(Debug, clap::Subcommand)]
pub enum Aside {
    /// Ask the process that runs with these settings whether it lives; exit code 0 or 1
    Healthcheck(HealthcheckArgs),
    /// Sleep, then end well: before a container is stopped, while others still send to it
    Wait {
        /// Seconds, at most 600
        #[arg(value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(..=i64::from(WAIT_MAX_S)))]
        seconds: u16,
    },
}

impl Aside {
    /// Does it for a service.
    pub fn run<S>(self, service: Service<S>) -> ExitCode {
        match self {
            Self::Healthcheck(args) => healthcheck(service, args),
            Self::Wait { seconds } => {
                std::thread::sleep(Duration::from_secs(seconds.into()));
                ExitCode::SUCCESS
            }
        }
    }
}
