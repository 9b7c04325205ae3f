//! Pid files: which processes of a directory run, told apart from strangers that were given the number since.
//!
//! A file `pids/{order}-{name}` holds the process id and its start time in clock ticks since boot. A process is ours
//! only if both are as written.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use photofinish_kit::wait_until;
use rustix::process::{Pid, Signal, kill_process};

/// How long a process has to end after SIGTERM.
const TERM_GRACE: Duration = Duration::from_secs(12);
/// How long the kernel has to remove a killed process.
const KILL_GRACE: Duration = Duration::from_secs(5);

/// One process that was started under a directory.
#[derive(Debug, Clone)]
pub struct PidFile {
    /// Order of starting; stopping goes the other way round.
    pub order: u32,
    /// The service.
    pub name: String,
    /// Its process id.
    pub pid: u32,
    started: u64,
    path: PathBuf,
}

impl PidFile {
    /// Remembers a process that has just been started; an older file of that name is replaced.
    pub fn write(dir: &Path, order: u32, name: &str, pid: u32) -> anyhow::Result<Self> {
        let dir = dir.join("pids");
        std::fs::create_dir_all(&dir).context("make the directory of pid files")?;
        let path = dir.join(format!("{order:02}-{name}"));
        let started = start_time(pid).with_context(|| format!("{name} ended at once"))?;
        std::fs::write(&path, format!("{pid} {started}\n")).context("write a pid file")?;
        Ok(Self {
            order,
            name: name.to_owned(),
            pid,
            started,
            path,
        })
    }

    fn read(path: PathBuf) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let (order, name) = name.split_once('-')?;
        let text = std::fs::read_to_string(&path).ok()?;
        let (pid, started) = text.trim().split_once(' ')?;
        Some(Self {
            order: order.parse().ok()?,
            name: name.to_owned(),
            pid: pid.parse().ok()?,
            started: started.parse().ok()?,
            path,
        })
    }

    /// Whether that very process runs.
    pub fn alive(&self) -> bool {
        start_time(self.pid) == Some(self.started)
    }

    fn signal(&self, signal: Signal) {
        if self.alive()
            && let Some(pid) = Pid::from_raw(self.pid.cast_signed())
        {
            // It may have ended in between: that is what is wanted.
            let _gone = kill_process(pid, signal);
        }
    }

    async fn gone(&self, within: Duration) -> bool {
        let waited = wait_until(within, &self.name, || async { !self.alive() }).await;
        waited.is_ok()
    }
}

/// All pid files of a directory in the order of starting.
pub fn all(dir: &Path) -> Vec<PidFile> {
    let Ok(entries) = std::fs::read_dir(dir.join("pids")) else {
        return Vec::new();
    };
    let mut files: Vec<_> = entries
        .filter_map(|entry| PidFile::read(entry.ok()?.path()))
        .collect();
    files.sort_by_key(|file| file.order);
    files
}

/// Stops every process of the directory, those of one order together, the last started first: SIGTERM, then SIGKILL.
/// Gives the names of those that had to be killed.
pub async fn stop_all(dir: &Path) -> Vec<String> {
    let mut killed = Vec::new();
    let mut files = all(dir);
    while let Some(last) = files.last() {
        let order = last.order;
        let first = files.partition_point(|file| file.order < order);
        let together = files.split_off(first);
        for file in &together {
            file.signal(Signal::CONT);
            file.signal(Signal::TERM);
        }
        for file in together {
            if !file.gone(TERM_GRACE).await {
                file.signal(Signal::KILL);
                let _killed = file.gone(KILL_GRACE).await;
                killed.push(file.name.clone());
            }
            // A file that cannot be removed names a dead process: harmless.
            let _removed = std::fs::remove_file(&file.path);
        }
    }
    killed
}

/// Ticks from boot to the start of a process; none if it is gone or a zombie.
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; the fields behind it begin with the third, the state.
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    if *fields.first()? == "Z" {
        return None;
    }
    fields.get(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_very_process_is_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let mut stranger = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let file = PidFile::write(dir.path(), 1, "ours", child.id()).unwrap();
        assert!(file.alive());
        // A number that was given away since: the pid runs, its start time is another.
        std::fs::write(
            dir.path().join("pids/02-gone"),
            format!("{} 1\n", stranger.id()),
        )
        .unwrap();
        let killed = stop_all(dir.path()).await;
        assert!(killed.is_empty() && all(dir.path()).is_empty());
        assert!(
            child.wait().unwrap().code().is_none(),
            "ended by the signal"
        );
        assert!(
            stranger.try_wait().unwrap().is_none(),
            "the stranger goes on"
        );
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }

    #[test]
    fn a_process_that_never_was_is_not_alive() {
        assert_eq!(start_time(u32::MAX), None);
        assert!(start_time(std::process::id()).is_some());
    }
}
