//! Names and directories on the worker's disk.
//!
//! Guarantee: no id of a client's becomes a path unescaped; a taking's directories go when it is
//! over, however it ends; those of a process that was killed go when the next one starts, while
//! those of one that lives are never touched, also where several share a root.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use photofinish_model::{ItemIndex, Nonce};

const ITEM_CHARS_MAX: usize = 64;
/// How the directory of a process is named at the end.
const HOME: &str = ".worker";
/// The file in it that its process holds locked.
const LOCK: &str = "lock";

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

/// Where takings put their files. Each process has a directory of its own under each root, which it
/// holds locked for as long as it lives.
#[derive(Debug)]
pub struct Roots {
    work: Home,
    output: Home,
    count: AtomicU64,
}

/// The directory of this process under a root, removed when dropped.
#[derive(Debug)]
struct Home {
    path: PathBuf,
    /// The lock goes with the process, however it ends.
    _lock: File,
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
    /// Makes the two roots, and removes from them what processes left that are no more; `boot` is
    /// random, new in each process.
    pub fn new(work: &Path, output: &Path, boot: &str) -> io::Result<Self> {
        Ok(Self {
            work: Home::new(work, boot, "work")?,
            output: Home::new(output, boot, "output")?,
            count: AtomicU64::new(0),
        })
    }

    /// New directories for one taking of an attempt.
    pub fn make(&self, nonce: &Nonce) -> io::Result<Directories> {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let name = format!("{nonce}-{count}");
        let (work, output) = (self.work.path.join(&name), self.output.path.join(&name));
        std::fs::create_dir_all(&work)?;
        std::fs::create_dir_all(&output)?;
        Ok(Directories { work, output })
    }
}

impl Home {
    fn new(root: &Path, boot: &str, kind: &str) -> io::Result<Self> {
        std::fs::create_dir_all(root)?;
        let root = root.canonicalize()?;
        sweep(&root);
        // It gets its name when it is locked: nobody ever finds one that seems left behind.
        let unnamed = root.join(format!(".{boot}-{kind}"));
        std::fs::create_dir(&unnamed)?;
        let lock = File::create_new(unnamed.join(LOCK))?;
        lock.lock()?;
        let path = root.join(format!("{boot}-{kind}{HOME}"));
        std::fs::rename(&unnamed, &path)?;
        Ok(Self { path, _lock: lock })
    }
}

/// Removes what dead processes left in a root. Best effort: what stays only takes room.
fn sweep(root: &Path) {
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let path = entry.path();
        if !entry.file_name().to_string_lossy().ends_with(HOME) {
            continue;
        }
        // Only its own process, or another that removes it, holds the lock.
        let dead = File::open(path.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok());
        if dead {
            tracing::info!(dir = %path.display(), "left by a process that is no more: removed");
            remove(&path);
        }
    }
}

fn remove(dir: &Path) {
    if let Err(error) = std::fs::remove_dir_all(dir)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(dir = %dir.display(), %error, "remove a directory");
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

impl Drop for Directories {
    fn drop(&mut self) {
        remove(&self.work);
        remove(&self.output);
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

    #[test]
    fn what_a_dead_process_left_is_removed_and_a_living_one_is_not_touched() {
        let root = tempfile::tempdir().unwrap();
        let work = root.path().join("work");
        let nonce = Nonce::from_random(7);
        let living = Roots::new(&work, &work, "living").unwrap();
        let taken = living.make(&nonce).unwrap();
        std::fs::write(taken.work.join("video"), "half").unwrap();
        // As kill -9 leaves it: files, and a lock that nobody holds.
        let left = work.join("dead-work.worker/x-0");
        std::fs::create_dir_all(&left).unwrap();
        std::fs::write(left.join("video"), "half").unwrap();
        std::fs::write(work.join("dead-work.worker/lock"), "").unwrap();
        // Not ours.
        std::fs::write(work.join("notes.txt"), "").unwrap();
        let next = Roots::new(&work, &work, "next").unwrap();
        assert!(!work.join("dead-work.worker").exists());
        assert!(taken.work.join("video").exists() && work.join("notes.txt").exists());
        assert!(next.make(&nonce).unwrap().output != taken.output);
        drop((taken, living, next));
        let names = std::fs::read_dir(&work).unwrap().count();
        assert_eq!(names, 1, "only what is not ours");
    }
}
