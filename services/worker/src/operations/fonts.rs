//! The fonts of this machine: which families are here, and which characters they can draw.
//!
//! Nouns: [`Fonts`] is what fontconfig says, asked once in a process. Bitmap and colour fonts count
//! for nothing: libass draws neither.
//!
//! Guarantee: the question is bounded in time and size. Not for: choosing a font; fontconfig and
//! libass do that, character by character.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::ops::RangeInclusive;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::sync::OnceCell;

const PROGRAM: &str = "fc-list";
/// One font a line; the characters stand last, because they are the only field without a limit.
const FORMAT: &str =
    "%{outline}\t%{color}\t%{family}\t%{fullname}\t%{postscriptname}\t%{charset}\n";
/// Its first run on a machine may build fontconfig's cache.
const LIMIT: Duration = Duration::from_secs(60);
/// The longest list that is read: ten thousand fonts or so.
const LIST_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// What fontconfig finds something for on every machine that has a font at all.
const GENERIC: [&str; 4] = ["sans-serif", "serif", "monospace", "sans"];

/// Why the fonts are not known.
#[derive(Debug, thiserror::Error)]
pub enum FontsError {
    /// fontconfig's program could not be run.
    #[error("run {PROGRAM}")]
    Run(#[source] io::Error),
    /// It took too long.
    #[error("{PROGRAM} took longer than {} s", LIMIT.as_secs())]
    TimedOut,
    /// It ended with an error.
    #[error("{PROGRAM} failed")]
    Failed,
}

/// The fonts of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fonts {
    /// Family names as their fonts spell them.
    families: Vec<String>,
    /// Every name that finds a font, in lower case, and how it is spelt.
    names: BTreeMap<String, String>,
    /// Code points that some font draws: sorted, not touching.
    drawn: Vec<RangeInclusive<u32>>,
}

/// The fonts of this machine; fontconfig is asked at the first call.
pub async fn here() -> Result<&'static Fonts, FontsError> {
    static FONTS: OnceCell<Fonts> = OnceCell::const_new();
    FONTS
        .get_or_try_init(|| async { Ok(Fonts::parse(&list().await?)) })
        .await
}

async fn list() -> Result<String, FontsError> {
    let mut child = Command::new(PROGRAM)
        .args(["--format", FORMAT])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(FontsError::Run)?;
    let out = child.stdout.take();
    let work = async {
        let mut text = Vec::new();
        if let Some(out) = out {
            out.take(LIST_BYTES_MAX).read_to_end(&mut text).await?;
        }
        Ok((child.wait().await?, text))
    };
    let done = tokio::time::timeout(LIMIT, work).await;
    let (status, text) = done
        .map_err(|_| FontsError::TimedOut)?
        .map_err(FontsError::Run)?;
    if !status.success() {
        return Err(FontsError::Failed);
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

impl Fonts {
    /// Reads an answer of `fc-list`, one font a line: outline, colour, family, full name, PostScript
    /// name and characters, with tabs between them.
    pub fn parse(list: &str) -> Self {
        let mut fonts = Self::default();
        let mut ranges = Vec::new();
        for line in list.lines() {
            let fields: Vec<&str> = line.split('\t').collect();
            let ["True", "False", family, full, postscript, chars] = fields[..] else {
                continue;
            };
            fonts.families.extend(family.split(',').next().map(clean));
            for name in [family, full, postscript]
                .iter()
                .flat_map(|names| names.split(','))
            {
                let name = clean(name);
                fonts.names.entry(name.to_lowercase()).or_insert(name);
            }
            ranges.extend(chars.split(' ').filter_map(range));
        }
        fonts.names.remove("");
        fonts.families.retain(|family| !family.is_empty());
        fonts.families.sort();
        fonts.families.dedup();
        fonts.drawn = merged(ranges);
        fonts
    }

    /// Families, sorted by name.
    pub fn families(&self) -> &[String] {
        &self.families
    }

    /// True when a font of this family, or of this full name, is here; upper and lower case are one.
    pub fn has_family(&self, name: &str) -> bool {
        self.spelling(name).is_some()
    }

    /// How the fonts spell a name that was given to us.
    pub fn spelling(&self, name: &str) -> Option<&str> {
        let name = name.trim().to_lowercase();
        let found = self.names.get(&name).map(String::as_str);
        let generic = || GENERIC.into_iter().find(|generic| *generic == name);
        found.or_else(|| generic().filter(|_| !self.families.is_empty()))
    }

    /// True when some font draws the character.
    pub fn can_draw(&self, c: char) -> bool {
        let code = u32::from(c);
        let after = self.drawn.partition_point(|range| *range.start() <= code);
        after > 0 && self.drawn[after - 1].contains(&code)
    }

    /// Characters of the text that no font draws, each once, in the text's order.
    pub fn uncovered(&self, text: &str) -> Vec<char> {
        let mut seen = HashSet::new();
        text.chars()
            .filter(|&c| !self.can_draw(c) && seen.insert(c))
            .collect()
    }
}

/// fontconfig escapes what its own syntax uses.
fn clean(name: &str) -> String {
    name.replace('\\', "").trim().to_owned()
}

/// `20-7e` or `a0`.
fn range(text: &str) -> Option<RangeInclusive<u32>> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let code = |digits| u32::from_str_radix(digits, 16).ok();
    Some(code(from)?..=code(to)?)
}

fn merged(mut ranges: Vec<RangeInclusive<u32>>) -> Vec<RangeInclusive<u32>> {
    ranges.sort_by_key(|range| *range.start());
    let mut merged: Vec<RangeInclusive<u32>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if *range.start() <= last.end().saturating_add(1) => {
                *last = *last.start()..=*last.end().max(range.end());
            }
            Some(_) | None => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "True\tFalse\tNoto Sans\tNoto Sans Bold\tNotoSans-Bold\t20-7e a0-ff\n\
        True\tFalse\tNoto Sans CJK JP,Noto Sans CJK JP Black\tA,B\tC\t3041-3096 80 7f\n\
        False\tTrue\tNoto Color Emoji\tNoto Color Emoji\tNotoColorEmoji\t1f600-1f64f\n\
        nonsense\nTrue\tFalse\tAda\\-Sans\t\t\tzz 5-\n";

    #[test]
    fn families_names_and_characters_are_read() {
        let fonts = Fonts::parse(LIST);
        assert_eq!(
            fonts.families(),
            ["Ada-Sans", "Noto Sans", "Noto Sans CJK JP"]
        );
        for name in [
            "noto sans",
            " NOTO SANS ",
            "Noto Sans Bold",
            "Noto Sans CJK JP Black",
            "notosans-bold",
            "Sans-Serif",
        ] {
            assert!(fonts.has_family(name), "{name}");
        }
        assert_eq!(fonts.spelling("noto sans cjk jp"), Some("Noto Sans CJK JP"));
        for name in ["", "Noto", "Noto Color Emoji", "Arial", "@Noto Sans"] {
            assert!(!fonts.has_family(name), "{name}");
        }
        assert_eq!(fonts.drawn, [0x20..=0x80, 0xA0..=0xFF, 0x3041..=0x3096]);
        assert_eq!(fonts.uncovered("é い😀\u{81}😀~漢"), ['😀', '\u{81}', '漢']);
    }

    #[test]
    fn a_machine_without_fonts_draws_nothing() {
        let fonts = Fonts::parse("");
        assert!(!fonts.has_family("sans-serif"));
        assert_eq!(fonts.uncovered("aa"), ['a']);
    }

    #[tokio::test]
    async fn this_machine_has_the_fonts_that_captions_need() {
        let fonts = here().await.unwrap();
        for family in [
            "Noto Sans",
            "Noto Sans CJK JP",
            "Noto Sans Arabic",
            "Symbola",
        ] {
            assert!(
                fonts.has_family(family),
                "{family} is not here: scripts/fonts.sh installs it"
            );
        }
        let letters = "aÇё ج ש ก ท์ ह क्ष 日本語 中文 한국어 ♪♫ ☺ 😀";
        assert_eq!(fonts.uncovered(letters), [' '; 0]);
        // A character that Unicode has not assigned.
        assert_eq!(fonts.uncovered("\u{2FE0}"), ['\u{2FE0}']);
    }
}
