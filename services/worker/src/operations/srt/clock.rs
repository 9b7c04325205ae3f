//! Time lines, as programs, people and translation machines write them.

use std::time::Duration;

use super::TIME_MAX;

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// It says when a cue is shown.
    Times(Duration, Duration),
    /// It was meant to, but cannot be read; the text below it has no time.
    Broken,
    /// Anything else.
    Text,
}

/// A time and whether it had a fraction.
#[derive(Debug, Clone, Copy)]
struct Time {
    at: Duration,
    fraction: bool,
}

/// A line without what surrounds it unseen.
pub(super) fn trimmed(line: &str) -> &str {
    line.trim_matches(|c: char| {
        c.is_whitespace() || c.is_control() || matches!(c, '\u{feff}' | '\u{200b}')
    })
}

/// Looks at a trimmed line.
pub(super) fn line(line: &str) -> Line {
    if let Some((from, to)) = times(line).or_else(|| times(after_number(line)?)) {
        return Line::Times(from, to);
    }
    let unsigned = line.strip_prefix('-').unwrap_or(line);
    let begins = unsigned.starts_with(|c: char| c.is_ascii_digit());
    if begins && line.contains("-->") && line.contains(':') {
        return Line::Broken;
    }
    Line::Text
}

/// The number of the cue may stand on the same line.
fn after_number(line: &str) -> Option<&str> {
    let (number, rest) = line.split_once(' ')?;
    number
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| rest.trim_start())
}

fn times(line: &str) -> Option<(Duration, Duration)> {
    let (from, rest) = time(line)?;
    let (plain, rest) = arrow(rest)?;
    // Coordinates or settings may follow the second time.
    let (to, rest) = time(rest)?;
    if rest.starts_with(char::is_alphanumeric) {
        return None;
    }
    // With another arrow than the proper one a line must look the more like a time line:
    // `10:30 -> 11:15` may be said by somebody.
    let sure = plain || (from.fraction && to.fraction);
    (sure && from.at < TIME_MAX).then_some((from.at, to.at))
}

/// `-->`, or what became of it: `->`, `- >`, `–>`, `→`, `--&gt;`.
fn arrow(text: &str) -> Option<(bool, &str)> {
    let text = text.trim_start();
    if let Some(rest) = text.strip_prefix("-->") {
        return Some((true, rest));
    }
    if let Some(rest) = text.strip_prefix('→') {
        return Some((false, rest));
    }
    let rest = text.trim_start_matches(['-', '–', '—', '−', ' ']);
    if rest.len() == text.len() {
        return None;
    }
    let rest = rest.strip_prefix('>').or_else(|| rest.strip_prefix("&gt;"));
    Some((false, rest?))
}

/// `[hh:]mm:ss[,fff]` at the start of the text, and what follows. Spaces may stand around the
/// colons, the fraction may have any length and follow a full stop or a colon, wide punctuation is
/// as good as the plain one. What is before zero is zero.
fn time(text: &str) -> Option<(Time, &str)> {
    let text = text.trim_start();
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = Vec::with_capacity(3);
    loop {
        let (digits, after) = digits(rest)?;
        parts.push(digits.parse::<u64>().ok()?);
        rest = after;
        let next = rest.trim_start().strip_prefix([':', '：']);
        match next {
            Some(next) if parts.len() < 3 => rest = next.trim_start(),
            Some(_) | None => break,
        }
    }
    if parts.len() < 2 {
        return None;
    }
    let (millis, rest) = fraction(rest);
    let seconds = parts.iter().fold(0, |sum, part| sum * 60 + part);
    let at = Duration::from_millis(seconds * 1000 + millis.unwrap_or(0));
    let at = if negative { Duration::ZERO } else { at };
    let fraction = millis.is_some();
    Some((Time { at, fraction }, rest))
}

fn fraction(text: &str) -> (Option<u64>, &str) {
    const MARKS: [char; 7] = [',', '.', ':', ';', '，', '．', '。'];
    let Some(rest) = text.trim_start().strip_prefix(MARKS) else {
        return (None, text);
    };
    let Some((digits, rest)) = digits(rest.trim_start()) else {
        return (Some(0), rest);
    };
    let millis = format!("{digits:0<3}")[..3].parse().ok();
    (millis, rest)
}

/// At most nine digits, so that no arithmetic with them can overflow.
fn digits(text: &str) -> Option<(&str, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    (1..=9).contains(&end).then(|| text.split_at(end))
}
