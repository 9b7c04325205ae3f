//! The ASS file that libass draws: made by us, from parsed captions and a checked style.
//!
//! Guarantee: no text of the client's is ever a command of the format: braces and backslashes are
//! escaped, line breaks and commas cannot leave their field, and only characters that some font
//! here draws are written. One `Dialogue` line a cue. Not for: saying that letters or a font are
//! missing ([`missing`]'s caller does).

use std::fmt::Write as _;
use std::time::Duration;

use photofinish_contract::request::{CaptionStyle, Position};

use super::fonts::Fonts;
use super::srt::{Cue, Look, Span};

mod brackets;
mod drawn;
mod wrap;

pub use drawn::missing;

const SIZE_PERCENT: f64 = 5.0;
const MARGIN_PERCENT: f64 = 5.0;
const OUTLINE_PERCENT: f64 = 6.0;
/// How far a background reaches beyond the text, in sizes of the text.
const BOX_RATIO: f64 = 0.2;
/// Space left and right of the text, in widths of the picture.
const SIDE_RATIO: f64 = 0.05;
const FONT: &str = "Noto Sans";
/// Stops a backslash of the text from joining what follows to a command; draws nothing.
const WORD_JOINER: char = '\u{2060}';
/// A place where a line may end: a space of no width, because libass only breaks at spaces.
const BREAK: &str = "{\\fscx0} {\\fscx}";

/// Where captions are drawn.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    /// Pixels of the picture as it is shown.
    pub width: u32,
    /// See `width`.
    pub height: u32,
    /// What can be drawn with.
    pub fonts: &'a Fonts,
}

/// Writes the file.
pub fn file(cues: &[Cue], style: &CaptionStyle, page: Page<'_>) -> String {
    let Page { width, height, .. } = page;
    let mut out = format!(
        "[Script Info]\nScriptType: v4.00+\nPlayResX: {width}\nPlayResY: {height}\nWrapStyle: 0\n\
         ScaledBorderAndShadow: yes\nYCbCr Matrix: None\n{}\n[V4+ Styles]\nFormat: Name, Fontname, \
         Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, \
         Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, \
         Alignment, MarginL, MarginR, MarginV, Encoding\n{}\n\n[Events]\nFormat: Layer, Start, \
         End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n",
        language(cues),
        style_line(style, page)
    );
    let line_px = f64::from(width) * (1.0 - 2.0 * SIDE_RATIO);
    let wrapper = wrap::Wrapper::new(line_px, size(style, height));
    for cue in cues {
        let text = event_text(cue, style, page.fonts, &wrapper);
        let (from, to) = (time(cue.from), time(cue.to));
        out.push_str("Dialogue: 0,");
        // Writing to a string cannot fail.
        let _written = writeln!(out, "{from},{to},Default,,0,0,0,,{text}");
    }
    out
}

/// Chinese, Japanese and Korean share code points that each draws in its own way; one font has all.
fn language(cues: &[Cue]) -> &'static str {
    let spans = cues.iter().flat_map(|cue| cue.lines.iter().flatten());
    let mut han = false;
    for c in spans.flat_map(|span| span.text.chars()) {
        match c {
            '\u{3040}'..='\u{30ff}' => return "Language: ja\n",
            '\u{1100}'..='\u{11ff}' | '\u{ac00}'..='\u{d7af}' => return "Language: ko\n",
            '\u{3400}'..='\u{9fff}' => han = true,
            _ => {}
        }
    }
    if han { "Language: zh\n" } else { "" }
}

fn size(style: &CaptionStyle, height: u32) -> f64 {
    style.size.unwrap_or(SIZE_PERCENT) / 100.0 * f64::from(height)
}

fn style_line(style: &CaptionStyle, page: Page<'_>) -> String {
    let size = size(style, page.height);
    let outline = |default| style.outline_width.unwrap_or(default) / 100.0 * size;
    let margin = style.margin.unwrap_or(MARGIN_PERCENT) / 100.0 * f64::from(page.height);
    let margin = margin.round();
    let side = (f64::from(page.width) * SIDE_RATIO).round();
    let text = colour(style.color.as_deref(), "&H00FFFFFF");
    let edge = colour(style.outline_color.as_deref(), "&H00000000");
    // Border style 4, libass's own, draws one box behind all lines of a cue, as much larger as the
    // shadow is wide; that of ASS overlaps itself wherever the style changes.
    let (border, back, outline, shadow) = if let Some(background) = style.background.as_deref() {
        let back = colour(Some(background), "&H80000000");
        (4, back, outline(0.0), size * BOX_RATIO)
    } else {
        (1, edge.clone(), outline(OUTLINE_PERCENT), 0.0)
    };
    let flag = |on: Option<bool>| if on.unwrap_or(false) { -1 } else { 0 };
    let (bold, italic) = (flag(style.bold), flag(style.italic));
    let font = font(style, page.fonts);
    let place = number_pad(style.position.unwrap_or_default());
    // Encoding -1: the first letter of a line decides whether it runs from right to left.
    format!(
        "Style: Default,{font},{size:.2},{text},{text},{edge},{back},{bold},{italic},0,0,100,100,\
         0,0,{border},{outline:.2},{shadow:.2},{place},{side},{side},{margin},-1"
    )
}

/// The name as a font here spells it, which is never more than a name.
fn font(style: &CaptionStyle, fonts: &Fonts) -> String {
    let asked = style.font.as_deref().and_then(|name| fonts.spelling(name));
    let in_field = |c: &char| !c.is_control() && !matches!(c, ',' | '{' | '}' | '\\');
    asked.unwrap_or(FONT).chars().filter(in_field).collect()
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

fn event_text(cue: &Cue, style: &CaptionStyle, fonts: &Fonts, wrapper: &wrap::Wrapper) -> String {
    let mut out = String::new();
    if let Some(place) = cue.place {
        let _written = write!(out, "{{\\an{place}}}");
    }
    let base = Look {
        bold: style.bold.unwrap_or(false),
        italic: style.italic.unwrap_or(false),
        ..Look::default()
    };
    let mut now = base;
    for (n, line) in cue.lines.iter().enumerate() {
        if n > 0 {
            out.push_str("\\N");
        }
        let spans: Vec<Span> = line
            .iter()
            .map(|span| Span {
                text: drawn::text(&span.text, style.uppercase.unwrap_or(false), fonts),
                look: Look {
                    bold: base.bold || span.look.bold,
                    italic: base.italic || span.look.italic,
                    ..span.look
                },
            })
            .collect();
        let whole: String = spans.iter().map(|span| span.text.as_str()).collect();
        let mut breaks = wrapper.breaks(&whole).into_iter().peekable();
        let mut marks = brackets::marks(&whole).into_iter().peekable();
        let mut at = 0;
        for span in &spans {
            change(&mut now, span.look, &mut out);
            for c in span.text.chars() {
                if breaks.next_if_eq(&at).is_some() {
                    out.push_str(BREAK);
                }
                let mark = marks.next_if(|mark| mark.0 == at).map(|mark| mark.1);
                out.extend(mark);
                escape(c, &mut out);
                out.extend(mark);
                at += c.len_utf8();
            }
        }
    }
    out
}

/// Commands that lead from one look to another.
fn change(now: &mut Look, wanted: Look, out: &mut String) {
    if *now == wanted {
        return;
    }
    let [bold, italic, under, struck] =
        [wanted.bold, wanted.italic, wanted.underline, wanted.struck].map(u8::from);
    let _written = write!(out, "{{\\b{bold}\\i{italic}\\u{under}\\s{struck}");
    if now.color != wanted.color {
        let _written = match wanted.color {
            Some([r, g, b]) => write!(out, "\\c&H{b:02X}{g:02X}{r:02X}&"),
            None => write!(out, "\\c"),
        };
    }
    out.push('}');
    *now = wanted;
}

fn escape(c: char, out: &mut String) {
    match c {
        '{' => out.push_str("\\{"),
        '}' => out.push_str("\\}"),
        '\\' => out.extend(['\\', WORD_JOINER]),
        c => out.push(c),
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
mod tests;
