//! ffmpeg and ffprobe as child processes: no standard input but ours, a time limit, killed on stop.
//!
//! Guarantee: a child never outlives the call that started it; of what it says at most
//! [`SAID_BYTES_MAX`] are kept. Not for: deciding what a failure means to the client.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

/// How much of a child's complaints is kept: the last so many bytes.
pub const SAID_BYTES_MAX: usize = 4096;

/// Why a child did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum FfmpegError {
    /// It could not be started.
    #[error("start {program}")]
    Start {
        /// What.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It ended with an error.
    #[error("{program} failed: {said}")]
    Failed {
        /// What.
        program: String,
        /// The end of what it said.
        said: String,
    },
    /// It took longer than its limit and was killed.
    #[error("{program} took longer than {} s", limit.as_secs())]
    TimedOut {
        /// What.
        program: String,
        /// The limit.
        limit: Duration,
    },
    /// It was told to stop and killed.
    #[error("stopped")]
    Stopped,
}

/// A child that runs.
#[derive(Debug)]
pub struct Running {
    program: String,
    child: Child,
}

/// Arguments of one command, built piece by piece.
#[derive(Debug, Clone, Default)]
pub struct Args(Vec<OsString>);

impl Args {
    /// From words separated by single spaces; for arguments that we wrote ourselves.
    pub fn words(words: &str) -> Self {
        Self(words.split(' ').map(OsString::from).collect())
    }

    /// More words.
    #[must_use]
    pub fn and(mut self, words: &str) -> Self {
        self.0.extend(words.split(' ').map(OsString::from));
        self
    }

    /// One argument as it is.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.0.push(arg.into());
        self
    }

    /// All of another.
    #[must_use]
    pub fn with(mut self, other: &Self) -> Self {
        self.0.extend(other.0.iter().cloned());
        self
    }
}

impl Running {
    /// Starts `program` in `dir`; with `fed` its standard input is a pipe.
    pub fn start(program: &str, dir: &Path, args: &Args, fed: bool) -> Result<Self, FfmpegError> {
        let child = Command::new(program)
            .args(&args.0)
            .current_dir(dir)
            .stdin(if fed { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| FfmpegError::Start {
                program: program.to_owned(),
                source,
            })?;
        Ok(Self {
            program: program.to_owned(),
            child,
        })
    }

    /// The pipe to its standard input, for a thread that blocks; dropping it is the end of input.
    pub fn take_input(&mut self) -> io::Result<File> {
        let pipe = self
            .child
            .stdin
            .take()
            .ok_or_else(|| io::Error::other("standard input is no pipe"))?;
        Ok(File::from(pipe.into_owned_fd()?))
    }

    /// Waits for its end; what it wrote to standard output, at most `output_max` bytes of it.
    pub async fn finish(
        mut self,
        output_max: usize,
        limit: Duration,
        stop: &CancellationToken,
    ) -> Result<Vec<u8>, FfmpegError> {
        let (out, err) = (self.child.stdout.take(), self.child.stderr.take());
        let work = async {
            tokio::join!(
                read_first(out, output_max),
                read_last(err),
                self.child.wait()
            )
        };
        let (output, said, status) = tokio::select! {
            done = work => done,
            () = tokio::time::sleep(limit) => {
                return Err(FfmpegError::TimedOut { program: self.program, limit });
            }
            () = stop.cancelled() => return Err(FfmpegError::Stopped),
        };
        match status {
            Ok(status) if status.success() => Ok(output),
            Ok(status) => {
                let said = if said.is_empty() {
                    status.to_string()
                } else {
                    said
                };
                Err(FfmpegError::Failed {
                    program: self.program,
                    said,
                })
            }
            Err(source) => Err(FfmpegError::Start {
                program: self.program,
                source,
            }),
        }
    }
}

/// Starts a child and waits for its end.
pub async fn run(
    program: &str,
    dir: &Path,
    args: &Args,
    limit: Duration,
    stop: &CancellationToken,
) -> Result<(), FfmpegError> {
    let running = Running::start(program, dir, args, false)?;
    running.finish(0, limit, stop).await.map(|_| ())
}

async fn read_first(from: Option<impl AsyncRead + Unpin>, max: usize) -> Vec<u8> {
    let mut kept = Vec::new();
    let Some(mut from) = from else { return kept };
    let mut buffer = [0; 8192];
    // Read to the end even when full: a child whose pipe nobody reads stands still.
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        let room = max.saturating_sub(kept.len()).min(n);
        kept.extend_from_slice(&buffer[..room]);
    }
    kept
}

async fn read_last(from: Option<impl AsyncRead + Unpin>) -> String {
    let mut kept = Vec::new();
    if let Some(mut from) = from {
        let mut buffer = [0; 2048];
        while let Ok(n @ 1..) = from.read(&mut buffer).await {
            kept.extend_from_slice(&buffer[..n]);
            if kept.len() > 2 * SAID_BYTES_MAX {
                kept.drain(..kept.len() - SAID_BYTES_MAX);
            }
        }
    }
    String::from_utf8_lossy(&kept).trim().to_owned()
}
