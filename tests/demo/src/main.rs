//! `photofinish-demo`: the whole product on this machine, for people (`demo`) and for trying things out (`up`, `down`).

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use photofinish_demo::{containers, demo, say::say, up};

/// Runs Photofinish on this machine: no account, no GPU, no Docker.
#[derive(Debug, Parser)]
#[command(name = "photofinish-demo", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the product's main job for real and checks what comes out
    Demo {
        /// Where everything lies, logs and outputs included
        #[arg(long, default_value = ".dev/demo")]
        dir: PathBuf,
    },
    /// Starts everything, writes `env` beside the directory, and returns when all is ready
    Up {
        /// Where everything lies, logs included
        #[arg(long, default_value = ".dev/up")]
        dir: PathBuf,
    },
    /// Runs the demo's three jobs through a system that runs already, and checks what comes out
    Containers(containers::Containers),
    /// Stops what `up` started, also after a crash
    Down {
        /// The directory given to `up`
        #[arg(long, default_value = ".dev/up")]
        dir: PathBuf,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    photofinish_kit::install_crypto();
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(run(args.command)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(format!("\nnot done: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Demo { dir } => demo::run(&dir).await,
        Command::Up { dir } => up::up(&dir).await,
        Command::Containers(containers) => containers::run(containers).await,
        Command::Down { dir } => up::down(&dir).await,
    }
}
