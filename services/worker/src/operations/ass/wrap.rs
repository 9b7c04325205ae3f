//! Where lines may end in scripts that write no spaces, and in words longer than a line.
//!
//! libass breaks lines at spaces only and, told where more of them could be, knows best where to.
//! Not for: deciding where a line ends.

use std::cell::Cell;

use icu_segmenter::options::LineBreakOptions;
use icu_segmenter::{LineSegmenter, LineSegmenterBorrowed};

/// Width of a wide character, in sizes of the text: a little more than any font's.
const WIDE: f64 = 0.75;
/// Width of others; a line of only the widest letters has more.
const NARROW: f64 = 0.5;
/// Lines that are surely short enough need no places to break.
const SURE: f64 = 0.75;
/// Characters of long lines whose words only a model knows, which takes its time; whole films have
/// fewer. Lines beyond may only end at spaces.
const MODELLED_CHARS_MAX: usize = 100_000;

/// Finds places where lines of one width may end.
#[derive(Debug)]
pub(super) struct Wrapper {
    segmenter: LineSegmenterBorrowed<'static>,
    /// The width, in sizes of the text.
    line: f64,
    /// Characters that may still be given to the model.
    modelled_left: Cell<usize>,
}

impl Wrapper {
    /// For lines of `line_px` and text of `size_px`.
    pub(super) fn new(line_px: f64, size_px: f64) -> Self {
        Self {
            segmenter: LineSegmenter::new_lstm(LineBreakOptions::default()),
            line: line_px / size_px.max(1.0),
            modelled_left: Cell::new(MODELLED_CHARS_MAX),
        }
    }

    /// Byte offsets in the text, in order, where a break may be put.
    pub(super) fn breaks(&self, text: &str) -> Vec<usize> {
        if width(text) < self.line * SURE {
            return Vec::new();
        }
        let modelled = text.chars().filter(|&c| needs_model(c)).count();
        let Some(left) = self.modelled_left.get().checked_sub(modelled) else {
            return Vec::new();
        };
        self.modelled_left.set(left);
        let mut breaks: Vec<usize> = self
            .segmenter
            .segment_str(text)
            .filter(|&at| {
                let (before, after) = (text[..at].chars().next_back(), text[at..].chars().next());
                before.zip(after).is_some_and(|(before, after)| {
                    !before.is_whitespace() && (writes_no_spaces(before) || writes_no_spaces(after))
                })
            })
            .collect();
        self.break_long_words(text, &mut breaks);
        breaks
    }

    /// A word that is wider than a line may be broken between any two letters.
    fn break_long_words(&self, text: &str, breaks: &mut Vec<usize>) {
        let mut more = Vec::new();
        for word in text.split(' ') {
            let from = word.as_ptr().addr() - text.as_ptr().addr();
            let inside = from + 1..from + word.len();
            let broken = breaks.iter().any(|at| inside.contains(at));
            if broken || width(word) < self.line * SURE {
                continue;
            }
            let apart = |&(at, c): &(usize, char)| at > 0 && stands_alone(c);
            more.extend(word.char_indices().filter(apart).map(|(at, _)| from + at));
        }
        breaks.extend(more);
        breaks.sort_unstable();
    }
}

fn width(text: &str) -> f64 {
    let one = |c| if is_wide(c) { WIDE } else { NARROW };
    text.chars().map(one).sum()
}

fn is_wide(c: char) -> bool {
    matches!(u32::from(c), 0x1100..=0x11FF | 0x2E80..=0xA4CF | 0xAC00..=0xD7AF | 0xF900..=0xFAFF | 0xFE30..=0xFE6F
        | 0xFF00..=0xFF60 | 0x1F000..=0x1FAFF | 0x20000..=0x3FFFF)
}

/// Thai, Lao, Burmese, Khmer.
fn needs_model(c: char) -> bool {
    matches!(u32::from(c), 0x0E00..=0x0EFF | 0x1000..=0x109F | 0x1780..=0x17FF)
}

/// Chinese and Japanese, and those that need a model.
fn writes_no_spaces(c: char) -> bool {
    needs_model(c)
        || matches!(u32::from(c), 0x2E80..=0x30FF | 0x3100..=0x312F
        | 0x31A0..=0x9FFF | 0xF900..=0xFAFF | 0xFF00..=0xFFEF | 0x20000..=0x3FFFF)
}

/// A letter that does not change when the one before it is taken away. Combining marks do, and so do
/// the letters of scripts that join them.
fn stands_alone(c: char) -> bool {
    matches!(u32::from(c), 0x21..=0x2FF | 0x370..=0x482 | 0x48A..=0x58F | 0x5D0..=0x5EA | 0x1E00..=0x1FFF
        | 0x2010..=0x2027 | 0x2030..=0x205E | 0x20A0..=0x20CF | 0x2100..=0x2BFF | 0xAC00..=0xD7AF | 0x1F000..=0x1FAFF)
}
