//! What caption and addaudio have in common: fetched media files, recognised and probed.

use std::path::Path;

use photofinish_model::Code;
use tokio_util::sync::CancellationToken;

use super::Made;
use super::inputs::{self, Kind};
use super::studio::{Studio, encode_fault};
use crate::error::Halt;
use crate::media::container::Container;
use crate::media::ffmpeg::{self, Args, FfmpegError};
use crate::media::probe::{Facts, Probe, ProbeError, Stream};

/// Header and packet lists of a local file take no longer.
const PROBE_LIMIT: std::time::Duration = std::time::Duration::from_secs(120);
/// Pixels of either side of a video.
const SIDE_PX_MAX: u32 = 8192;

/// The private directory of one item and how work in it is ended.
#[derive(Debug, Clone, Copy)]
pub struct Desk<'a> {
    /// What everything shares.
    pub studio: &'a Studio,
    /// The item's private directory.
    pub dir: &'a Path,
    /// Ends the work.
    pub stop: &'a CancellationToken,
}

/// A file in the directory that was recognised.
#[derive(Debug)]
pub struct Media {
    /// Its name in the directory.
    pub name: &'static str,
    /// What it is.
    pub container: Container,
    /// What its header says.
    pub facts: Facts,
}

impl Media {
    /// The arguments that make it ffmpeg's next input.
    pub fn input(&self) -> Args {
        Args::words("-protocol_whitelist file,pipe -f")
            .arg(self.container.demuxer())
            .arg("-i")
            .arg(format!("file:{}", self.name))
    }
}

impl<'a> Desk<'a> {
    /// ffprobe on files of this directory.
    pub fn probe(&self) -> Probe<'a> {
        Probe {
            program: &self.studio.settings.ffprobe,
            dir: self.dir,
            limit: PROBE_LIMIT,
            stop: self.stop,
        }
    }

    /// Fetches and recognises a video or an audio file.
    pub async fn media(&self, kind: Kind, url: &str, name: &'static str) -> Result<Media, Halt> {
        let path = self.dir.join(name);
        let limits = &self.studio.settings.inputs;
        inputs::fetch(&self.studio.outbound, limits, kind, url, &path, self.stop).await?;
        let container = Container::of_file(&path).await.ok().flatten();
        let container = container.ok_or_else(|| unusable(kind, "it has no format that we read"))?;
        match self.probe().facts(name, container).await {
            Ok(facts) => Ok(Media {
                name,
                container,
                facts,
            }),
            Err(error) => Err(probe_fault(kind, &error)),
        }
    }

    /// Fetches a video and finds its picture.
    pub async fn video(&self, url: &str) -> Result<(Media, Stream), Halt> {
        let media = self.media(Kind::Video, url, "video").await?;
        let stream = media.facts.video().cloned();
        let stream = stream.ok_or_else(|| unusable(Kind::Video, "it has no moving picture"))?;
        let (width, height) = (stream.width, stream.height);
        if width == 0 || height == 0 || width > SIDE_PX_MAX || height > SIDE_PX_MAX {
            let why = format!("its picture is {width}x{height}, at most {SIDE_PX_MAX} a side");
            return Err(unusable(Kind::Video, &why));
        }
        Ok((media, stream))
    }
}

impl Desk<'_> {
    /// Runs ffmpeg with `args` and the arguments of our MP4 files into `out`, which appears when it
    /// is whole; `seconds` sets the time limit.
    pub async fn encode(&self, args: Args, out: &Path, seconds: f64) -> Result<Made, Halt> {
        let part = out.with_extension("part");
        let args = args
            .and("-map_metadata -1 -sn -dn -movflags +faststart -f mp4")
            .arg(&part);
        let (program, limit) = (
            &self.studio.settings.ffmpeg,
            self.studio.encode_limit(seconds),
        );
        let run = ffmpeg::run(program, self.dir, &args, limit, self.stop).await;
        run.map_err(|error| encode_fault(&error))?;
        let facts = self
            .probe()
            .facts(&part.to_string_lossy(), Container::Mov)
            .await;
        let duration_s = facts
            .ok()
            .and_then(|facts| facts.duration_s())
            .ok_or_else(|| {
                tracing::error!("a finished file cannot be probed");
                Halt::transient(
                    Code::RenderFailed,
                    "the finished file is not sound; retry the job",
                )
            })?;
        keep(&part, out).await?;
        Ok(Made { duration_s })
    }
}

/// Gives a finished file its name.
pub async fn keep(part: &Path, out: &Path) -> Result<(), Halt> {
    tokio::fs::rename(part, out).await.map_err(|error| {
        tracing::error!(%error, "rename a finished file");
        Halt::transient(Code::InternalError, "the worker could not keep the file")
    })
}

/// What a failed probe means to the client.
pub fn probe_fault(kind: Kind, error: &ProbeError) -> Halt {
    match error {
        ProbeError::Ffprobe(FfmpegError::Stopped) => Halt::Stopped,
        ProbeError::Ffprobe(FfmpegError::Start { .. }) => {
            tracing::error!(%error, cause = ?error, "probe");
            Halt::transient(
                Code::InternalError,
                "the worker could not look into the file",
            )
        }
        ProbeError::Ffprobe(FfmpegError::Failed { .. } | FfmpegError::TimedOut { .. })
        | ProbeError::Answer(_)
        | ProbeError::TooLong => {
            tracing::info!(cause = ?error, "probe");
            unusable(kind, "it is damaged or cut off")
        }
    }
}

/// The fault of a file that is not what it should be.
pub fn unusable(kind: Kind, why: &str) -> Halt {
    let (code, advice) = match kind {
        Kind::Image => (Code::NotAnImage, "give a JPEG, PNG, WebP or GIF"),
        Kind::Video => (Code::NotAVideo, "give an MP4, MOV, MKV or WebM that plays"),
        Kind::Audio => (
            Code::NotAudio,
            "give an MP3, M4A, AAC, WAV, FLAC or OGG that plays",
        ),
        Kind::Captions => (Code::NotCaptions, "give a SubRip (.srt) file"),
    };
    Halt::permanent(code, format!("the input cannot be used: {why}; {advice}"))
}

/// Arguments that every ffmpeg of ours begins with.
pub fn preamble() -> Args {
    Args::words("-hide_banner -nostats -nostdin -loglevel error -y")
}

/// Arguments for an audio stream: as it is where MP4 players take it, else AAC.
pub fn audio_args(codec: &str) -> Args {
    match codec {
        "aac" | "mp3" => Args::words("-c:a copy"),
        _ => Args::words("-c:a aac -b:a 192k"),
    }
}
