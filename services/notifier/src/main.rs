//! `photofinish-notifier`: see the library.

use photofinish_notifier::{app, config};

fn main() -> std::process::ExitCode {
    photofinish_runtime::run(config::service(), app::build)
}
