//! `photofinish-worker`: serves RunPod; `photofinish-worker run` does one job by hand.

use std::process::ExitCode;

use clap::Parser as _;
use photofinish_runtime::{RunArgs, run_with};
use photofinish_worker::{app, config, offline};

#[derive(Debug, clap::Parser)]
#[command(
    name = "photofinish-worker",
    version,
    about = "Renders media jobs on a rented GPU"
)]
struct Cli {
    #[command(flatten)]
    serve: RunArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Do one job offline and print a table
    Run(offline::Offline),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Run(offline)) => offline::run(&offline),
        None => run_with(config::service(), cli.serve, app::build),
    }
}
