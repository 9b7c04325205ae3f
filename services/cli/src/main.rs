//! The command line `photofinish`.

use clap::Parser as _;
use photofinish_cli::{Args, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::process::ExitCode {
    // An error means that a provider is there already.
    let _already = rustls::crypto::ring::default_provider().install_default();
    run(Args::parse()).await
}
