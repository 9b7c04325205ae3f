//! `photofinish-ingest`: see the library.

use photofinish_ingest::{app, config};

fn main() -> std::process::ExitCode {
    photofinish_runtime::run(config::service(), app::build)
}
