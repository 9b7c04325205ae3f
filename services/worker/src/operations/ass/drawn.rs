//! What of a text is drawn, and what cannot be.
//!
//! Guarantee: a letter is drawn or missed, never silently left out; a symbol that no font draws
//! leaves no box behind.

use super::super::fonts::Fonts;
use super::super::srt::Cue;

/// Letters of the cues that no font here draws, each once, in order.
pub fn missing(cues: &[Cue], fonts: &Fonts) -> Vec<char> {
    let spans = cues.iter().flat_map(|cue| cue.lines.iter().flatten());
    let text: String = spans.map(|span| span.text.as_str()).collect();
    let mut missing = fonts.uncovered(&text);
    missing.retain(|&c| is_letter(c));
    missing
}

/// The characters that are drawn.
pub(super) fn text(text: &str, uppercase: bool, fonts: &Fonts) -> String {
    let cased = if uppercase {
        text.to_uppercase()
    } else {
        text.to_owned()
    };
    let mut out = String::with_capacity(cased.len());
    for c in cased.chars() {
        let drawn = match kind(c) {
            Kind::Direction | Kind::Space => true,
            // Between letters it shapes them; between pictures it asks for one that only colour
            // fonts have.
            Kind::Joiner => !out.chars().next_back().is_some_and(is_picture),
            Kind::Variant => false,
            Kind::Visible => fonts.can_draw(c),
        };
        if drawn {
            out.push(if kind(c) == Kind::Space { ' ' } else { c });
        }
    }
    out
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Visible,
    Space,
    /// Says which way text runs; draws nothing.
    Direction,
    Joiner,
    /// Says how the character before it looks: in colour, or of another skin.
    Variant,
}

fn kind(c: char) -> Kind {
    match c {
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            Kind::Direction
        }
        '\u{200c}' | '\u{200d}' => Kind::Joiner,
        '\u{180b}'..='\u{180d}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{1f3fb}'..='\u{1f3ff}'
        | '\u{e0000}'..='\u{e01ef}' => Kind::Variant,
        // A no-break space is drawn, and keeps its meaning.
        c if c.is_whitespace() && c != '\u{a0}' && c != '\u{3000}' => Kind::Space,
        _ => Kind::Visible,
    }
}

fn is_letter(c: char) -> bool {
    let symbol = matches!(u32::from(c), 0x2100..=0x27BF | 0x1D400..=0x1FAFF);
    c.is_alphabetic() && !symbol
}

fn is_picture(c: char) -> bool {
    matches!(u32::from(c), 0x2190..=0x2BFF | 0x1F000..=0x1FAFF)
}
