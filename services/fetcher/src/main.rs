//! `photofinish-fetcher`: see the library.

use photofinish_fetcher::{app, config};

fn main() -> std::process::ExitCode {
    photofinish_runtime::run(config::service(), app::build)
}
