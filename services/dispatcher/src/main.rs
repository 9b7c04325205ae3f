//! `photofinish-dispatcher`: see the library.

use photofinish_dispatcher::{app, config};

fn main() -> std::process::ExitCode {
    photofinish_runtime::run(config::service(), app::build)
}
