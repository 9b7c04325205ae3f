//! `runpod-sim`: see README.md.

use clap::Parser as _;
use photofinish_runpod_sim::{Config, Sim};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
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
        anyhow::Ok(())
    })
}
