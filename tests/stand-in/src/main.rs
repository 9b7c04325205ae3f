//! `stand-in-worker`: the worker of RunPod jobs, whose files are made of nothing. What it reads stands in the crate's
//! documentation.

use std::process::ExitCode;

use clap::Parser as _;
use photofinish_runtime::{RunArgs, run_with};
use photofinish_stand_in::{Settings, serve};
use photofinish_worker::config;

/// Does everything that the worker does but renders nothing: it waits, and writes files of the size it is told.
#[derive(Debug, clap::Parser)]
#[command(name = "stand-in-worker", version)]
struct Cli {
    #[command(flatten)]
    serve: RunArgs,
    #[command(flatten)]
    stand_in: Settings,
}

fn main() -> ExitCode {
    let Cli {
        serve: args,
        stand_in,
    } = Cli::parse();
    run_with(config::service(), args, |settings, context| {
        serve(stand_in, settings, context)
    })
}
