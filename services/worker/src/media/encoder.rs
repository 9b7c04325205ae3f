//! Which H.264 encoder this process uses: found by a trial, given up when it keeps failing, tried
//! again later.
//!
//! Nouns: a [`Turn`] is one run of an encoder with its plan; a rescue is the turn of the CPU's
//! encoder after the GPU's has failed at the same work.
//!
//! Guarantee: an encoder is only chosen when it has just encoded something here; what the GPU's
//! fails at goes to the CPU's at once; no more sessions of the GPU's encoder than allowed are open.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use super::ffmpeg::{Args, Bounds, FfmpegError, Running};
pub use super::plan::{Encoder, Plan};

const TRIAL_LIMIT: Duration = Duration::from_secs(20);
/// Failures in a row, each made good by the CPU, after which the GPU's encoder is given up. One may
/// be the input's peculiarity, two a coincidence.
const GPU_FAILURES_MAX: u32 = 3;
/// How long the GPU's encoder rests before it is tried again. A trial costs a tenth of a second.
const TRY_AGAIN_AFTER: Duration = Duration::from_mins(10);

/// Which encoder to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// The GPU's if it works, else the CPU's.
    Auto,
    /// The GPU's, or none.
    Nvenc,
    /// The CPU's.
    X264,
}

/// The encoders of this process.
#[derive(Debug)]
pub struct Encoders {
    program: String,
    choice: Choice,
    sessions: Semaphore,
    tried: OnceCell<()>,
    standing: Mutex<Standing>,
}

/// One run of an encoder.
#[derive(Debug)]
pub struct Turn<'a> {
    /// How it encodes.
    pub plan: Plan,
    rescue: bool,
    _session: Option<SemaphorePermit<'a>>,
}

/// What is known of the GPU's encoder, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Standing {
    gpu: Gpu,
    failed_in_a_row: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gpu {
    InUse,
    Resting { until: Instant },
    NotWanted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pick {
    Gpu,
    Cpu,
    /// The GPU's if a trial succeeds; nobody else is asked to try meanwhile.
    Try,
}

impl Standing {
    fn pick(&mut self, now: Instant) -> Pick {
        match self.gpu {
            Gpu::InUse => Pick::Gpu,
            Gpu::Resting { until } if now >= until => {
                self.rest(now);
                Pick::Try
            }
            Gpu::Resting { .. } | Gpu::NotWanted => Pick::Cpu,
        }
    }

    fn works(&mut self) {
        *self = Self {
            gpu: Gpu::InUse,
            failed_in_a_row: 0,
        };
    }

    fn rest(&mut self, now: Instant) {
        self.gpu = Gpu::Resting {
            until: now + TRY_AGAIN_AFTER,
        };
    }

    /// The CPU made what the GPU had failed at. True when the GPU's encoder is given up with this.
    fn failed(&mut self, now: Instant) -> bool {
        self.failed_in_a_row += 1;
        let given_up = self.gpu == Gpu::InUse && self.failed_in_a_row >= GPU_FAILURES_MAX;
        if given_up {
            self.rest(now);
        }
        given_up
    }
}

impl Encoders {
    /// Encoders of the ffmpeg `program`; at most `sessions_max` runs of the GPU's at once. Nothing
    /// is tried yet.
    pub fn new(program: &str, choice: Choice, sessions_max: usize) -> Self {
        Self {
            program: program.to_owned(),
            choice,
            sessions: Semaphore::new(sessions_max.max(1)),
            tried: OnceCell::new(),
            standing: Mutex::new(Standing {
                gpu: Gpu::NotWanted,
                failed_in_a_row: 0,
            }),
        }
    }

    /// The encoder in use; the first call tries, and so does one call after a rest.
    pub async fn current(&self) -> Result<Encoder, FfmpegError> {
        self.tried.get_or_try_init(|| self.find()).await?;
        let pick = self.standing().pick(Instant::now());
        match pick {
            Pick::Gpu => Ok(Encoder::Nvenc),
            Pick::Cpu => Ok(Encoder::X264),
            Pick::Try => match trial(&self.program, Encoder::Nvenc).await {
                Ok(()) => {
                    self.standing().works();
                    say(Encoder::Nvenc);
                    Ok(Encoder::Nvenc)
                }
                Err(error) => {
                    tracing::info!(%error, "the GPU's encoder still does not work");
                    Ok(Encoder::X264)
                }
            },
        }
    }

    /// The first turn at a piece of work on pictures of this size; waits for a session of the GPU's
    /// encoder. `threads` is for encoders on the CPU.
    pub async fn turn(
        &self,
        picture: (u32, u32),
        threads: usize,
        stop: &CancellationToken,
    ) -> Result<Turn<'_>, FfmpegError> {
        // A trial that hangs is not waited for either.
        let mut encoder = tokio::select! {
            found = self.current() => found?,
            () = stop.cancelled() => return Err(FfmpegError::Stopped),
        };
        if self.choice == Choice::Auto && !encoder.takes(picture) {
            encoder = Encoder::X264;
        }
        let session = match encoder {
            Encoder::X264 => None,
            Encoder::Nvenc => tokio::select! {
                // The semaphore is never closed.
                session = self.sessions.acquire() => session.ok(),
                () = stop.cancelled() => return Err(FfmpegError::Stopped),
            },
        };
        Ok(Turn {
            plan: Plan::new(encoder, threads),
            rescue: false,
            _session: session,
        })
    }

    /// What follows a turn that ended so: another turn at the same work, or nothing.
    pub fn next(
        &self,
        turn: &Turn<'_>,
        threads: usize,
        done: &Result<(), FfmpegError>,
    ) -> Option<Turn<'static>> {
        let encoder = turn.plan.encoder();
        let outcome = match done {
            Ok(()) => "made",
            Err(FfmpegError::Stopped) => return None,
            Err(_) => "failed",
        };
        metrics::counter!("photofinish_worker_encodes_total",
            "encoder" => encoder.as_str(), "outcome" => outcome)
        .increment(1);
        match (encoder, done) {
            (Encoder::Nvenc, Ok(())) => self.standing().failed_in_a_row = 0,
            (Encoder::Nvenc, Err(error)) if self.choice == Choice::Auto && may_rescue(error) => {
                tracing::warn!(%error, "the GPU's encoder failed; the CPU's does this item");
                return Some(Turn {
                    plan: Plan::new(Encoder::X264, threads),
                    rescue: true,
                    _session: None,
                });
            }
            (Encoder::X264, Ok(())) if turn.rescue => {
                // Only now is it known that the work was not to blame.
                if self.standing().failed(Instant::now()) {
                    tracing::error!(
                        failures = GPU_FAILURES_MAX,
                        "THE GPU'S ENCODER IS GIVEN UP: it keeps failing at what the CPU can do"
                    );
                    say(Encoder::X264);
                }
            }
            (Encoder::Nvenc | Encoder::X264, Ok(()) | Err(_)) => {}
        }
        None
    }

    /// The first trial.
    async fn find(&self) -> Result<(), FfmpegError> {
        if self.choice != Choice::X264 {
            match trial(&self.program, Encoder::Nvenc).await {
                Ok(()) => {
                    self.standing().works();
                    say(Encoder::Nvenc);
                    return Ok(());
                }
                Err(error) if self.choice == Choice::Nvenc => return Err(error),
                Err(error) => {
                    tracing::info!(%error, "the GPU's encoder does not work here");
                    self.standing().rest(Instant::now());
                }
            }
        }
        trial(&self.program, Encoder::X264).await?;
        say(Encoder::X264);
        Ok(())
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        // Plain data, whole after each line: a panic elsewhere does not spoil it.
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether another encoder may do better.
fn may_rescue(error: &FfmpegError) -> bool {
    match error {
        FfmpegError::Failed { .. } | FfmpegError::TimedOut { .. } | FfmpegError::Stalled { .. } => {
            true
        }
        FfmpegError::Start { .. }
        | FfmpegError::CpuUsedUp { .. }
        | FfmpegError::FileTooLarge { .. }
        | FfmpegError::Stopped => false,
    }
}

/// Says, in the log and in a metric, which encoder is in use from now on.
fn say(encoder: Encoder) {
    for any in Encoder::ALL {
        let in_use = if any == encoder { 1.0 } else { 0.0 };
        metrics::gauge!("photofinish_worker_encoder_info", "encoder" => any.as_str()).set(in_use);
    }
    match encoder {
        Encoder::Nvenc => tracing::info!(encoder = encoder.as_str(), "encoding on the GPU"),
        Encoder::X264 => tracing::warn!(
            encoder = encoder.as_str(),
            "ENCODING ON THE CPU: no NVENC answered, a rented GPU would be wasted here"
        ),
    }
}

/// Encodes a few frames of grey.
pub async fn trial(program: &str, encoder: Encoder) -> Result<(), FfmpegError> {
    let args = Args::words("-hide_banner -nostdin -loglevel error")
        .and("-f lavfi -i color=gray:s=256x256:r=30:d=0.1")
        .with(&Plan::new(encoder, 1).args())
        .and("-f null -");
    // The first job is taken and answered meanwhile.
    let (bounds, root) = (Bounds::of(TRIAL_LIMIT).standing_back(), Path::new("/"));
    let running = Running::start(program, root, &args, false, bounds)?;
    running.finish(0, &CancellationToken::new()).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_failure_in_a_row_gives_the_gpu_up_and_a_later_trial_brings_it_back() {
        let now = Instant::now();
        let mut standing = Standing {
            gpu: Gpu::InUse,
            failed_in_a_row: 0,
        };
        assert!(!standing.failed(now) && !standing.failed(now));
        // A success in between begins the row anew.
        standing.failed_in_a_row = 0;
        assert!(!standing.failed(now) && !standing.failed(now));
        assert_eq!(standing.pick(now), Pick::Gpu);
        assert!(standing.failed(now));
        assert!(!standing.failed(now), "it is given up only once");
        assert_eq!(standing.pick(now), Pick::Cpu);
        let later = now + TRY_AGAIN_AFTER;
        assert_eq!(standing.pick(later), Pick::Try);
        assert_eq!(standing.pick(later), Pick::Cpu, "one tries for all");
        standing.works();
        assert_eq!(standing.pick(later), Pick::Gpu);
        assert!(!standing.failed(later), "the row begins anew");
    }

    #[test]
    fn an_encoder_that_nobody_wants_is_never_tried() {
        let mut standing = Standing {
            gpu: Gpu::NotWanted,
            failed_in_a_row: 0,
        };
        assert_eq!(standing.pick(Instant::now() + TRY_AGAIN_AFTER), Pick::Cpu);
    }
}
