//! Brackets where two directions of writing meet.
//!
//! libass asks FriBidi for the order of letters without the rule for pairs of brackets (Unicode's
//! Bidirectional Algorithm, N0), so that each of a pair turns as its own neighbours do: of
//! `שלום (MP4) 50` the closing one opens. Marks of direction around both make them one pair.
//!
//! Not for: the order of anything else.

/// Makes what stands between two of them run from left to right.
const LEFT_TO_RIGHT: char = '\u{200e}';
/// The same from right to left.
const RIGHT_TO_LEFT: char = '\u{200f}';
/// Brackets within brackets, as Unicode has it.
const DEPTH_MAX: usize = 63;

/// A bracket that is open.
struct Open {
    at: usize,
    closing: char,
    /// Where the letters before it run to.
    before: char,
    /// Letters inside that run as the line does, and those that do not.
    inside: [bool; 2],
}

/// Byte offsets of brackets, in order, and the mark that each needs on both sides.
pub(super) fn marks(text: &str) -> Vec<(usize, char)> {
    let Some(line) = text.chars().find_map(direction) else {
        return Vec::new();
    };
    if text.chars().filter_map(direction).all(|one| one == line) {
        return Vec::new();
    }
    let (mut marks, mut open, mut last) = (Vec::new(), Vec::<Open>::new(), line);
    for (at, c) in text.char_indices() {
        last = direction(c).unwrap_or(last);
        // Digits go with the letters before them.
        if direction(c).is_some() || c.is_numeric() {
            for bracket in &mut open {
                bracket.inside[usize::from(last != line)] = true;
            }
        }
        if let Some(closing) = closing(c).filter(|_| open.len() < DEPTH_MAX) {
            open.push(Open {
                at,
                closing,
                before: last,
                inside: [false; 2],
            });
        } else if let Some(n) = open.iter().rposition(|bracket| bracket.closing == c) {
            let pair = &open[n];
            let mark = match pair.inside {
                [true, _] => Some(line),
                [false, true] => Some(pair.before),
                [false, false] => None,
            };
            marks.extend(
                mark.into_iter()
                    .flat_map(|mark| [(pair.at, mark), (at, mark)]),
            );
            open.truncate(n);
        }
    }
    marks.sort_unstable();
    marks
}

fn closing(c: char) -> Option<char> {
    Some(match c {
        '(' => ')',
        '[' => ']',
        '{' => '}',
        _ => return None,
    })
}

/// The mark that runs as the letter does.
fn direction(c: char) -> Option<char> {
    let leftwards = matches!(u32::from(c), 0x590..=0x8FF | 0xFB1D..=0xFDFF | 0xFE70..=0xFEFE | 0x10800..=0x10FFF
        | 0x1E800..=0x1EFFF);
    match c {
        LEFT_TO_RIGHT | RIGHT_TO_LEFT => Some(c),
        c if !c.is_alphabetic() => None,
        _ if leftwards => Some(RIGHT_TO_LEFT),
        _ => Some(LEFT_TO_RIGHT),
    }
}
