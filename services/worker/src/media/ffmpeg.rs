//! ffmpeg and ffprobe as child processes: no standard input but ours, killed on stop, bounded.
//!
//! Nouns: [`Bounds`] are what a child may use; a [`Moment`] is how far ffmpeg says it is.
//!
//! Guarantee: a child never outlives the call that started it, nor this process, however it ends;
//! of what it says at most [`SAID_BYTES_MAX`] are kept; it writes no core file, and no file larger
//! than [`FILE_BYTES_MAX`]. Not for: deciding what a failure means to the client.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

mod reading;

pub use reading::{Moment, SAID_BYTES_MAX};
use reading::{Reading, read, read_last};

/// The largest file that a child may write: outputs are never larger.
pub const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// Processor seconds that a child may use for each second that it may take.
const CPU_PER_WALL_MAX: u32 = 4;
/// Between the signal that asks a child to end for its processor time, and the one that ends it.
const CPU_GRACE_S: u64 = 2;
/// Starts all children; of util-linux, as is prlimit, which it starts (by nice, of coreutils, if they stand back).
const STARTER: &str = "setpriv";
/// What util-linux's programs, which set the bounds, answer when there is no such program, or none
/// that runs.
const EXIT_NOT_STARTED: [i32; 2] = [126, 127];
/// ffmpeg's answer when a signal asked it to end.
const EXIT_SIGNALLED: i32 = 255;
const SIGKILL: i32 = 9;
const SIGXCPU: i32 = 24;
const SIGXFSZ: i32 = 25;

/// What a child may use.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// From start to end.
    pub wall_max: Duration,
    /// On all processors together; whole seconds.
    pub cpu_max: Duration,
    /// Without any progress, for ffmpeg that tells its progress.
    pub stall_max: Option<Duration>,
    /// Bytes of address space. Not for a child that may use a GPU: its driver reserves far more
    /// than it uses.
    pub memory_max: Option<u64>,
    /// True: what else wants a processor has it nearly alone.
    pub stands_back: bool,
}

impl Bounds {
    /// The bounds of work that may take so long.
    pub fn of(wall_max: Duration) -> Self {
        Self {
            wall_max,
            cpu_max: wall_max.saturating_mul(CPU_PER_WALL_MAX),
            stall_max: None,
            memory_max: None,
            stands_back: false,
        }
    }

    /// Ends a child that makes no progress for so long.
    #[must_use]
    pub fn stalled_after(self, stall_max: Duration) -> Self {
        Self {
            stall_max: Some(stall_max),
            ..self
        }
    }

    /// Ends a child that wants more address space than this, in bytes.
    #[must_use]
    pub fn in_memory(self, memory_max: u64) -> Self {
        Self {
            memory_max: Some(memory_max),
            ..self
        }
    }

    /// Leaves the processors to what else wants them.
    #[must_use]
    pub fn standing_back(self) -> Self {
        Self {
            stands_back: true,
            ..self
        }
    }

    /// The words of a command that has these bounds, up to its own name. It dies with us: with the
    /// thread that starts it, which for Tokio's workers is the process.
    fn words(&self) -> Args {
        let cpu_s = self.cpu_max.as_secs().max(1);
        let starters = if self.stands_back {
            "--pdeathsig KILL nice -n 10 prlimit --core=0"
        } else {
            "--pdeathsig KILL prlimit --core=0"
        };
        let args = Args::words(starters)
            .arg(format!("--fsize={FILE_BYTES_MAX}"))
            .arg(format!("--cpu={cpu_s}:{}", cpu_s + CPU_GRACE_S));
        match self.memory_max {
            Some(bytes) => args.arg(format!("--as={bytes}")),
            None => args,
        }
    }
}

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
    /// It made no progress for longer than its limit and was killed.
    #[error("{program} stood still for {} s", limit.as_secs())]
    Stalled {
        /// What.
        program: String,
        /// The limit.
        limit: Duration,
    },
    /// It used up its processor time.
    #[error("{program} used more than {} s of processor time", limit.as_secs())]
    CpuUsedUp {
        /// What.
        program: String,
        /// The limit.
        limit: Duration,
    },
    /// It wrote more than [`FILE_BYTES_MAX`].
    #[error("{program} wrote more than {FILE_BYTES_MAX} bytes")]
    FileTooLarge {
        /// What.
        program: String,
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
    bounds: Bounds,
    since: Instant,
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
    pub fn start(
        program: &str,
        dir: &Path,
        args: &Args,
        fed: bool,
        bounds: Bounds,
    ) -> Result<Self, FfmpegError> {
        let child = Command::new(STARTER)
            .args(&bounds.words().0)
            .arg(program)
            .args(&args.0)
            .current_dir(dir)
            .stdin(if fed { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A terminal's ^C is for us; we end the child.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| FfmpegError::Start {
                program: STARTER.to_owned(),
                source,
            })?;
        Ok(Self {
            program: program.to_owned(),
            child,
            bounds,
            since: Instant::now(),
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
        self,
        output_max: usize,
        stop: &CancellationToken,
    ) -> Result<Vec<u8>, FfmpegError> {
        self.end(Reading::Keep(output_max), stop).await
    }

    /// Waits for its end; `line` is given each line of its standard output.
    pub async fn lines(
        self,
        line: &mut (dyn FnMut(&str) + Send),
        stop: &CancellationToken,
    ) -> Result<(), FfmpegError> {
        self.end(Reading::Lines(line), stop).await.map(drop)
    }

    /// Waits for the end of an ffmpeg that was started with [`telling`]; `tell` hears how far it is
    /// twice a second.
    pub async fn watch(
        self,
        tell: &(dyn Fn(Moment) + Sync),
        stop: &CancellationToken,
    ) -> Result<(), FfmpegError> {
        self.end(Reading::Progress(tell), stop).await.map(drop)
    }

    async fn end(
        mut self,
        reading: Reading<'_>,
        stop: &CancellationToken,
    ) -> Result<Vec<u8>, FfmpegError> {
        let (out, err) = (self.child.stdout.take(), self.child.stderr.take());
        let (program, bounds) = (self.program.clone(), self.bounds);
        let work = async {
            let said = async { Ok(read_last(err).await) };
            let (output, said) =
                tokio::try_join!(read(&program, bounds.stall_max, out, reading), said)?;
            Ok((output, said, self.child.wait().await))
        };
        let done = tokio::select! {
            done = work => done,
            () = tokio::time::sleep_until(self.since + bounds.wall_max) => {
                Err(FfmpegError::TimedOut { program: program.clone(), limit: bounds.wall_max })
            }
            () = stop.cancelled() => Err(FfmpegError::Stopped),
        };
        match done? {
            (output, _, Ok(status)) if status.success() => Ok(output),
            (_, said, Ok(status)) => Err(self.failed(status, said)),
            (_, _, Err(source)) => Err(FfmpegError::Start { program, source }),
        }
    }

    /// Why a child ended as it did. ffmpeg ends by itself when it is told that its processor time
    /// is over, so that what it answers then is believed only after it had time to use it up.
    fn failed(self, status: ExitStatus, said: String) -> FfmpegError {
        let program = self.program;
        let cpus = std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u32);
        let had_time = self.since.elapsed().saturating_mul(cpus) >= self.bounds.cpu_max;
        let limit = self.bounds.cpu_max;
        match (status.code(), status.signal()) {
            (Some(code), _) if EXIT_NOT_STARTED.contains(&code) || unbounded(&said) => {
                FfmpegError::Start {
                    program,
                    source: io::Error::other(said),
                }
            }
            (_, Some(SIGXCPU)) => FfmpegError::CpuUsedUp { program, limit },
            (Some(EXIT_SIGNALLED), _) | (_, Some(SIGKILL)) if had_time => {
                FfmpegError::CpuUsedUp { program, limit }
            }
            (_, Some(SIGXFSZ)) => FfmpegError::FileTooLarge { program },
            (_, _) if said.is_empty() => FfmpegError::Failed {
                program,
                said: status.to_string(),
            },
            (_, _) => FfmpegError::Failed { program, said },
        }
    }
}

/// Whether a bound could not be set, as where the machine's own is lower and fixed: the input is not
/// to blame.
fn unbounded(said: &str) -> bool {
    ["setpriv: ", "prlimit: "]
        .iter()
        .any(|name| said.starts_with(name))
}

/// Arguments that make ffmpeg tell how far it is.
pub fn telling() -> Args {
    Args::words("-progress pipe:1")
}

/// Starts ffmpeg with `args` and [`telling`], and waits for its end.
pub async fn run(
    program: &str,
    dir: &Path,
    args: &Args,
    bounds: Bounds,
    tell: &(dyn Fn(Moment) + Sync),
    stop: &CancellationToken,
) -> Result<(), FfmpegError> {
    let running = Running::start(program, dir, &telling().with(args), false, bounds)?;
    running.watch(tell, stop).await
}

#[cfg(test)]
mod tests;
