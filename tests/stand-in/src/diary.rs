//! What all stand-ins of a directory have begun and made, and the marks that they leave there.
//!
//! Guarantee: a line is written whole, whoever else writes, and before what it tells of can have an effect; a mark is
//! set once, whoever sets it. Without a directory nothing is kept.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

const NAME: &str = "diary.jsonl";

/// What happened to an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// Its making has begun.
    Begun,
    /// Its file lies there.
    Made,
    /// Its making was stopped.
    Stopped,
    /// It failed, as it was told to.
    Failed,
}

/// A line of the diary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// What happened.
    pub word: Word,
    /// The item's id.
    pub item: String,
    /// Its attempt's fencing token.
    pub nonce: String,
    /// The process.
    pub pid: u32,
}

/// Where it is written.
#[derive(Debug)]
pub(crate) struct Diary {
    dir: Option<PathBuf>,
    file: Option<File>,
}

impl Diary {
    pub(crate) fn new(dir: Option<PathBuf>) -> Self {
        let file = dir.as_ref().and_then(|dir| {
            let made = std::fs::create_dir_all(dir);
            let path = dir.join(NAME);
            let opened = made.and_then(|()| File::options().create(true).append(true).open(path));
            opened
                .inspect_err(|error| tracing::error!(%error, "open the diary"))
                .ok()
        });
        Self { dir, file }
    }

    pub(crate) fn write(&self, word: Word, item: &str, nonce: &str) {
        let Some(mut file) = self.file.as_ref() else {
            return;
        };
        let line = Line {
            word,
            item: item.to_owned(),
            nonce: nonce.to_owned(),
            pid: std::process::id(),
        };
        let text = serde_json::to_string(&line).unwrap_or_default();
        // One write to a file that is appended to: lines of other processes do not get in between.
        if let Err(error) = file.write_all(format!("{text}\n").as_bytes()) {
            tracing::error!(%error, "write the diary");
        }
    }

    /// Whether a file lies in the directory.
    pub(crate) fn marked(&self, name: &str) -> bool {
        self.dir.as_ref().is_some_and(|dir| dir.join(name).exists())
    }

    /// Whether this is one of the first `times` of something with an item, over all processes.
    pub(crate) fn within(&self, item: &str, what: &str, times: u32) -> bool {
        let Some(dir) = &self.dir else {
            return false;
        };
        let place = |nth| dir.join(format!("{what}-{nth}-{item}"));
        (0..times).any(|nth| File::create_new(place(nth)).is_ok())
    }
}

/// Everything that is written there.
pub fn read(dir: &Path) -> anyhow::Result<Vec<Line>> {
    let text = match std::fs::read_to_string(dir.join(NAME)) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).context("read the diary of the stand-ins"),
    };
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).context("read a line of the diary"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_that_write_are_read_and_marks_are_set_once() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), []);
        let of = |dir: &Path| Diary::new(Some(dir.to_owned()));
        let (one, other) = (of(dir.path()), of(dir.path()));
        one.write(Word::Begun, "a", "n1");
        other.write(Word::Begun, "b", "n2");
        one.write(Word::Made, "a", "n1");
        let lines = read(dir.path()).unwrap();
        let words: Vec<_> = lines.iter().map(|l| (l.word, l.item.as_str())).collect();
        assert_eq!(
            words,
            [(Word::Begun, "a"), (Word::Begun, "b"), (Word::Made, "a")]
        );
        let drawn = [&one, &other, &one, &other].map(|diary| diary.within("a", "crash", 2));
        assert_eq!(drawn, [true, true, false, false]);
        assert!(one.within("b", "crash", 1) && !one.marked("open"));
        assert!(!Diary::new(None).within("a", "crash", 1));
    }
}
