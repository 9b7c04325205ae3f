//! img2vid: one picture to one Ken Burns clip.
//!
//! Guarantee: exactly the frames asked for, at exactly the rate asked for, BT.709 limited range,
//! tagged so; a file appears under its name only when it is whole.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use photofinish_contract::attempt_input::PictureItem;
use photofinish_contract::request::Fit;

use super::inputs::Kind;
use super::picture::{self, Darkroom};
use super::studio::{encode_fault, no_encoder};
use super::video::Desk;
use super::{Made, encode};
use crate::error::Halt;
use crate::media::ffmpeg::{self, Args, FfmpegError, Moment, Running};
use crate::media::plan::Plan;
use crate::media::rate::Rate;
use photofinish_render::camera;
use photofinish_render::pump::{self, Shot};
use photofinish_render::stage::Stage;

/// The pipe to ffmpeg: what an unprivileged process may ask for.
const PIPE_BYTES: usize = 1024 * 1024;

/// What a clip is to be.
#[derive(Debug, Clone, Copy)]
pub struct ClipFormat {
    /// Frames per second.
    pub rate: Rate,
    /// Pixels, even.
    pub width: u32,
    /// Pixels, even.
    pub height: u32,
    /// How pictures of another shape are fitted.
    pub fit: Fit,
    /// Clips of the part, for sharing the processors,
    pub items: usize,
    /// and which of them this is, from 0.
    pub nth: usize,
}

/// Makes the clip of one picture at `out`.
pub async fn clip(
    desk: Desk<'_>,
    format: ClipFormat,
    item: &PictureItem,
    out: &Path,
) -> Result<Made, Halt> {
    let Desk { studio, stop, .. } = desk;
    desk.fetch(Kind::Image, &item.image_url, "image").await?;
    let _slot = studio.slot(stop).await?;
    let begun = Instant::now();
    let threads = studio.threads(format.nth, format.items);
    // Before the turn, so that no session of the GPU's waits for it, and once for a second turn too.
    let shot = Arc::new(set_up(desk, format, item).await?);
    let size = (format.width, format.height);
    let turn = studio.encoders.turn(size, threads, stop).await;
    let mut turn = turn.map_err(|error| no_encoder(&error))?;
    let part = encode::part_of(out);
    let done = loop {
        let args = encode_args(format, &turn.plan).arg(&part);
        let done = pump_into(desk, format, &shot, &args, threads).await;
        match studio.encoders.next(&turn, threads, &done) {
            Some(rescue) => turn = rescue,
            None => break done,
        }
    };
    done.map_err(|error| encode_fault(&error))?;
    encode::keep(&part, out).await?;
    Ok(Made {
        duration_s: format.rate.seconds(shot.frames),
        encoder: Some(turn.plan.encoder()),
        took: begun.elapsed(),
    })
}

async fn set_up(desk: Desk<'_>, format: ClipFormat, item: &PictureItem) -> Result<Shot, Halt> {
    let room = Darkroom {
        ffmpeg: &desk.studio.settings.ffmpeg,
        dir: desk.dir,
        stop: desk.stop,
    };
    let picture = room.develop("image").await?;
    let (motion, frames) = (item.motion, item.frames.max(1));
    picture::blocking(move || {
        let zoom = camera::zoom_max(&motion);
        let stage = Stage::set(&picture, format.width, format.height, format.fit, zoom);
        Ok(Shot {
            stage,
            motion,
            frames,
        })
    })
    .await
}

/// Films the shot into ffmpeg; an error as well when it did not encode every frame.
async fn pump_into(
    desk: Desk<'_>,
    format: ClipFormat,
    shot: &Arc<Shot>,
    args: &Args,
    threads: usize,
) -> Result<(), FfmpegError> {
    let program = &desk.studio.settings.ffmpeg;
    let frames = shot.frames;
    let bounds = desk.studio.encode_bounds(format.rate.seconds(frames));
    let args = ffmpeg::telling().with(args);
    let mut running = Running::start(program, desk.dir, &args, true, bounds)?;
    let mut pipe = running.take_input().map_err(|source| FfmpegError::Start {
        program: program.clone(),
        source,
    })?;
    // A larger pipe saves changes of context; where it is refused, all works as well.
    let _refused = rustix::pipe::fcntl_setpipe_size(&pipe, PIPE_BYTES);
    // Ends the filming as well when this future is dropped or the encoder is gone.
    let filming = desk.stop.child_token();
    let _guard = filming.clone().drop_guard();
    let shot = Arc::clone(shot);
    let pumping =
        tokio::task::spawn_blocking(move || pump::pump(&shot, threads, &mut pipe, &filming));
    let encoded = AtomicU64::new(0);
    let tell = |moment: Moment| {
        encoded.store(moment.frames, Ordering::Relaxed);
        desk.progress.set(moment.frames as f64 / f64::from(frames));
    };
    // First the encoder: when it fails, the pump sees a broken pipe, which says nothing.
    running.watch(&tell, desk.stop).await?;
    let pumped = pumping
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)));
    let failed = |program: &str, said| FfmpegError::Failed {
        program: program.to_owned(),
        said,
    };
    pumped.map_err(|error| failed("the renderer", error.to_string()))?;
    match encoded.into_inner() {
        all if all == u64::from(frames) => Ok(()),
        some => Err(failed(
            program,
            format!("{some} of {frames} frames encoded"),
        )),
    }
}

fn encode_args(format: ClipFormat, plan: &Plan) -> Args {
    let ClipFormat {
        rate,
        width,
        height,
        ..
    } = format;
    let colour = "-color_range tv -colorspace bt709 -color_primaries bt709 -color_trc bt709";
    Args::words("-hide_banner -nostats -loglevel error -y -protocol_whitelist file,pipe")
        .and("-f rawvideo -pix_fmt yuv420p")
        .and(&format!(
            "-video_size {width}x{height} -framerate {rate} {colour}"
        ))
        .and("-i pipe:0 -an")
        .with(&plan.sized((width, height)).args())
        .and(colour)
        .and("-chroma_sample_location left -movflags +faststart -f mp4")
}
