//! Pictures: from a fetched file to pixels.
//!
//! Guarantee: what a file is, is told from its bytes; its size is known and within the limits before
//! a pixel is decoded; a decoder that panics or an AVIF that hangs spoils its own item only; each
//! refusal has its code and a sentence that says what to do. AVIF goes through ffmpeg: its frames
//! alone, as IVF, which can name no other file.
//!
//! Not for: fetching, and what is done with the pixels.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::time::Duration;

use photofinish_model::Code;
use photofinish_render::decode::avif::{Coding, Sheet, Still};
use photofinish_render::decode::{self, DecodeError, Kind, RgbImage};
use tokio_util::sync::CancellationToken;

use super::studio::encode_fault;
use crate::error::Halt;
use crate::media::ffmpeg::{Args, Bounds, FfmpegError, Running};

/// Seconds that AVIF's frames may take: the largest take a tenth of it.
const AVIF_LIMIT: Duration = Duration::from_secs(60);
/// Address space of ffmpeg for the largest AVIF: some frames of 100 Mpx, its threads' stacks.
const AVIF_MEMORY_BYTES_MAX: u64 = 6 * 1024 * 1024 * 1024;

/// What reading a file gives.
enum Read {
    Ready(RgbImage),
    Avif(Still),
}

/// Who decodes AVIF, and where.
#[derive(Debug, Clone, Copy)]
pub struct Darkroom<'a> {
    /// The ffmpeg program.
    pub ffmpeg: &'a str,
    /// The item's private directory.
    pub dir: &'a Path,
    /// Ends the work.
    pub stop: &'a CancellationToken,
}

impl Darkroom<'_> {
    /// The upright sRGB picture of the file `name` in the directory; transparent parts are black.
    pub async fn develop(&self, name: &str) -> Result<RgbImage, Halt> {
        let path = self.dir.join(name);
        match blocking(move || read(&path)).await? {
            Read::Ready(picture) => Ok(picture),
            Read::Avif(still) => self.avif(still).await,
        }
    }

    async fn avif(&self, still: Still) -> Result<RgbImage, Halt> {
        let filter = colour_filter(still.coding);
        let colour = self.frames(&still.colour, "colour", &filter, "rgb24", 3);
        let colour = colour.await?;
        let alpha = match &still.alpha {
            // Luma as it is, whatever range it says.
            Some(sheet) => {
                let filter = "extractplanes=y,format=gray";
                Some(self.frames(sheet, "alpha", filter, "gray", 1).await?)
            }
            None => None,
        };
        blocking(move || {
            let picture = still.assemble(colour, alpha);
            picture.map_err(|error| fault(&error))
        })
        .await
    }

    /// The decoded tiles of a sheet one after the other, `each` bytes a pixel.
    async fn frames(
        &self,
        sheet: &Sheet,
        name: &str,
        filter: &str,
        format: &str,
        each: u64,
    ) -> Result<Vec<u8>, Halt> {
        let tile = u64::from(sheet.tile_width) * u64::from(sheet.tile_height);
        let (coded, raw) = (format!("{name}.ivf"), format!("{name}.raw"));
        let (from, to) = (self.dir.join(&coded), self.dir.join(&raw));
        let written = tokio::fs::write(&from, sheet.ivf()).await;
        written.map_err(|error| internal(&error))?;
        // A frame that is larger than its container says is not decoded at all.
        let args = Args::words("-hide_banner -nostats -loglevel error -y")
            .and("-protocol_whitelist file,pipe -f ivf")
            .and(&format!("-max_pixels {tile}"))
            .arg("-i")
            .arg(format!("file:{coded}"))
            .and(&format!(
                "-frames:v {} -fps_mode passthrough",
                sheet.tiles()
            ))
            .arg("-vf")
            .arg(OsString::from(filter))
            .and(&format!("-pix_fmt {format} -f rawvideo"))
            .arg(format!("file:{raw}"));
        let bounds = Bounds::of(AVIF_LIMIT).in_memory(AVIF_MEMORY_BYTES_MAX);
        let run = match Running::start(self.ffmpeg, self.dir, &args, false, bounds) {
            Ok(running) => running.finish(0, self.stop).await,
            Err(error) => Err(error),
        };
        run.map_err(avif_fault)?;
        let wanted = tile * sheet.tiles() as u64 * each;
        let pixels = blocking(move || {
            let found = std::fs::metadata(&to).map_err(|error| internal(&error))?;
            if found.len() != wanted {
                return Err(fault(&damaged(format!(
                    "{} bytes of {wanted}",
                    found.len()
                ))));
            }
            let pixels = std::fs::read(&to).map_err(|error| internal(&error))?;
            for file in [from, to] {
                std::fs::remove_file(file).map_err(|error| internal(&error))?;
            }
            Ok(pixels)
        });
        pixels.await
    }
}

fn read(path: &Path) -> Result<Read, Halt> {
    let bytes = std::fs::read(path).map_err(|error| internal(&error))?;
    let read = match Kind::of(&bytes) {
        Ok(Kind::Avif) => Still::read(&bytes).map(Read::Avif),
        Ok(Kind::Jpeg | Kind::Png | Kind::WebP | Kind::Gif) | Err(_) => {
            decode::decode(&bytes).map(Read::Ready)
        }
    };
    read.map_err(|error| fault(&error))
}

/// Runs work on a picture that blocks; one that panics is a fault of its picture.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Halt> + Send + 'static,
) -> Result<T, Halt> {
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

/// To RGB with the matrix and range that the file names, else with those that its frames name.
fn colour_filter(coding: Option<Coding>) -> String {
    let filter = "scale=flags=accurate_rnd+full_chroma_int+full_chroma_inp+bicubic";
    // 0 is RGB already; what is not named here nobody uses for stills, or says nothing.
    let matrix = match coding.map(|coding| coding.matrix) {
        Some(1) => "bt709",
        Some(4) => "fcc",
        Some(5 | 6) => "bt601",
        Some(7) => "smpte240m",
        Some(9) => "bt2020",
        Some(_) | None => return filter.to_owned(),
    };
    let range = match coding.map(|coding| coding.full_range) {
        Some(true) => "full",
        Some(false) | None => "limited",
    };
    format!("{filter}:in_color_matrix={matrix}:in_range={range}")
}

fn damaged(what: String) -> DecodeError {
    DecodeError::Damaged {
        kind: Kind::Avif,
        source: what.into(),
    }
}

fn avif_fault(error: FfmpegError) -> Halt {
    match error {
        FfmpegError::Stopped | FfmpegError::Start { .. } => encode_fault(&error),
        FfmpegError::Failed { .. }
        | FfmpegError::TimedOut { .. }
        | FfmpegError::Stalled { .. }
        | FfmpegError::CpuUsedUp { .. }
        | FfmpegError::FileTooLarge { .. } => fault(&DecodeError::Damaged {
            kind: Kind::Avif,
            source: error.into(),
        }),
    }
}

fn internal(error: &io::Error) -> Halt {
    tracing::error!(%error, "read a picture");
    Halt::transient(
        Code::InternalError,
        "the worker failed at this picture; the operator has the evidence",
    )
}

/// What a refused picture means to the client.
pub fn fault(error: &DecodeError) -> Halt {
    tracing::info!(%error, cause = ?std::error::Error::source(error), "picture refused");
    match error {
        DecodeError::TooLarge { .. } => {
            Halt::permanent(Code::InputTooLarge, format!("{error}; make it smaller"))
        }
        // It says what to do itself.
        DecodeError::Foreign(_) => Halt::permanent(Code::NotAnImage, error.to_string()),
        DecodeError::CutOff { .. } => Halt::permanent(
            Code::NotAnImage,
            format!("{error}; upload it again, or save it anew as JPEG or PNG"),
        ),
        DecodeError::Damaged { .. } | DecodeError::Rare { .. } => Halt::permanent(
            Code::NotAnImage,
            format!("{error}; save it anew as JPEG or PNG"),
        ),
    }
}

#[cfg(test)]
mod tests;
