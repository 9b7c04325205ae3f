//! The studio: what all work of this process shares (programs, limits, encoder, slots).
//!
//! Guarantee: at most `batch` items are encoded at once in the whole process, whatever the number
//! of jobs; a free slot is taken by whoever waits longest.

use std::time::Duration;

use photofinish_model::Code;
use photofinish_outbound::Outbound;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use super::inputs::InputLimits;
use crate::error::Halt;
use crate::media::encoder::{Choice, Encoder, Encoders};
use crate::media::ffmpeg::{Bounds, FILE_BYTES_MAX, FfmpegError};

/// How ffmpeg, which speaks no other language, says that nothing more can be written.
const DISK_FULL: &str = "No space left on device";

/// What a studio is made of.
#[derive(Debug, Clone)]
pub struct StudioSettings {
    /// The ffmpeg program.
    pub ffmpeg: String,
    /// The ffprobe program.
    pub ffprobe: String,
    /// Which encoder.
    pub encoder: Choice,
    /// Runs of the GPU's encoder at once, at least 1.
    pub nvenc_sessions: usize,
    /// Items encoded at once, at least 1.
    pub batch: usize,
    /// Processors that may be used, at least 1.
    pub cpus: usize,
    /// Caps of inputs.
    pub inputs: InputLimits,
    /// An encode may take this long, and stand still for so long, and
    pub encode_timeout_base: Duration,
    /// this much longer for each second of its output.
    pub encode_timeout_per_second: Duration,
}

/// What all work of this process shares.
#[derive(Debug)]
pub struct Studio {
    /// As given.
    pub settings: StudioSettings,
    /// For inputs.
    pub outbound: Outbound,
    /// Which encoder does the next piece of work.
    pub encoders: Encoders,
    slots: Semaphore,
}

impl Studio {
    /// A studio; the encoder is tried at the first [`Studio::encoder`].
    pub fn new(settings: StudioSettings, outbound: Outbound) -> Self {
        let slots = Semaphore::new(settings.batch.max(1));
        let sessions = settings.nvenc_sessions;
        let encoders = Encoders::new(&settings.ffmpeg, settings.encoder, sessions);
        Self {
            settings,
            outbound,
            encoders,
            slots,
        }
    }

    /// The encoder of this machine; the first call tries.
    pub async fn encoder(&self) -> Result<Encoder, FfmpegError> {
        self.encoders.current().await
    }

    /// A slot for one encode.
    pub(crate) async fn slot(&self, stop: &CancellationToken) -> Result<SemaphorePermit<'_>, Halt> {
        tokio::select! {
            permit = self.slots.acquire() => permit.map_err(|_| Halt::Stopped),
            () = stop.cancelled() => Err(Halt::Stopped),
        }
    }

    /// Threads for item `nth` (from 0) of `items`. They go in rounds of `batch`; those of the last
    /// round, which may be few, share all processors. (An encoder cannot be given threads later on.)
    pub(crate) fn threads(&self, nth: usize, items: usize) -> usize {
        let (batch, items) = (self.settings.batch.max(1), items.max(1));
        let last_round = (items - 1) % batch + 1;
        let at_once = if nth + last_round >= items {
            last_round
        } else {
            batch
        };
        self.settings.cpus.div_ceil(at_once).max(1)
    }

    /// What an encode of so many seconds may use.
    pub(crate) fn encode_bounds(&self, seconds: f64) -> Bounds {
        let seconds = Duration::try_from_secs_f64(seconds)
            .unwrap_or_default()
            .as_secs()
            + 1;
        let more = u32::try_from(seconds).unwrap_or(u32::MAX);
        let settings = &self.settings;
        let limit =
            settings.encode_timeout_base + settings.encode_timeout_per_second.saturating_mul(more);
        Bounds::of(limit).stalled_after(settings.encode_timeout_base)
    }
}

/// What it means to the client that there is no encoder.
pub(crate) fn no_encoder(error: &FfmpegError) -> Halt {
    if matches!(error, FfmpegError::Stopped) {
        return Halt::Stopped;
    }
    tracing::error!(%error, cause = ?std::error::Error::source(error), "no encoder");
    Halt::transient(
        Code::InternalError,
        "no H.264 encoder works on this worker; the operator has the evidence",
    )
}

/// What a failed encode means to the client; the details stay in the log.
pub(crate) fn encode_fault(error: &FfmpegError) -> Halt {
    match error {
        FfmpegError::Stopped => Halt::Stopped,
        FfmpegError::TimedOut { limit, .. } | FfmpegError::CpuUsedUp { limit, .. } => {
            tracing::warn!(%error, "encode");
            Halt::permanent(
                Code::RenderTimeout,
                format!(
                    "encoding took longer than its limit of {} s; give a shorter or smaller input",
                    limit.as_secs()
                ),
            )
        }
        FfmpegError::Start { source, .. } => {
            tracing::error!(%error, cause = %source, "encode");
            Halt::transient(
                Code::InternalError,
                "the worker could not run its encoder; the operator has the evidence",
            )
        }
        FfmpegError::FileTooLarge { .. } => Halt::permanent(
            Code::InputTooLarge,
            format!("the output would be larger than {FILE_BYTES_MAX} bytes; give a shorter input"),
        ),
        FfmpegError::Failed { said, .. } if said.contains(DISK_FULL) => {
            tracing::error!(%error, "THE DISK IS FULL: make room for outputs");
            Halt::transient(
                Code::InternalError,
                "the disk on which outputs are made is full; the operator has to make room there",
            )
        }
        FfmpegError::Failed { .. } | FfmpegError::Stalled { .. } => {
            tracing::warn!(%error, "encode");
            Halt::transient(
                Code::RenderFailed,
                "encoding failed; if it fails again, check that the input plays to its end",
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use photofinish_outbound::Policy;

    use super::*;
    use crate::media::ffmpeg::{self, Args};

    fn threads(batch: usize, cpus: usize, items: usize) -> Vec<usize> {
        photofinish_runtime::install_crypto();
        let config = crate::config::tests::settings(&[]).config(cpus).unwrap();
        let settings = StudioSettings {
            batch,
            ..config.studio
        };
        let studio = Studio::new(settings, Outbound::new(Policy::default()).unwrap());
        (0..items).map(|nth| studio.threads(nth, items)).collect()
    }

    /// A device that is always full.
    #[tokio::test]
    async fn a_full_disk_is_called_that() {
        let args = Args::words("-v error -y -f lavfi -i color=s=64x64:d=1 -f mp4 /dev/full");
        let (stop, root) = (CancellationToken::new(), std::path::Path::new("/"));
        let bounds = Bounds::of(Duration::from_secs(60));
        let done = ffmpeg::run("ffmpeg", root, &args, bounds, &|_| {}, &stop).await;
        let halt = encode_fault(&done.unwrap_err()).to_string();
        assert!(halt.contains("is full"), "{halt}");
    }

    #[test]
    fn the_last_items_share_all_processors() {
        assert_eq!(threads(8, 8, 2), [4, 4]);
        assert_eq!(threads(8, 8, 1), [8]);
        assert_eq!(threads(8, 8, 8), [1; 8]);
        assert_eq!(threads(8, 8, 10), [1, 1, 1, 1, 1, 1, 1, 1, 4, 4]);
        assert_eq!(threads(4, 8, 9), [2, 2, 2, 2, 2, 2, 2, 2, 8]);
        assert_eq!(threads(2, 1, 3), [1, 1, 1]);
        assert_eq!(threads(5, 8, 3), [3, 3, 3]);
    }
}
