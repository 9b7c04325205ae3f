//! The ASS file that libass draws: made by us, from parsed captions and a checked style.
//!
//! Guarantee: no text of the client's is ever a command of the format: braces and backslashes are
//! escaped, line breaks and commas cannot leave their field, a font's name is cleaned.

use std::fmt::Write as _;
use std::time::Duration;

use photofinish_contract::request::{CaptionStyle, Position};

use super::srt::{Cue, Span};

const SIZE_PERCENT: f64 = 5.0;
const MARGIN_PERCENT: f64 = 5.0;
const OUTLINE_PERCENT: f64 = 6.0;
const FONT: &str = "Noto Sans";
const FONT_CHARS_MAX: usize = 64;
/// Stops a backslash of the text from joining what follows to a command; draws nothing.
const WORD_JOINER: char = '\u{2060}';

/// Writes the file for a video shown at `width` x `height`.
pub fn file(cues: &[Cue], style: &CaptionStyle, width: u32, height: u32) -> String {
    let mut out = format!(
        "[Script Info]\nScriptType: v4.00+\nPlayResX: {width}\nPlayResY: {height}\nWrapStyle: 0\n\
         ScaledBorderAndShadow: yes\nYCbCr Matrix: None\n\n[V4+ Styles]\nFormat: Name, Fontname, \
         Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, \
         Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, \
         Alignment, MarginL, MarginR, MarginV, Encoding\n{}\n\n[Events]\nFormat: Layer, Start, \
         End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n",
        style_line(style, width, height)
    );
    let uppercase = style.uppercase.unwrap_or(false);
    for cue in cues {
        let text = event_text(cue, style, uppercase);
        let (from, to) = (time(cue.from), time(cue.to));
        out.push_str("Dialogue: 0,");
        // Writing to a string cannot fail.
        let _written = writeln!(out, "{from},{to},Default,,0,0,0,,{text}");
    }
    out
}

fn style_line(style: &CaptionStyle, width: u32, height: u32) -> String {
    let percent = |value: f64| value / 100.0 * f64::from(height);
    let size = percent(style.size.unwrap_or(SIZE_PERCENT));
    let outline = style.outline_width.unwrap_or(OUTLINE_PERCENT) / 100.0 * size;
    let margin = percent(style.margin.unwrap_or(MARGIN_PERCENT)).round();
    let side = (f64::from(width) * 0.05).round();
    let text = colour(style.color.as_deref(), "&H00FFFFFF");
    // Border style 3 draws a box of the outline's colour, as wide as the outline around the text.
    let (border, edge, edge_width) = match style.background.as_deref() {
        Some(background) => (3, colour(Some(background), "&H80000000"), size * 0.2),
        None => (
            1,
            colour(style.outline_color.as_deref(), "&H00000000"),
            outline,
        ),
    };
    let flag = |on: Option<bool>| if on.unwrap_or(false) { -1 } else { 0 };
    let (font, bold, italic) = (font(style), flag(style.bold), flag(style.italic));
    let place = number_pad(style.position.unwrap_or_default());
    format!(
        "Style: Default,{font},{size:.2},{text},{text},{edge},{edge},{bold},{italic},0,0,100,100,\
         0,0,{border},{edge_width:.2},0,{place},{side},{side},{margin},1"
    )
}

fn font(style: &CaptionStyle) -> String {
    let name: String = style
        .font
        .as_deref()
        .unwrap_or(FONT)
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_' | '.'))
        .take(FONT_CHARS_MAX)
        .collect();
    let name = name.trim().to_owned();
    if name.is_empty() {
        FONT.to_owned()
    } else {
        name
    }
}

/// `#rrggbb[aa]` as ASS writes it: blue first, and transparency for opacity.
fn colour(text: Option<&str>, default: &str) -> String {
    let parsed = text.and_then(|text| {
        let digits = text.strip_prefix('#')?;
        let bytes = hex::decode(digits).ok()?;
        match bytes[..] {
            [r, g, b] => Some((r, g, b, 255)),
            [r, g, b, a] => Some((r, g, b, a)),
            _ => None,
        }
    });
    parsed.map_or_else(
        || default.to_owned(),
        |(r, g, b, a)| format!("&H{:02X}{b:02X}{g:02X}{r:02X}", 255 - a),
    )
}

fn number_pad(position: Position) -> u8 {
    match position {
        Position::BottomLeft => 1,
        Position::BottomCenter => 2,
        Position::BottomRight => 3,
        Position::MiddleLeft => 4,
        Position::MiddleCenter => 5,
        Position::MiddleRight => 6,
        Position::TopLeft => 7,
        Position::TopCenter => 8,
        Position::TopRight => 9,
    }
}

fn event_text(cue: &Cue, style: &CaptionStyle, uppercase: bool) -> String {
    let mut out = String::new();
    if let Some(place) = cue.place {
        let _written = write!(out, "{{\\an{place}}}");
    }
    let base = Span {
        bold: style.bold.unwrap_or(false),
        italic: style.italic.unwrap_or(false),
        ..Span::default()
    };
    let mut now = (base.bold, base.italic, false);
    for (n, line) in cue.lines.iter().enumerate() {
        if n > 0 {
            out.push_str("\\N");
        }
        for span in line {
            let wanted = (
                base.bold || span.bold,
                base.italic || span.italic,
                span.underline,
            );
            if wanted != now {
                let (b, i, u) = (u8::from(wanted.0), u8::from(wanted.1), u8::from(wanted.2));
                let _written = write!(out, "{{\\b{b}\\i{i}\\u{u}}}");
                now = wanted;
            }
            let text = if uppercase {
                span.text.to_uppercase()
            } else {
                span.text.clone()
            };
            escape(&text, &mut out);
        }
    }
    out
}

fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '{' => out.push_str("\\{"),
            '}' => out.push_str("\\}"),
            '\\' => out.extend(['\\', WORD_JOINER]),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
}

/// `h:mm:ss.cc`.
fn time(at: Duration) -> String {
    let centis = (at.as_millis() + 5) / 10;
    let (seconds, centis) = (centis / 100, centis % 100);
    let (minutes, seconds) = (seconds / 60, seconds % 60);
    format!(
        "{}:{:02}:{seconds:02}.{centis:02}",
        minutes / 60,
        minutes % 60
    )
}

#[cfg(test)]
mod tests {
    use super::super::srt;
    use super::*;

    fn made(srt: &str, style: &CaptionStyle) -> String {
        file(&srt::parse(srt.as_bytes()).unwrap(), style, 1920, 1080)
    }

    #[test]
    fn text_is_never_a_command() {
        let out = made(
            "1\n00:00:01,000 --> 00:00:02,500\na {\\pos(0,0)} b\\N c \\{ d\n",
            &CaptionStyle::default(),
        );
        let event = out.lines().last().unwrap();
        assert_eq!(
            event,
            "Dialogue: 0,0:00:01.00,0:00:02.50,Default,,0,0,0,,\
             a \\{\\\u{2060}pos(0,0)\\} b\\\u{2060}N c \\\u{2060}\\{ d"
        );
    }

    #[test]
    fn styles_stay_in_their_fields() {
        let style = CaptionStyle {
            font: Some("Evil,12\nDialogue: x".to_owned()),
            color: Some("#11223380".to_owned()),
            background: Some("not a colour".to_owned()),
            bold: Some(true),
            position: Some(Position::TopRight),
            uppercase: Some(true),
            ..CaptionStyle::default()
        };
        let out = made("00:01 --> 00:02\nhi <i>there</i>\n", &style);
        let line = out.lines().find(|line| line.starts_with("Style:")).unwrap();
        assert_eq!(line.split(',').count(), 23, "{line}");
        assert!(
            line.contains("Evil12Dialogue x") && line.contains("&H7F332211"),
            "{line}"
        );
        assert_eq!(
            out.lines()
                .filter(|line| line.starts_with("Dialogue:"))
                .count(),
            1
        );
        assert!(out.contains("HI {\\b1\\i1\\u0}THERE"), "{out}");
    }
}
