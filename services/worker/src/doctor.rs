//! `photofinish-worker doctor`: what this machine has and lacks for rendering, and what to do.
//!
//! Nouns: a [`Check`] is one thing looked at; its [`State`] says whether jobs suffer.
//!
//! Guarantee: every thing that is wrong comes with what to do about it; nothing is changed. Not
//! for: looking at other services, S3 or RunPod itself.

mod checks;

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use photofinish_runtime::config::environment;
use serde::Serialize;

/// Columns before what was found.
const INDENT: usize = 23;
/// Columns of a terminal that text is broken for.
const WIDTH: usize = 100;

/// What is to be looked at.
#[derive(Debug, Clone, clap::Args)]
pub struct Doctor {
    /// Print one JSON document instead of a table
    #[arg(long)]
    pub json: bool,
    /// TOML file with settings
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Whether jobs suffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// All is well.
    Ok,
    /// Jobs finish, but slower or not as well as they could.
    Warning,
    /// Some jobs, or all, will fail.
    Wrong,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// Whether jobs suffer.
    pub state: State,
    /// What is there.
    pub found: String,
    /// What to do, unless all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            state: State::Ok,
            found: found.into(),
            advice: None,
        }
    }

    fn bad(
        name: &'static str,
        state: State,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            name,
            state,
            found: found.into(),
            advice: Some(advice.into()),
        }
    }
}

/// Looks at everything and prints it. Exit code 1 when something is wrong.
pub fn run(doctor: &Doctor) -> ExitCode {
    photofinish_runtime::install_crypto();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            // Nobody is left to tell when standard error is closed.
            drop(writeln!(std::io::stderr(), "start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let checks = runtime.block_on(checks::all(doctor.config.clone()));
    let well = checks.iter().all(|check| check.state < State::Wrong);
    let shown = if doctor.json {
        let document = serde_json::json!({ "ok": well, "checks": checks });
        format!("{document:#}\n")
    } else {
        let colours = std::io::stdout().is_terminal()
            && environment().get("NO_COLOR").is_none_or(String::is_empty);
        table(&checks, colours)
    };
    // Nobody is left to tell when standard output is closed.
    drop(std::io::stdout().write_all(shown.as_bytes()));
    if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn table(checks: &[Check], colours: bool) -> String {
    let mut table = String::new();
    for check in checks {
        let (word, colour) = match check.state {
            State::Ok => ("ok", "32"),
            State::Warning => ("warning", "33"),
            State::Wrong => ("WRONG", "31"),
        };
        let word = if colours {
            format!("\x1b[{colour}m{word:<9}\x1b[0m")
        } else {
            format!("{word:<9}")
        };
        let found = broken(&check.found, INDENT);
        let name = check.name;
        // Writing to a String cannot fail.
        let _written = writeln!(table, "{word}{name:<14}{found}");
        if let Some(advice) = &check.advice {
            let advice = broken(advice, INDENT + 3);
            let _written = writeln!(table, "{:INDENT$}-> {advice}", "");
        }
    }
    let count = |state| checks.iter().filter(|check| check.state == state).count();
    let (wrong, warnings) = (count(State::Wrong), count(State::Warning));
    let _written = match (wrong, warnings) {
        (0, 0) => writeln!(table, "\nall is well"),
        (0, _) => writeln!(table, "\njobs will finish; {warnings} warning(s)"),
        (_, _) => writeln!(table, "\n{wrong} wrong, {warnings} warning(s)"),
    };
    table
}

/// Text broken into lines that begin after `indent` columns.
fn broken(text: &str, indent: usize) -> String {
    let mut lines = String::new();
    let mut column = indent;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if column > indent && column + 1 + length > WIDTH {
            let _written = write!(lines, "\n{:indent$}", "");
            column = indent;
        } else if column > indent {
            lines.push(' ');
            column += 1;
        }
        lines.push_str(word);
        column += length;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_what_to_do_and_keeps_its_width() {
        let checks = [
            Check::ok("memory", "4 GiB"),
            Check::bad("fonts", State::Warning, "few", "install more ".repeat(20)),
            Check::bad("ffmpeg", State::Wrong, "none", "install it"),
        ];
        let plain = table(&checks, false);
        assert!(
            plain.starts_with("ok       memory        4 GiB\n"),
            "{plain}"
        );
        assert!(
            plain.contains("\nWRONG    ffmpeg        none\n                       -> install it\n")
        );
        assert!(plain.ends_with("\n1 wrong, 1 warning(s)\n"));
        assert!(
            plain.lines().all(|line| line.chars().count() <= WIDTH),
            "{plain}"
        );
        assert!(!plain.contains('\x1b') && table(&checks, true).contains("\x1b[31mWRONG"));
        assert!(table(&checks[..1], false).ends_with("all is well\n"));
    }
}
