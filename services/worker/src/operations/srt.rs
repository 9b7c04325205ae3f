//! SubRip captions, as people have them: any encoding, any line end, numbers missing, tags inside.
//!
//! Guarantee: what comes out is plain text with known styling; nothing of it is ever read by
//! another parser as anything but text (the renderer's escaping is in `ass`).

use std::time::Duration;

/// Cues of one file.
pub const CUES_MAX: usize = 20_000;
/// Characters of one cue; what is over is cut off.
const CUE_CHARS_MAX: usize = 2_000;

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

/// Text in one style.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Span {
    /// The text.
    pub text: String,
    /// Bold.
    pub bold: bool,
    /// Italic.
    pub italic: bool,
    /// Underlined.
    pub underline: bool,
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
    let text = to_text(bytes)?;
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let times: Vec<(usize, (Duration, Duration))> = lines
        .iter()
        .enumerate()
        .filter_map(|(n, line)| Some((n, time_line(line)?)))
        .collect();
    if times.is_empty() {
        return Err(SrtError::NoCues);
    }
    if times.len() > CUES_MAX {
        return Err(SrtError::TooMany);
    }
    let mut cues = Vec::with_capacity(times.len());
    for (k, &(at, (from, to))) in times.iter().enumerate() {
        let next = times.get(k + 1).map_or(lines.len(), |&(next, _)| next);
        let mut body = &lines[at + 1..next];
        // The next cue's number, if it has one.
        if next < lines.len()
            && let Some((last, rest)) = body.split_last()
            && !last.is_empty()
            && last.bytes().all(|b| b.is_ascii_digit())
        {
            body = rest;
        }
        let cue = cue(from, to, body);
        if to > from && !cue.lines.is_empty() {
            cues.push(cue);
        }
    }
    Ok(cues)
}

fn to_text(bytes: &[u8]) -> Result<String, SrtError> {
    let text = match encoding_rs::Encoding::for_bom(bytes) {
        Some((encoding, _)) => encoding.decode(bytes).0.into_owned(),
        None => match unmarked_utf16(bytes) {
            Some(encoding) => encoding.decode_without_bom_handling(bytes).0.into_owned(),
            None => std::str::from_utf8(bytes).map_or_else(
                |_| encoding_rs::WINDOWS_1252.decode(bytes).0.into_owned(),
                str::to_owned,
            ),
        },
    };
    if text.contains('\0') {
        return Err(SrtError::NotText);
    }
    Ok(text.replace("\r\n", "\n").replace('\r', "\n"))
}

/// UTF-16 without a mark: nearly every second byte of European text is zero then.
fn unmarked_utf16(bytes: &[u8]) -> Option<&'static encoding_rs::Encoding> {
    let head = &bytes[..bytes.len().min(1024)];
    let zeros = |odd: usize| {
        head.iter()
            .skip(odd)
            .step_by(2)
            .filter(|&&b| b == 0)
            .count()
    };
    let many = head.len() / 5;
    match (zeros(0), zeros(1)) {
        (0, odd) if odd > many => Some(encoding_rs::UTF_16LE),
        (even, 0) if even > many => Some(encoding_rs::UTF_16BE),
        _ => None,
    }
}

fn time_line(line: &str) -> Option<(Duration, Duration)> {
    let (from, rest) = line.split_once("-->")?;
    // Coordinates or settings may follow the second time.
    let to = rest.split_whitespace().next()?;
    Some((time(from.trim())?, time(to)?))
}

/// `[hh:]mm:ss[,mmm]`, also with a full stop.
fn time(text: &str) -> Option<Duration> {
    let (clock, fraction) = text.split_once([',', '.']).unwrap_or((text, "0"));
    let mut seconds: u64 = 0;
    let parts: Vec<&str> = clock.split(':').collect();
    if !(2..=3).contains(&parts.len()) {
        return None;
    }
    for part in parts {
        seconds = seconds
            .checked_mul(60)?
            .checked_add(part.trim().parse::<u32>().ok()?.into())?;
    }
    if fraction.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let millis = format!("{fraction:0<3}")[..3].parse::<u64>().ok()?;
    Some(Duration::from_millis(
        seconds.checked_mul(1000)?.checked_add(millis)?,
    ))
}

fn cue(from: Duration, to: Duration, body: &[&str]) -> Cue {
    let text: Vec<&str> = body
        .iter()
        .copied()
        .filter(|line| !line.is_empty())
        .collect();
    let text: String = text.join("\n").chars().take(CUE_CHARS_MAX).collect();
    let (place, text) = placed(&text);
    Cue {
        from,
        to,
        place,
        lines: spans(text),
    }
}

/// `{\an8}` at the start: a habit taken over from ASS.
fn placed(text: &str) -> (Option<u8>, &str) {
    let found = text.strip_prefix("{\\an").and_then(|rest| {
        let (digit, rest) = rest.split_once('}')?;
        let digit: u8 = digit.parse().ok()?;
        (1..=9).contains(&digit).then_some((Some(digit), rest))
    });
    found.unwrap_or((None, text))
}

/// Splits text at its tags: `b`, `i` and `u` count, other known ones vanish, the rest is text.
fn spans(text: &str) -> Vec<Vec<Span>> {
    let mut lines = vec![vec![Span::default()]];
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let style = style_at(&lines);
        match next {
            '\n' => {
                lines.push(vec![style]);
                rest = &rest[1..];
            }
            '<' if let Some((style, after)) = tag(rest, &style) => {
                if let Some(line) = lines.last_mut() {
                    line.push(style);
                }
                rest = after;
            }
            _ => {
                if let Some(span) = lines.last_mut().and_then(|line| line.last_mut()) {
                    span.text.push(next);
                }
                rest = &rest[next.len_utf8()..];
            }
        }
    }
    for line in &mut lines {
        line.retain(|span| !span.text.is_empty());
    }
    lines.retain(|line| !line.is_empty());
    lines
}

/// The style in force: that of the last span, without its text.
fn style_at(lines: &[Vec<Span>]) -> Span {
    let last = lines.last().and_then(|line| line.last());
    last.map_or_else(Span::default, |span| Span {
        text: String::new(),
        bold: span.bold,
        italic: span.italic,
        underline: span.underline,
    })
}

fn tag<'a>(text: &'a str, style: &Span) -> Option<(Span, &'a str)> {
    let (inside, after) = text[1..].split_once('>')?;
    let (on, name) = match inside.strip_prefix('/') {
        Some(name) => (false, name),
        None => (true, inside),
    };
    let name = name.split([' ', '.']).next()?.to_ascii_lowercase();
    let mut style = style.clone();
    match name.as_str() {
        "b" => style.bold = on,
        "i" => style.italic = on,
        "u" => style.underline = on,
        "font" | "s" | "c" | "v" | "span" | "ruby" | "rt" | "lang" => {}
        _ => return None,
    }
    Some((style, after))
}

#[cfg(test)]
mod tests;
