//! Where a command's answer goes: JSON or text on standard output, complaints and progress on standard error.

use crate::environment;
use crate::error::CliError;
use crate::look::{ColorWhen, Look, Mood};
use serde_json::{Value, json};
use std::error::Error;
use std::io::{IsTerminal as _, Write};

/// The two streams and how to write on them.
pub(crate) struct Output {
    out: Box<dyn Write + Send>,
    json: bool,
    /// One compact document a line, where something is followed.
    lines: bool,
    look: Look,
    look_err: Look,
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
    pub(crate) fn standard(json: bool, color: ColorWhen) -> Self {
        let no_color = environment::variable("NO_COLOR").is_some();
        Self {
            out: Box::new(std::io::stdout()),
            json,
            lines: false,
            look: Look::of_stdout(color, no_color),
            look_err: Look::of_stderr(color, no_color),
            bars: !json && std::io::stderr().is_terminal(),
        }
    }

    /// Into a buffer, for tests.
    #[cfg(test)]
    pub(crate) fn into_writer(out: Box<dyn Write + Send>, json: bool) -> Self {
        Self {
            out,
            json,
            lines: false,
            look: Look::PLAIN,
            look_err: Look::PLAIN,
            bars: false,
        }
    }

    /// How text on standard output looks.
    pub(crate) fn look(&self) -> Look {
        self.look
    }

    /// From now on JSON is one document a line.
    pub(crate) fn follow(&mut self) {
        self.lines = true;
    }

    /// The answer: as JSON, or as what `text` makes of it.
    pub(crate) fn answer(
        &mut self,
        value: &Value,
        text: impl FnOnce(&Value) -> String,
    ) -> Result<(), CliError> {
        let shown = match (self.json, self.lines) {
            (true, true) => format!("{value}\n"),
            (true, false) => format!("{value:#}\n"),
            (false, _) => text(value),
        };
        self.write(&shown)
    }

    /// Something to read before the answer; none with JSON.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), CliError> {
        if self.json { Ok(()) } else { self.write(text) }
    }

    /// A change of what is followed, as a line; only with JSON.
    pub(crate) fn change(&mut self, value: &Value) -> Result<(), CliError> {
        if self.json {
            self.write(&format!("{value}\n"))
        } else {
            Ok(())
        }
    }

    /// A text or bytes as they are: a script, a page, an id.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        match self.out.write_all(bytes).and_then(|()| self.out.flush()) {
            // Whoever closed the pipe has read enough.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                Err(CliError::ReaderGone)
            }
            other => Ok(other?),
        }
    }

    fn write(&mut self, shown: &str) -> Result<(), CliError> {
        self.raw(shown.as_bytes())
    }

    /// A line of progress, where there is no bar; none with JSON.
    pub(crate) fn note(&self, line: &str) {
        if !self.json && !self.bars {
            say(line);
        }
    }

    /// A line for people beside the answer; none with JSON.
    pub(crate) fn remark(&self, line: &str) {
        if !self.json {
            say(line);
        }
    }

    /// What went wrong, why, and what to do next.
    pub(crate) fn complain(&self, error: &CliError) {
        if matches!(error, CliError::ReaderGone) {
            return;
        }
        if self.json {
            say(&complaint(error).to_string());
            return;
        }
        let mut text = chain(error);
        if !matches!(error, CliError::Interrupted { .. }) {
            text = format!("{} {text}", self.look_err.paint("error:", Mood::Bad));
        }
        if let Some(step) = error.next_step() {
            text = format!("{text}\n{step}");
        }
        say(&text);
    }
}

/// An error as JSON: on standard error, one line.
fn complaint(error: &CliError) -> Value {
    let mut told = json!({
        "error": chain(error), "exit_code": error.exit_code(), "next_step": error.next_step()
    });
    if let CliError::Problem(problem) = error {
        told["problem"] = json!({"status": problem.status, "code": problem.code,
            "detail": problem.detail, "errors": problem.errors});
    }
    told
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

/// A line on standard error.
pub(crate) fn say(text: &str) {
    // Nobody is left to tell that standard error is closed.
    let _closed = writeln!(std::io::stderr(), "{text}");
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// What was written, to be read afterwards.
    #[derive(Debug, Clone, Default)]
    pub(crate) struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Shared {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_complaint_is_one_line_of_json() {
        let error = CliError::Usage("no such\nthing".into());
        let line = complaint(&error).to_string();
        assert!(!line.contains('\n'), "{line}");
        let read: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["exit_code"], 64);
    }

    #[derive(Debug)]
    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_who_has_read_enough_is_no_fault() {
        let mut output = Output::into_writer(Box::new(Closed), false);
        let error = output.text("much").unwrap_err();
        assert!(matches!(error, CliError::ReaderGone), "{error:?}");
        assert_eq!(error.exit_code(), 0);
    }
}
