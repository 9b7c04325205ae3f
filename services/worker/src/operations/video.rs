//! What caption and addaudio have in common: fetched media files, recognised and probed.

use std::collections::BTreeMap;
use std::path::Path;

use photofinish_model::Code;
use tokio_util::sync::CancellationToken;

use super::inputs::{Fetch, Inputs, Kind};
use super::progress::Progress;
use super::studio::Studio;
use crate::error::Halt;
use crate::media::container::Container;
use crate::media::ffmpeg::{Args, FfmpegError};
use crate::media::probe::{Facts, Probe, ProbeError, Span, Stream};

/// Header and packet lists of a local file take no longer.
const PROBE_LIMIT: std::time::Duration = std::time::Duration::from_secs(120);
/// Pixels of either side of a video.
const SIDE_PX_MAX: u32 = 8192;
/// Pixels of a picture of a video: 8K and some more.
const PICTURE_PX_MAX: u64 = 8192 * 4608;
/// Pictures a second that a camera makes.
const RATE_MAX: f64 = 1000.0;
/// Seconds of a video or an audio file.
const LENGTH_S_MAX: f64 = 12.0 * 3600.0;
/// Less than this is nothing.
const LENGTH_S_MIN: f64 = 0.02;

/// The private directory of one item and how work in it is ended.
#[derive(Debug, Clone, Copy)]
pub struct Desk<'a> {
    /// What everything shares.
    pub studio: &'a Studio,
    /// The inputs of the taking.
    pub inputs: &'a Inputs,
    /// The item's private directory.
    pub dir: &'a Path,
    /// Ends the work.
    pub stop: &'a CancellationToken,
    /// Told how far the work is.
    pub progress: &'a Progress,
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
    /// What the packets of each stream say, by its number.
    pub spans: BTreeMap<u32, Span>,
}

impl Media {
    /// The arguments that make it ffmpeg's next input.
    pub fn input(&self) -> Args {
        Args::words("-protocol_whitelist file,pipe -f")
            .arg(self.container.demuxer())
            .arg("-i")
            .arg(format!("file:{}", self.name))
    }

    /// What the packets of a stream say, if there is anything in it.
    pub fn span(&self, stream: &Stream) -> Option<Span> {
        let span = self.spans.get(&stream.index).copied();
        span.filter(|span| span.duration_s() >= LENGTH_S_MIN)
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

    /// Fetches a file into the directory.
    pub async fn fetch(&self, kind: Kind, url: &str, name: &str) -> Result<(), Halt> {
        let fetch = Fetch {
            outbound: &self.studio.outbound,
            limits: &self.studio.settings.inputs,
            kind,
            stop: self.stop,
        };
        self.inputs.fetch(fetch, url, &self.dir.join(name)).await
    }

    /// Fetches and recognises a video or an audio file.
    pub async fn media(&self, kind: Kind, url: &str, name: &'static str) -> Result<Media, Halt> {
        self.fetch(kind, url, name).await?;
        let container = Container::of_file(&self.dir.join(name)).ok().flatten();
        let container = container.ok_or_else(|| unusable(kind, "it has no format that we read"))?;
        self.look(kind, name, container).await
    }

    /// Looks into a file of the directory.
    pub async fn look(
        &self,
        kind: Kind,
        name: &'static str,
        container: Container,
    ) -> Result<Media, Halt> {
        let survey = self.probe().survey(name, container).await;
        let survey = survey.map_err(|error| probe_fault(kind, &error))?;
        let longest = survey
            .spans
            .values()
            .map(Span::duration_s)
            .fold(0.0, f64::max);
        if longest > LENGTH_S_MAX {
            let hours = LENGTH_S_MAX / 3600.0;
            return Err(Halt::permanent(
                Code::InputTooLarge,
                format!("the input is longer than {hours} hours; give a shorter one"),
            ));
        }
        Ok(Media {
            name,
            container,
            facts: survey.facts,
            spans: survey.spans,
        })
    }

    /// Fetches a video and finds its picture.
    pub async fn video(&self, url: &str) -> Result<(Media, Stream), Halt> {
        let media = self.media(Kind::Video, url, "video").await?;
        let stream = media.facts.video().cloned();
        let stream = stream.ok_or_else(|| unusable(Kind::Video, "it has no moving picture"))?;
        let (width, height) = (stream.width, stream.height);
        let side = width.max(height);
        let pixels = u64::from(width) * u64::from(height);
        if pixels == 0 {
            return Err(unusable(Kind::Video, "its pictures cannot be decoded"));
        }
        if side > SIDE_PX_MAX || pixels > PICTURE_PX_MAX {
            let why = format!(
                "its picture is {width}x{height}, at most {SIDE_PX_MAX} a side and {PICTURE_PX_MAX} pixels"
            );
            return Err(unusable(Kind::Video, &why));
        }
        let span = media.span(&stream);
        let span = span.ok_or_else(|| unusable(Kind::Video, "it is empty"))?;
        if span.rate() > RATE_MAX {
            let why = format!("it has more than {RATE_MAX} pictures a second");
            return Err(unusable(Kind::Video, &why));
        }
        Ok((media, stream))
    }
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
        ProbeError::Ffprobe(
            FfmpegError::Failed { .. }
            | FfmpegError::TimedOut { .. }
            | FfmpegError::Stalled { .. }
            | FfmpegError::CpuUsedUp { .. }
            | FfmpegError::FileTooLarge { .. },
        )
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

/// Arguments for an audio stream: as it is where every player takes it in an MP4, else AAC. (Dolby's,
/// Apple's and Opus can lie in one, but browsers or phones are silent then.)
pub fn audio_args(stream: &Stream) -> Args {
    if fits_mp4(stream) {
        Args::words("-c:a copy")
    } else {
        Args::words("-c:a aac -b:a 192k")
    }
}

/// Whether an audio stream is taken into an MP4 as it is. MPEG audio of less than 16,000 samples a
/// second is not in the standard.
pub fn fits_mp4(stream: &Stream) -> bool {
    match stream.codec_name.as_str() {
        "aac" => true,
        "mp3" => stream.sample_rate().is_some_and(|rate| rate >= 16_000),
        _ => false,
    }
}
