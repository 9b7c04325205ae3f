//! SubRip captions, as people have them: any encoding, any line end, numbers missing or wrong, times
//! as other programs left them, tags inside; WebVTT too, because it is handed out under the name.
//!
//! Nouns: a [`Cue`] is one caption; its lines are rows of [`Span`]s, text in one [`Look`].
//!
//! Guarantee: cues come in order, within [`TIME_MAX`], at most [`CUES_AT_ONCE_MAX`] at a time; their
//! text is plain text without control characters, none of it a command to anybody. Not for: how it
//! is drawn (`ass`).

use std::time::Duration;

mod clock;
mod markup;
mod text;

use clock::Line;

/// Cues of one file.
pub const CUES_MAX: usize = 20_000;
/// Cues shown at one time; the picture is full long before. What begins while so many are shown is
/// left out.
pub const CUES_AT_ONCE_MAX: usize = 16;
/// No cue is shown later than this.
pub const TIME_MAX: Duration = Duration::from_hours(100);
/// Characters of one cue; what is over is cut off.
const CUE_CHARS_MAX: usize = 2_000;
/// Cues that overlap by less are meant to follow each other. Drawn as they are, the second would
/// jump above the first and stay there.
const OVERLAP_MIN: Duration = Duration::from_millis(150);

/// One caption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cue {
    /// When it appears.
    pub from: Duration,
    /// When it goes.
    pub to: Duration,
    /// Where it stands, 1 to 9 as on a number pad, if the file says.
    pub place: Option<u8>,
    /// Its lines, each a row of spans.
    pub lines: Vec<Vec<Span>>,
}

/// Text in one look.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Span {
    /// The text.
    pub text: String,
    /// How it looks.
    pub look: Look,
}

/// What tags say about text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Look {
    /// Bold.
    pub bold: bool,
    /// Italic.
    pub italic: bool,
    /// Underlined.
    pub underline: bool,
    /// Struck out.
    pub struck: bool,
    /// Red, green and blue, if not the style's colour.
    pub color: Option<[u8; 3]>,
}

/// Why a file has no captions for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SrtError {
    /// Nothing in it looks like a time line.
    #[error("no line like `00:00:01,000 --> 00:00:02,000` is in the file")]
    NoCues,
    /// It is not text.
    #[error("the file is not text")]
    NotText,
    /// More cues than we take.
    #[error("the file has more than {CUES_MAX} captions")]
    TooMany,
}

/// Reads captions.
pub fn parse(bytes: &[u8]) -> Result<Vec<Cue>, SrtError> {
    let text = text::of(bytes)?;
    let lines: Vec<&str> = text.lines().map(clock::trimmed).collect();
    let marks = marks(&lines);
    if !marks.iter().any(|mark| mark.times.is_some()) {
        return Err(SrtError::NoCues);
    }
    if marks.len() > CUES_MAX {
        return Err(SrtError::TooMany);
    }
    let blocks = lines.iter().find(|line| !line.is_empty());
    let vtt = blocks.is_some_and(|line| line.starts_with("WEBVTT"));
    let near = marks.iter().filter(|mark| mark.numbered_directly()).count();
    let numbered = near * 2 > marks.len();
    let mut cues = Vec::with_capacity(marks.len());
    for (k, mark) in marks.iter().enumerate() {
        let Some((from, to)) = mark.times else {
            continue;
        };
        let next = marks.get(k + 1);
        let body = &lines[mark.at + 1..next.map_or(lines.len(), |next| next.at)];
        let body = match next {
            // There a blank line ends a cue; what follows is a name or a note.
            _ if vtt => body.split(|line| line.is_empty()).next().unwrap_or(body),
            Some(next) => without_number(body, mark, next, numbered),
            None => body,
        };
        cues.extend(cue(from, to, body));
    }
    Ok(settled(cues))
}

/// A time line of the file.
struct Mark {
    /// Its line.
    at: usize,
    /// The line of the number before it, and the number.
    number: Option<(usize, u64)>,
    /// What it says; a line that was meant to be one says nothing.
    times: Option<(Duration, Duration)>,
}

impl Mark {
    fn numbered_directly(&self) -> bool {
        self.number.is_some_and(|(at, _)| at + 1 == self.at)
    }
}

fn marks(lines: &[&str]) -> Vec<Mark> {
    let mut marks: Vec<Mark> = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let times = match clock::line(line) {
            Line::Text => continue,
            Line::Broken => None,
            Line::Times(from, to) => Some((from, to)),
        };
        let after = marks.last().map_or(0, |mark| mark.at + 1);
        let number = (after..at)
            .rev()
            .find(|&n| !lines[n].is_empty())
            .and_then(|n| Some((n, number(lines[n])?)));
        marks.push(Mark { at, number, times });
    }
    marks
}

fn number(line: &str) -> Option<u64> {
    let digits = line.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| line.parse().ok())?
}

/// The lines of a cue without the number of the next one, which may be text as well: `1984`.
fn without_number<'a, 'b>(
    body: &'a [&'b str],
    mark: &Mark,
    next: &Mark,
    numbered: bool,
) -> &'a [&'b str] {
    let Some((line, number)) = next.number else {
        return body;
    };
    let at = line - mark.at - 1;
    let follows = mark.number.is_some_and(|(_, own)| own + 1 == number);
    let apart = at > 0 && body[at - 1].is_empty() && body[..at].iter().any(|l| !l.is_empty());
    if (numbered && next.numbered_directly()) || (follows && apart) {
        return &body[..at];
    }
    body
}

fn cue(from: Duration, to: Duration, body: &[&str]) -> Option<Cue> {
    let text: Vec<&str> = body
        .iter()
        .copied()
        .filter(|line| !line.is_empty())
        .collect();
    let text: String = text.join("\n").chars().take(CUE_CHARS_MAX).collect();
    let (place, lines) = markup::read(&text);
    let to = to.min(TIME_MAX);
    let shown = to > from && !lines.is_empty();
    shown.then_some(Cue {
        from,
        to,
        place,
        lines,
    })
}

/// Cues in order of time, doubles left out, touching where they were meant to, never too many.
fn settled(mut cues: Vec<Cue>) -> Vec<Cue> {
    cues.sort_by_key(|cue| cue.from);
    let mut done: Vec<Cue> = Vec::with_capacity(cues.len());
    // Places in `done` of those that are still shown.
    let mut shown: Vec<usize> = Vec::new();
    for cue in cues {
        for &n in &shown {
            let before = &mut done[n];
            let both = before.to.saturating_sub(cue.from);
            let all = before.to.saturating_sub(before.from);
            if before.place == cue.place && both < OVERLAP_MIN && both * 2 < all {
                before.to = before.to.min(cue.from);
            }
        }
        shown.retain(|&n| done[n].to > cue.from);
        if shown.len() < CUES_AT_ONCE_MAX && !shown.iter().any(|&n| done[n] == cue) {
            shown.push(done.len());
            done.push(cue);
        }
    }
    done
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
