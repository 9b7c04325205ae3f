//! Where a command's answer goes: JSON or text on standard output, complaints and progress on standard error.

use crate::error::CliError;
use serde_json::Value;
use std::error::Error;
use std::io::{IsTerminal as _, Write};

/// The two streams and how to write on them.
pub(crate) struct Output {
    out: Box<dyn Write + Send>,
    json: bool,
    /// Whether a progress bar makes sense.
    pub(crate) bars: bool,
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output")
            .field("json", &self.json)
            .finish_non_exhaustive()
    }
}

impl Output {
    /// The process's own streams.
    pub(crate) fn standard(json: bool) -> Self {
        let bars = !json && std::io::stderr().is_terminal();
        Self {
            out: Box::new(std::io::stdout()),
            json,
            bars,
        }
    }

    /// Into a buffer, for tests.
    #[cfg(test)]
    pub(crate) fn into_writer(out: Box<dyn Write + Send>, json: bool) -> Self {
        Self {
            out,
            json,
            bars: false,
        }
    }

    /// The answer: as JSON, or as what `text` makes of it.
    pub(crate) fn answer(
        &mut self,
        value: &Value,
        text: impl FnOnce(&Value) -> String,
    ) -> Result<(), CliError> {
        let shown = if self.json {
            format!("{value:#}\n")
        } else {
            text(value)
        };
        self.write(&shown)
    }

    /// Something to read before the answer; none with JSON.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), CliError> {
        if self.json { Ok(()) } else { self.write(text) }
    }

    fn write(&mut self, shown: &str) -> Result<(), CliError> {
        match self
            .out
            .write_all(shown.as_bytes())
            .and_then(|()| self.out.flush())
        {
            // Whoever closed the pipe has read enough.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            other => Ok(other?),
        }
    }

    /// A line of progress, where there is no bar; none with JSON.
    pub(crate) fn note(&self, line: &str) {
        if !self.json && !self.bars {
            say(line);
        }
    }

    /// What went wrong, why, and what to do next.
    pub(crate) fn complain(error: &CliError) {
        let mut text = format!("error: {}", chain(error));
        if let Some(step) = error.next_step() {
            text = format!("{text}\n{step}");
        }
        say(&text);
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        text = format!("{text}: {deeper}");
        cause = deeper.source();
    }
    text
}

fn say(text: &str) {
    // Nobody is left to tell that standard error is closed.
    let _closed = writeln!(std::io::stderr(), "{text}");
}
