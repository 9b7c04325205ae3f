//! How text looks where it goes: how wide, and whether in colours.

use console::{Style, Term};
use std::io::IsTerminal as _;

/// The least width that a table is fitted to: narrower terminals wrap.
const WIDTH_MIN: u16 = 20;

/// Of one stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Look {
    /// Columns of the terminal; none on a pipe, where nothing is cut.
    pub(crate) width: Option<usize>,
    /// Colours are shown.
    pub(crate) color: bool,
}

/// When colours are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ColorWhen {
    /// On a terminal, unless `NO_COLOR` is set
    #[default]
    Auto,
    /// Also on a pipe
    Always,
    /// Not at all
    Never,
}

/// What a word says, for its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// It went well.
    Good,
    /// It is under way.
    Busy,
    /// It went wrong.
    Bad,
    /// It is over, or of less interest.
    Quiet,
}

impl Look {
    /// For a pipe: all of it, in black and white.
    #[cfg(test)]
    pub(crate) const PLAIN: Self = Self {
        width: None,
        color: false,
    };

    /// Of standard output.
    pub(crate) fn of_stdout(when: ColorWhen, no_color: bool) -> Self {
        if std::io::stdout().is_terminal() {
            Self::of_terminal(&Term::stdout(), when, no_color)
        } else {
            Self::of_pipe(when)
        }
    }

    /// Of standard error.
    pub(crate) fn of_stderr(when: ColorWhen, no_color: bool) -> Self {
        if std::io::stderr().is_terminal() {
            Self::of_terminal(&Term::stderr(), when, no_color)
        } else {
            Self::of_pipe(when)
        }
    }

    fn of_terminal(term: &Term, when: ColorWhen, no_color: bool) -> Self {
        let width = term.size_checked().map(|(_rows, columns)| columns);
        let width = width.filter(|columns| *columns >= WIDTH_MIN);
        Self {
            width: width.map(usize::from),
            color: match when {
                ColorWhen::Auto => !no_color,
                ColorWhen::Always => true,
                ColorWhen::Never => false,
            },
        }
    }

    fn of_pipe(when: ColorWhen) -> Self {
        Self {
            width: None,
            color: when == ColorWhen::Always,
        }
    }

    /// A text in a mood's colour.
    pub(crate) fn paint(self, text: &str, mood: Mood) -> String {
        let style = match mood {
            Mood::Good => Style::new().green(),
            Mood::Busy => Style::new().cyan(),
            Mood::Bad => Style::new().red(),
            Mood::Quiet => Style::new().dim(),
        };
        self.styled(text, style)
    }

    /// A heading.
    pub(crate) fn head(self, text: &str) -> String {
        self.styled(text, Style::new().bold())
    }

    fn styled(self, text: &str, style: Style) -> String {
        if self.color {
            style.force_styling(true).apply_to(text).to_string()
        } else {
            text.to_owned()
        }
    }
}

/// What a status word says; none for a word of tomorrow.
pub(crate) fn mood_of(word: &str) -> Option<Mood> {
    match word {
        "completed" | "delivered" | "stored" | "ok" | "enabled" => Some(Mood::Good),
        "running" | "accepted" | "rendering" | "ready" | "pending" | "warning" => Some(Mood::Busy),
        "failed" | "wrong" | "disabled" | "revoked" | "paused" => Some(Mood::Bad),
        "cancelled" | "unknown" => Some(Mood::Quiet),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_only_where_they_are_welcome() {
        assert!(!Look::of_pipe(ColorWhen::Auto).color);
        assert!(Look::of_pipe(ColorWhen::Always).color);
        assert_eq!(Look::PLAIN.paint("failed", Mood::Bad), "failed");
        let loud = Look {
            color: true,
            ..Look::PLAIN
        };
        let shown = loud.paint("failed", Mood::Bad);
        assert!(shown.contains("\u{1b}[31m"), "{shown:?}");
    }
}
