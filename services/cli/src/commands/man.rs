//! `man`: the man page, one or one for each command.

use crate::args::Args;
use crate::error::CliError;
use crate::output::Output;
use clap::CommandFactory as _;
use serde_json::json;
use std::path::Path;

/// Prints the main page, or writes all of them into a directory.
pub(crate) fn man(out: Option<&Path>, output: &mut Output) -> Result<(), CliError> {
    let command = Args::command();
    let Some(dir) = out else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        return output.raw(&page);
    };
    let file = |source| CliError::File {
        path: dir.to_owned(),
        source,
    };
    std::fs::create_dir_all(dir).map_err(file)?;
    clap_mangen::generate_to(command, dir).map_err(file)?;
    let pages = std::fs::read_dir(dir).map_err(file)?.count();
    let answer = json!({"dir": dir, "pages": pages});
    output.answer(&answer, |_| {
        format!(
            "{pages} pages are in {}; `man -l {}/photofinish.1` shows the first\n",
            dir.display(),
            dir.display()
        )
    })
}
