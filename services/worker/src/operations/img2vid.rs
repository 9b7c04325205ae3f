//! img2vid: one picture to one Ken Burns clip.
//!
//! Guarantee: exactly the frames asked for, at exactly the rate asked for, BT.709 limited range,
//! tagged so; a file appears under its name only when it is whole.

use std::path::Path;

use photofinish_contract::attempt_input::PictureItem;
use photofinish_contract::request::Fit;
use photofinish_model::Code;
use tokio_util::sync::CancellationToken;

use super::Made;
use super::inputs::{self, Kind};
use super::studio::{Studio, encode_fault};
use super::video::keep;
use crate::error::Halt;
use crate::media::encoder::Encoder;
use crate::media::ffmpeg::{Args, FfmpegError, Running};
use photofinish_render::camera;
use photofinish_render::decode::{self, DecodeError};
use photofinish_render::pump::{self, Shot};
use photofinish_render::stage::Stage;

/// What all clips of a part share.
#[derive(Debug, Clone, Copy)]
pub struct ClipFormat {
    /// Frames per second.
    pub frame_rate: f64,
    /// Pixels, even.
    pub width: u32,
    /// Pixels, even.
    pub height: u32,
    /// How pictures of another shape are fitted.
    pub fit: Fit,
    /// Clips that are made at the same time, for sharing the processors.
    pub items: usize,
}

impl ClipFormat {
    /// Seconds of a clip.
    pub fn duration_s(&self, frames: u32) -> f64 {
        f64::from(frames) / self.frame_rate
    }
}

/// Makes the clip of one picture at `out`; `dir` is the item's private directory.
pub async fn clip(
    studio: &Studio,
    format: ClipFormat,
    item: &PictureItem,
    dir: &Path,
    out: &Path,
    stop: &CancellationToken,
) -> Result<Made, Halt> {
    let source = dir.join("image");
    let limits = &studio.settings.inputs;
    inputs::fetch(
        &studio.outbound,
        limits,
        Kind::Image,
        &item.image_url,
        &source,
        stop,
    )
    .await?;
    let _slot = studio.slot(stop).await?;
    let encoder = studio
        .encoder()
        .await
        .map_err(|error| encode_fault(&error))?;
    let shot = set_up(format, item, &source).await?;
    let threads = studio.threads(format.items);
    let limit = studio.encode_limit(format.duration_s(item.frames));
    let part = out.with_extension("part");
    let args = encode_args(format, encoder, threads).arg(&part);
    let encoded = encode(studio, shot, dir, &args, threads, limit, stop).await;
    encoded.map_err(|error| encode_fault(&error))?;
    keep(&part, out).await?;
    Ok(Made {
        duration_s: format.duration_s(item.frames),
    })
}

async fn set_up(format: ClipFormat, item: &PictureItem, source: &Path) -> Result<Shot, Halt> {
    let (source, motion, frames) = (source.to_owned(), item.motion, item.frames.max(1));
    let work = move || {
        let bytes = std::fs::read(&source).map_err(|error| internal(&error))?;
        let picture = decode::decode(&bytes).map_err(|error| not_an_image(&error))?;
        drop(bytes);
        let zoom = camera::zoom_max(&motion);
        let stage = Stage::set(picture, format.width, format.height, format.fit, zoom)
            .map_err(|error| internal(&error))?;
        Ok(Shot {
            stage,
            motion,
            frames,
        })
    };
    // A decoder that panics spoils its own item only.
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| {
            tracing::error!(%error, "decode a picture");
            Err(Halt::permanent(
                Code::NotAnImage,
                "the picture could not be decoded; save it anew as JPEG or PNG",
            ))
        })
}

async fn encode(
    studio: &Studio,
    shot: Shot,
    dir: &Path,
    args: &Args,
    threads: usize,
    limit: std::time::Duration,
    stop: &CancellationToken,
) -> Result<(), FfmpegError> {
    let program = &studio.settings.ffmpeg;
    let mut running = Running::start(program, dir, args, true)?;
    let mut pipe = running.take_input().map_err(|source| FfmpegError::Start {
        program: program.clone(),
        source,
    })?;
    // Ends the filming as well when this future is dropped or the encoder is gone.
    let filming = stop.child_token();
    let _guard = filming.clone().drop_guard();
    let pumping =
        tokio::task::spawn_blocking(move || pump::pump(&shot, threads, &mut pipe, &filming));
    // First the encoder: when it fails, the pump sees a broken pipe, which says nothing.
    running.finish(0, limit, stop).await?;
    let pumped = pumping
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)));
    pumped.map_err(|error| FfmpegError::Failed {
        program: "the renderer".to_owned(),
        said: error.to_string(),
    })
}

fn encode_args(format: ClipFormat, encoder: Encoder, threads: usize) -> Args {
    let ClipFormat {
        frame_rate,
        width,
        height,
        ..
    } = format;
    let colour = "-color_range tv -colorspace bt709 -color_primaries bt709 -color_trc bt709";
    Args::words("-hide_banner -nostats -loglevel error -y -protocol_whitelist file,pipe")
        .and("-f rawvideo -pix_fmt yuv420p")
        .and(&format!(
            "-video_size {width}x{height} -framerate {frame_rate} {colour}"
        ))
        .and("-i pipe:0 -an")
        .with(&encoder.args(threads))
        .and("-pix_fmt yuv420p")
        .and(colour)
        .and("-chroma_sample_location left -movflags +faststart -f mp4")
}

fn internal(error: &dyn std::error::Error) -> Halt {
    tracing::error!(%error, "make a clip");
    Halt::transient(
        Code::InternalError,
        "the worker failed at this picture; the operator has the evidence",
    )
}

fn not_an_image(error: &DecodeError) -> Halt {
    match error {
        DecodeError::TooLarge { .. } => {
            Halt::permanent(Code::InputTooLarge, format!("{error}; make it smaller"))
        }
        DecodeError::Unknown | DecodeError::Damaged { .. } | DecodeError::CutOff => {
            tracing::info!(%error, cause = ?std::error::Error::source(error), "picture refused");
            Halt::permanent(
                Code::NotAnImage,
                format!(
                    "{error}; save it anew as JPEG, PNG, WebP or GIF and check that the address gives the picture itself"
                ),
            )
        }
    }
}
