//! The studio: what all work of this process shares (programs, limits, encoder, slots).
//!
//! Guarantee: at most `batch` items are encoded at once in the whole process, whatever the number
//! of jobs; a free slot is taken by whoever waits longest.

use std::time::Duration;

use photofinish_model::Code;
use photofinish_outbound::Outbound;
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use super::inputs::InputLimits;
use crate::error::Halt;
use crate::media::encoder::{self, Choice, Encoder};
use crate::media::ffmpeg::FfmpegError;

/// What a studio is made of.
#[derive(Debug, Clone)]
pub struct StudioSettings {
    /// The ffmpeg program.
    pub ffmpeg: String,
    /// The ffprobe program.
    pub ffprobe: String,
    /// Which encoder.
    pub encoder: Choice,
    /// Items encoded at once, at least 1.
    pub batch: usize,
    /// Processors that may be used, at least 1.
    pub cpus: usize,
    /// Caps of inputs.
    pub inputs: InputLimits,
    /// An encode may take this long, and
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
    encoder: OnceCell<Encoder>,
    slots: Semaphore,
}

impl Studio {
    /// A studio; the encoder is tried at the first [`Studio::encoder`].
    pub fn new(settings: StudioSettings, outbound: Outbound) -> Self {
        let slots = Semaphore::new(settings.batch.max(1));
        Self {
            settings,
            outbound,
            encoder: OnceCell::new(),
            slots,
        }
    }

    /// The encoder of this machine; the first call tries.
    pub async fn encoder(&self) -> Result<Encoder, FfmpegError> {
        let found = self
            .encoder
            .get_or_try_init(|| encoder::find(&self.settings.ffmpeg, self.settings.encoder));
        found.await.copied()
    }

    /// A slot for one encode.
    pub(crate) async fn slot(&self, stop: &CancellationToken) -> Result<SemaphorePermit<'_>, Halt> {
        tokio::select! {
            permit = self.slots.acquire() => permit.map_err(|_| Halt::Stopped),
            () = stop.cancelled() => Err(Halt::Stopped),
        }
    }

    /// Threads for one of `items` items that are worked on at the same time.
    pub(crate) fn threads(&self, items: usize) -> usize {
        let at_once = self.settings.batch.clamp(1, items.max(1));
        self.settings.cpus.div_ceil(at_once).max(1)
    }

    /// How long an encode of so many seconds may take.
    pub(crate) fn encode_limit(&self, seconds: f64) -> Duration {
        let seconds = Duration::try_from_secs_f64(seconds)
            .unwrap_or_default()
            .as_secs()
            + 1;
        let more = u32::try_from(seconds).unwrap_or(u32::MAX);
        self.settings.encode_timeout_base
            + self.settings.encode_timeout_per_second.saturating_mul(more)
    }
}

/// What a failed encode means to the client; the details stay in the log.
pub(crate) fn encode_fault(error: &FfmpegError) -> Halt {
    match error {
        FfmpegError::Stopped => Halt::Stopped,
        FfmpegError::TimedOut { limit, .. } => {
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
        FfmpegError::Failed { .. } => {
            tracing::warn!(%error, "encode");
            Halt::transient(
                Code::RenderFailed,
                "encoding failed; if it fails again, check that the input plays to its end",
            )
        }
    }
}
