//! How a command ended that did what it should.

use crate::exit::{DIFFERS, FAILED, WELL};
use std::process::ExitCode;

/// What the exit code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It went well, and nothing is amiss: 0.
    Well,
    /// It went well, and what it looked at is not well, or a person said no: 1.
    Unwell,
    /// `endpoint diff` found a difference: 2.
    Differs,
}

impl Verdict {
    /// Its exit code.
    pub(crate) fn exit_code(self) -> ExitCode {
        match self {
            Self::Well => ExitCode::from(WELL),
            Self::Unwell => ExitCode::from(FAILED),
            Self::Differs => ExitCode::from(DIFFERS),
        }
    }
}
