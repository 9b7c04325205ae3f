//! `photofinish-worker`: serves RunPod; `run` does one job by hand, `doctor` looks at the machine,
//! `healthcheck` at the one that serves.

use std::process::ExitCode;

use clap::Parser as _;
use photofinish_runtime::{Aside, RunArgs, run_with};
use photofinish_worker::{app, config, doctor, offline};

#[derive(Debug, clap::Parser)]
#[command(
    name = "photofinish-worker",
    version,
    about = "Renders media jobs on a rented GPU",
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(flatten)]
    serve: RunArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Do one job by hand, without RunPod
    Run(offline::Offline),
    /// Look at encoder, fonts, processors, memory, disks and GPU, and say what is wrong
    Doctor(doctor::Doctor),
    #[command(flatten)]
    Aside(Aside),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(told) => {
            // Nobody is left to tell that the stream is closed.
            let _closed = told.print();
            let wrong = told.use_stderr();
            return ExitCode::from(if wrong { offline::USAGE } else { 0 });
        }
    };
    match cli.command {
        Some(Command::Run(offline)) => offline::run(&offline),
        Some(Command::Doctor(doctor)) => doctor::run(&doctor),
        Some(Command::Aside(aside)) => aside.run(config::service()),
        None => run_with(config::service(), cli.serve, app::build),
    }
}
