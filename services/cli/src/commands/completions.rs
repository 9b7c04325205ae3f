//! `completions`: a script for the shell.

use crate::args::{Args, Shell};
use crate::error::CliError;
use crate::output::Output;
use clap::CommandFactory as _;

/// Prints it.
pub(crate) fn completions(shell: Shell, output: &mut Output) -> Result<(), CliError> {
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "photofinish", &mut script);
    output.raw(&script)
}
