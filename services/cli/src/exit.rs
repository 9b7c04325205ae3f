//! Exit codes: one table, from which `--help`, the man page and the README tell them.

use std::fmt::Write as _;

/// It went well.
pub(crate) const WELL: u8 = 0;
/// The job failed, the service refused, or what was looked at is not well.
pub(crate) const FAILED: u8 = 1;
/// `endpoint diff` found a difference.
pub(crate) const DIFFERS: u8 = 2;
/// Nothing of ours answers.
pub(crate) const UNREACHABLE: u8 = 3;
/// The command was wrong: `EX_USAGE` of sysexits, since 2 is the difference that `endpoint diff` found.
pub const USAGE: u8 = 64;
/// Ctrl-C, as a shell tells it of a program that SIGINT ended.
pub(crate) const INTERRUPTED: u8 = 130;

/// Every exit code and what it says.
pub(crate) const TABLE: [(u8, &str); 6] = [
    (WELL, "it went well; whoever reads may have stopped reading"),
    (
        FAILED,
        "the job failed or was cancelled, the service refused, a wait was over, or `doctor`, `rebuild`, `bucket` or `endpoint health` found something wrong",
    ),
    (
        DIFFERS,
        "`endpoint diff` found a difference, and nothing else ends so",
    ),
    (UNREACHABLE, "the service, or RunPod, cannot be reached"),
    (
        USAGE,
        "the command was wrong: a flag, a file, a setting or a key that is missing, a question that nobody could be asked",
    ),
    (
        INTERRUPTED,
        "Ctrl-C; what was submitted goes on, and the last line says how to follow it again",
    ),
];

/// The table as `--help` and the man page show it.
pub(crate) fn help() -> String {
    let mut text = "Exit codes:".to_owned();
    for (code, meaning) in TABLE {
        // Writing to a String cannot fail.
        let _ok = write!(text, "\n  {code:>3}  {meaning}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_stands_once_in_help_and_readme() {
        let readme = include_str!("../README.md");
        for (place, (code, meaning)) in TABLE.iter().enumerate() {
            assert!(help().contains(&format!("{code:>3}  {meaning}")));
            let row = format!("| {code} | {meaning} |");
            assert!(readme.contains(&row), "README lacks the row\n{row}");
            assert!(TABLE[..place].iter().all(|(other, _)| other != code));
        }
    }
}
