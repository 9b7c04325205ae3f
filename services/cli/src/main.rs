//! The command line `photofinish`.

use clap::Parser as _;
use photofinish_cli::{Args, USAGE, run};
use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // An error means that a provider is there already.
    let _already = rustls::crypto::ring::default_provider().install_default();
    match Args::try_parse() {
        Ok(args) => run(args).await,
        Err(told) => {
            // Nobody is left to tell that the stream is closed.
            let _closed = told.print();
            // Not clap's own 2, which `endpoint diff` has for a difference.
            ExitCode::from(if told.use_stderr() { USAGE } else { 0 })
        }
    }
}
