//! Encodes: ffmpeg with the encoder plan of this machine, and work that needs no encoder.
//!
//! Guarantee: an item that the GPU's encoder failed at is encoded again on the CPU before anybody
//! hears of it; a file appears under its name only when it is whole.

use std::path::Path;
use std::time::Instant;

use photofinish_model::Code;

use super::Made;
use super::studio::{encode_fault, no_encoder};
use super::video::Desk;
use crate::error::Halt;
use crate::media::ffmpeg::{self, Args, FfmpegError, Moment};
use crate::media::mp4;
use crate::media::plan::{Encoder, Plan};

/// Arguments of every file that we make.
const MP4: &str = "-map_metadata -1 -sn -dn -movflags +faststart -f mp4";

impl Desk<'_> {
    /// Runs ffmpeg with the arguments that `args` makes of the encoder plan of this machine, and
    /// those of our MP4 files, into `out`, which appears when it is whole. The output's `size` (width
    /// and height in pixels) decides which encoder takes it; its `seconds` set the time limit and
    /// measure progress. Waits for a slot first.
    pub async fn encode(
        &self,
        args: impl Fn(&Plan) -> Args,
        size: (u32, u32),
        out: &Path,
        seconds: f64,
    ) -> Result<Made, Halt> {
        let _slot = self.studio.slot(self.stop).await?;
        let begun = Instant::now();
        // There is no other item: all processors are its own.
        let threads = self.studio.threads(0, 1);
        let encoders = &self.studio.encoders;
        let turn = encoders.turn(size, threads, self.stop).await;
        let mut turn = turn.map_err(|error| no_encoder(&error))?;
        let done = loop {
            let plan = turn.plan.sized(size);
            let done = self.ffmpeg(args(&plan), out, seconds).await;
            match encoders.next(&turn, threads, &done) {
                Some(rescue) => turn = rescue,
                None => break done,
            }
        };
        done.map_err(|error| encode_fault(&error))?;
        self.finish(out, Some(turn.plan.encoder()), begun).await
    }

    /// Runs ffmpeg with `args`, which encode no picture, and those of our MP4 files into `out`;
    /// otherwise like [`Desk::encode`].
    pub async fn remux(&self, args: Args, out: &Path, seconds: f64) -> Result<Made, Halt> {
        let _slot = self.studio.slot(self.stop).await?;
        let begun = Instant::now();
        let done = self.ffmpeg(args, out, seconds).await;
        done.map_err(|error| encode_fault(&error))?;
        self.finish(out, None, begun).await
    }

    async fn ffmpeg(&self, args: Args, out: &Path, seconds: f64) -> Result<(), FfmpegError> {
        let args = args.and(MP4).arg(part_of(out));
        let settings = &self.studio.settings;
        let bounds = self.studio.encode_bounds(seconds);
        let tell = |moment: Moment| self.progress.set(moment.seconds / seconds);
        ffmpeg::run(&settings.ffmpeg, self.dir, &args, bounds, &tell, self.stop).await
    }

    /// Looks at what was made and gives it its name.
    async fn finish(
        &self,
        out: &Path,
        encoder: Option<Encoder>,
        begun: Instant,
    ) -> Result<Made, Halt> {
        let part = part_of(out);
        let duration_s = mp4::duration_s(&part).map_err(|error| {
            tracing::error!(%error, "a finished file is not sound");
            Halt::transient(
                Code::RenderFailed,
                "the finished file is not sound; retry the job",
            )
        })?;
        keep(&part, out).await?;
        Ok(Made {
            duration_s,
            encoder,
            took: begun.elapsed(),
        })
    }
}

/// Where a file is made before it is whole.
pub(crate) fn part_of(out: &Path) -> std::path::PathBuf {
    out.with_extension("part")
}

/// Gives a finished file its name.
pub(super) async fn keep(part: &Path, out: &Path) -> Result<(), Halt> {
    tokio::fs::rename(part, out).await.map_err(|error| {
        tracing::error!(%error, "rename a finished file");
        Halt::transient(Code::InternalError, "the worker could not keep the file")
    })
}
