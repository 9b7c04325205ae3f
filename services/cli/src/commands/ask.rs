//! Questions to a person.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use crate::endpoint_error::EndpointError;
use crate::error::CliError;

/// Asks for yes or no. Without a terminal there is nobody to ask.
pub(crate) fn yes(question: &str, without: &'static str) -> Result<bool, CliError> {
    let answer = line(&format!("{question} [y/N] "), without)?;
    Ok(is_yes(&answer))
}

/// Asks for a name to be typed, so that nothing is deleted by a reflex.
pub(crate) fn name(question: &str, without: &'static str) -> Result<String, CliError> {
    line(&format!("{question} "), without)
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

fn line(question: &str, without: &'static str) -> Result<String, CliError> {
    if !std::io::stdin().is_terminal() {
        return Err(EndpointError::NobodyToAsk { flag: without }.into());
    }
    let mut error = std::io::stderr();
    error.write_all(question.as_bytes())?;
    error.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        for (answer, agreed) in [
            ("y\n", true),
            ("YES", true),
            ("", false),
            ("yep", false),
            ("n", false),
        ] {
            assert_eq!(is_yes(answer), agreed, "{answer:?}");
        }
    }
}
