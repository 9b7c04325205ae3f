//! `runpod-sim`: see README.md.

use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use photofinish_runpod_sim::{Config, Sim};
use tokio::signal::unix::{SignalKind, signal};

/// Longest wait for the answer of an emulator that is asked how it is.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

#[derive(Debug, clap::Parser)]
#[command(name = "runpod-sim", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    config: Config,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Ask the emulator at RUNPOD_SIM_LISTEN whether it lives; exit code 0 or 1
    Healthcheck,
}

fn main() -> anyhow::Result<ExitCode> {
    let Cli { config, command } = Cli::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    match command {
        Some(Command::Healthcheck) => runtime.block_on(healthcheck(&config))?,
        None => runtime.block_on(serve(config))?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let sim = Sim::start(config).await?;
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
    // A second signal ends at once; the workers go with us.
    tokio::select! {
        () = sim.stop() => {}
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

async fn healthcheck(config: &Config) -> anyhow::Result<()> {
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut addr = config.listen;
    if addr.ip().is_unspecified() {
        addr.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    let client = reqwest::Client::builder().no_proxy();
    let client = client.timeout(ANSWER_TIMEOUT).build()?;
    let answer = client.get(format!("http://{addr}/healthz")).send().await;
    let answer = answer.with_context(|| format!("ask {addr}"))?;
    answer
        .error_for_status()
        .map(drop)
        .context("it is not well")
}
