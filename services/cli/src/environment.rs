//! Variables that are not flags: where a user's directories are, and whether colours are welcome.

use std::path::PathBuf;

/// A variable's text; an empty one counts as not set.
#[expect(
    clippy::disallowed_methods,
    reason = "a command line has no settings of the services: its variables are the user's shell's"
)]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

/// `$XDG_CONFIG_HOME`, else `~/.config`; none without a home.
pub(crate) fn config_home() -> Option<PathBuf> {
    directory("XDG_CONFIG_HOME", ".config")
}

/// `$XDG_CACHE_HOME`, else `~/.cache`; none without a home.
pub(crate) fn cache_home() -> Option<PathBuf> {
    directory("XDG_CACHE_HOME", ".cache")
}

/// The XDG rules: a relative path counts as not set.
fn directory(name: &str, under_home: &str) -> Option<PathBuf> {
    let named = variable(name)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    named.or_else(|| Some(PathBuf::from(variable("HOME")?).join(under_home)))
}
