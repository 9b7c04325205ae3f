//! What is inside the text of a cue: tags, override blocks, entities.
//!
//! Guarantee: of what is not text, what we know has its effect, what players know vanishes, and the
//! rest is shown as it stands; no control character is left.

use super::{Look, Span};

/// Nested colours that are remembered.
const COLORS_MAX: usize = 64;
/// Bytes of the name of an entity.
const ENTITY_BYTES_MAX: usize = 10;

/// Where the text stands if it says so, and its lines.
pub(super) fn read(text: &str) -> (Option<u8>, Vec<Vec<Span>>) {
    let mut reader = Reader {
        lines: vec![Vec::new()],
        ..Reader::default()
    };
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let special = match next {
            '<' => reader.tag(rest),
            '{' => reader.block(rest),
            '&' => entity(rest).map(|(c, after)| {
                reader.push(c);
                after
            }),
            _ => None,
        };
        rest = special.unwrap_or_else(|| {
            reader.push(next);
            &rest[next.len_utf8()..]
        });
    }
    for line in &mut reader.lines {
        line.retain(|span| !span.text.is_empty());
    }
    reader
        .lines
        .retain(|line| line.iter().any(|span| !span.text.trim().is_empty()));
    (reader.place, reader.lines)
}

#[derive(Debug, Default)]
struct Reader {
    place: Option<u8>,
    look: Look,
    colors: Vec<Option<[u8; 3]>>,
    lines: Vec<Vec<Span>>,
}

impl Reader {
    fn push(&mut self, c: char) {
        let c = match c {
            '\n' => return self.lines.push(Vec::new()),
            '\t' => ' ',
            c => c,
        };
        let Some(line) = self.lines.last_mut().filter(|_| is_text(c)) else {
            return;
        };
        match line.last_mut() {
            Some(span) if span.look == self.look => span.text.push(c),
            Some(_) | None => line.push(Span {
                text: c.to_string(),
                look: self.look,
            }),
        }
    }

    /// `<b>` and its like at the start of the text; what follows it.
    fn tag<'a>(&mut self, text: &'a str) -> Option<&'a str> {
        let (inside, after) = text[1..].split_once('>')?;
        if inside.contains(['<', '\n']) {
            return None;
        }
        let (on, inside) = match inside.strip_prefix('/') {
            Some(inside) => (false, inside),
            None => (true, inside),
        };
        let name = inside.split([' ', '.', '/', '\t']).next()?;
        match name.to_ascii_lowercase().as_str() {
            "b" | "strong" => self.look.bold = on,
            "i" | "em" => self.look.italic = on,
            "u" | "ins" => self.look.underline = on,
            "s" | "strike" | "del" => self.look.struck = on,
            "br" => self.push('\n'),
            "font" | "c" if on => self.color(color_of(inside)),
            "font" | "c" => self.look.color = self.colors.pop().unwrap_or_default(),
            "v" | "span" | "ruby" | "rt" | "lang" | "p" | "div" | "center" | "small" | "big" => {}
            // `<00:00:01.000>`: when the next word is said.
            name if !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit() || b == b':') => {}
            _ => return None,
        }
        Some(after)
    }

    fn color(&mut self, color: Option<[u8; 3]>) {
        if self.colors.len() < COLORS_MAX {
            self.colors.push(self.look.color);
        }
        self.look.color = color.or(self.look.color);
    }

    /// `{\an8}` and its like, a habit taken over from ASS. Every player hides them.
    fn block<'a>(&mut self, text: &'a str) -> Option<&'a str> {
        let (inside, after) = text.strip_prefix("{\\")?.split_once('}')?;
        if inside.contains('\n') {
            return None;
        }
        for command in inside.split('\\').map(str::trim) {
            let at = command.find(|c: char| !c.is_ascii_alphabetic());
            let (name, value) = command.split_at(at.unwrap_or(command.len()));
            match (name, value) {
                ("an", value) => {
                    let place = value.parse().ok().filter(|place| (1..=9).contains(place));
                    self.place = self.place.or(place);
                }
                ("b", value) => self.look.bold = value != "0" && !value.is_empty(),
                ("i", value) => self.look.italic = value == "1",
                ("u", value) => self.look.underline = value == "1",
                ("s", value) => self.look.struck = value == "1",
                ("c", value) => self.look.color = ass_color(value),
                ("r", _) => self.look = Look::default(),
                _ => {}
            }
        }
        Some(after)
    }
}

/// Not: controls, characters that only mark a place where a line may break or may not, and those
/// that stand for something that is not text.
fn is_text(c: char) -> bool {
    !c.is_control()
        && !matches!(
            c,
            '\u{ad}' | '\u{200b}' | '\u{2028}' | '\u{2029}' | '\u{2060}' | '\u{feff}' | '\u{fff9}'
                ..='\u{fffd}'
        )
}

/// The colour that a tag names, as an attribute or as a class of WebVTT.
fn color_of(tag: &str) -> Option<[u8; 3]> {
    let lower = tag.to_ascii_lowercase();
    let Some((_, value)) = lower.split_once("color") else {
        return lower.split('.').skip(1).find_map(named);
    };
    let value = value.trim_start().strip_prefix('=')?.trim_start();
    let value = value.trim_start_matches(['"', '\'']);
    let end = value.find(|c: char| !c.is_ascii_alphanumeric() && c != '#');
    let value = &value[..end.unwrap_or(value.len())];
    named(value).or_else(|| hex_color(value.trim_start_matches('#')))
}

fn hex_color(digits: &str) -> Option<[u8; 3]> {
    let value = u32::from_str_radix(digits, 16).ok()?;
    let [_, r, g, b] = value.to_be_bytes();
    match digits.len() {
        6 => Some([r, g, b]),
        3 => Some(
            [
                (value >> 8) as u8,
                (value >> 4 & 15) as u8,
                (value & 15) as u8,
            ]
            .map(|d| d * 17),
        ),
        _ => None,
    }
}

/// `&H0000FF&`, blue first.
fn ass_color(value: &str) -> Option<[u8; 3]> {
    let digits = value.trim_matches('&').trim_start_matches(['H', 'h']);
    let value = u32::from_str_radix(digits, 16).ok()?;
    let [_, b, g, r] = value.to_be_bytes();
    Some([r, g, b])
}

fn named(name: &str) -> Option<[u8; 3]> {
    Some(match name {
        "black" => [0, 0, 0],
        "white" => [255, 255, 255],
        "red" => [255, 0, 0],
        "green" => [0, 128, 0],
        "blue" => [0, 0, 255],
        "yellow" => [255, 255, 0],
        "cyan" | "aqua" => [0, 255, 255],
        "magenta" | "fuchsia" => [255, 0, 255],
        "lime" => [0, 255, 0],
        "orange" => [255, 165, 0],
        "pink" => [255, 192, 203],
        "purple" => [128, 0, 128],
        "gray" | "grey" => [128, 128, 128],
        "silver" => [192, 192, 192],
        _ => return None,
    })
}

/// `&amp;` and its like at the start of the text, and what follows it.
fn entity(text: &str) -> Option<(char, &str)> {
    let (name, after) = text[1..].split_once(';')?;
    if name.len() > ENTITY_BYTES_MAX {
        return None;
    }
    let c = match name.strip_prefix('#') {
        Some(number) => {
            let code = match number.strip_prefix(['x', 'X']) {
                Some(digits) => u32::from_str_radix(digits, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)?
        }
        None => named_entity(name)?,
    };
    Some((c, after))
}

fn named_entity(name: &str) -> Option<char> {
    Some(match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "lrm" => '\u{200e}',
        "rlm" => '\u{200f}',
        "ndash" => '–',
        "mdash" => '—',
        "lsquo" => '‘',
        "rsquo" => '’',
        "ldquo" => '“',
        "rdquo" => '”',
        "hellip" => '…',
        "bull" => '•',
        "euro" => '€',
        "trade" => '™',
        _ => {
            let at = LATIN_1.split(' ').position(|known| known == name)?;
            char::from_u32(160 + u32::try_from(at).ok()?)?
        }
    })
}

/// The names of the characters 160 to 255.
const LATIN_1: &str = "nbsp iexcl cent pound curren yen brvbar sect uml copy ordf laquo not shy reg \
    macr deg plusmn sup2 sup3 acute micro para middot cedil sup1 ordm raquo frac14 frac12 frac34 \
    iquest Agrave Aacute Acirc Atilde Auml Aring AElig Ccedil Egrave Eacute Ecirc Euml Igrave Iacute \
    Icirc Iuml ETH Ntilde Ograve Oacute Ocirc Otilde Ouml times Oslash Ugrave Uacute Ucirc Uuml \
    Yacute THORN szlig agrave aacute acirc atilde auml aring aelig ccedil egrave eacute ecirc euml \
    igrave iacute icirc iuml eth ntilde ograve oacute ocirc otilde ouml divide oslash ugrave uacute \
    ucirc uuml yacute thorn yuml";
