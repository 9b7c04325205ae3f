//! Names and directories on the worker's disk.
//!
//! Guarantee: no id of a client's becomes a path unescaped; a taking's directories go when it is
//! over, however it ends.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use photofinish_model::{ItemIndex, Nonce};

const ITEM_CHARS_MAX: usize = 64;

/// The file name of an item's output.
pub fn output_name(index: ItemIndex, item: &str) -> String {
    let safe: String = item
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') {
                c
            } else {
                '_'
            }
        })
        .take(ITEM_CHARS_MAX)
        .collect();
    format!("{index:04}-{safe}.mp4")
}

/// Where takings put their files.
#[derive(Debug)]
pub struct Roots {
    work: PathBuf,
    output: PathBuf,
    boot: String,
    count: AtomicU64,
}

/// The directories of one taking, removed when dropped.
#[derive(Debug)]
pub struct Directories {
    /// For inputs and what is half done.
    pub work: PathBuf,
    /// For finished outputs.
    pub output: PathBuf,
}

impl Roots {
    /// Makes the two roots; `boot` is random, new in each process.
    pub fn new(work: &Path, output: &Path, boot: String) -> io::Result<Self> {
        let made = |path: &Path| {
            std::fs::create_dir_all(path)?;
            path.canonicalize()
        };
        Ok(Self {
            work: made(work)?,
            output: made(output)?,
            boot,
            count: AtomicU64::new(0),
        })
    }

    /// New directories for one taking of an attempt.
    pub fn make(&self, nonce: &Nonce) -> io::Result<Directories> {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let name = format!("{nonce}-{}-{count}", self.boot);
        let (work, output) = (self.work.join(&name), self.output.join(&name));
        std::fs::create_dir_all(&work)?;
        std::fs::create_dir_all(&output)?;
        Ok(Directories { work, output })
    }
}

impl Drop for Directories {
    fn drop(&mut self) {
        for dir in [&self.work, &self.output] {
            if let Err(error) = std::fs::remove_dir_all(dir)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(dir = %dir.display(), %error, "remove a directory");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_never_become_paths() {
        assert_eq!(
            output_name(7, "../../etc/pass wd"),
            "0007-.._.._etc_pass_wd.mp4"
        );
        assert_eq!(output_name(0, "imágem 1").len(), "0000-im_gem_1.mp4".len());
        assert_eq!(output_name(1000, &"x".repeat(128)).len(), 5 + 64 + 4);
    }
}
