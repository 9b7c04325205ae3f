//! caption: SubRip captions burnt into a video, the audio as it is.
//!
//! Guarantee: ffmpeg sees our own ASS file under a fixed name; nothing the client wrote is in any
//! argument. All audio tracks that ffmpeg knows are kept, copied where MP4 can hold them. What
//! cannot be drawn with the fonts of this machine is said, not drawn as boxes.

use std::fmt::Write as _;
use std::path::Path;

use photofinish_contract::request::CaptionStyle;
use photofinish_model::Code;
use unicode_script::UnicodeScript as _;

use super::fonts::{self, Fonts};
use super::inputs::Kind;
use super::srt;
use super::video::{self, Desk, Media};
use super::{Made, ass};
use crate::error::Halt;
use crate::media::container::Container;
use crate::media::ffmpeg::Args;
use crate::media::plan::Plan;
use crate::media::probe::Stream;

mod chain;

/// Audio tracks that are kept.
const TRACKS_MAX: usize = 16;
/// Fonts and characters that an error names.
const NAMED_MAX: usize = 8;

/// The job: addresses and style.
#[derive(Debug, Clone, Copy)]
pub struct CaptionJob<'a> {
    /// The video.
    pub url_video: &'a str,
    /// The captions.
    pub url_srt: &'a str,
    /// How they look.
    pub style: &'a CaptionStyle,
}

/// Burns captions into the video, as the file `out`.
pub async fn caption(desk: Desk<'_>, job: CaptionJob<'_>, out: &Path) -> Result<Made, Halt> {
    let fonts = fonts().await?;
    check_font(job.style, fonts)?;
    let ((media, picture), cues) =
        tokio::try_join!(desk.video(job.url_video), cues(desk, job.url_srt, fonts))?;
    let (width, height) = picture.shown();
    let page = ass::Page {
        width,
        height,
        fonts,
    };
    let style = job.style.clone();
    let text = aside(desk, move || ass::file(&cues, &style, page)).await?;
    let written = tokio::fs::write(desk.dir.join("captions.ass"), text).await;
    written.map_err(|error| {
        tracing::error!(%error, "write the ASS file");
        Halt::transient(
            Code::InternalError,
            "the worker could not keep the captions",
        )
    })?;
    let (filter, audio) = (chain::of(&picture), audio_args(&media));
    let args = |plan: &Plan| {
        video::preamble()
            .with(&media.input())
            .arg("-map")
            .arg(format!("0:{}", picture.index))
            .arg("-vf")
            .arg(filter.as_str())
            // In the units of the source: in those of the mean rate uneven times would be rounded.
            .and("-fps_mode vfr -enc_time_base -1")
            .with(&plan.args())
            .with(&audio)
    };
    let seconds = media.facts.duration_s();
    let seconds = seconds.or_else(|| Some(media.span(&picture)?.duration_s()));
    desk.encode(args, (width, height), out, seconds.unwrap_or(0.0))
        .await
}

/// Work that may take seconds with the largest files, away from the threads that wait.
async fn aside<T: Send + 'static>(
    desk: Desk<'_>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Halt> {
    tokio::select! {
        done = tokio::task::spawn_blocking(work) => done.map_err(|error| {
            tracing::error!(%error, "read or write captions");
            Halt::transient(Code::InternalError, "the worker could not read the captions")
        }),
        () = desk.stop.cancelled() => Err(Halt::Stopped),
    }
}

/// Every track: as it is where MP4 can hold it, else AAC. Those that nobody can decode, such as the
/// spatial audio that phones record beside the plain one, are left out.
fn audio_args(media: &Media) -> Args {
    let known = |track: &&Stream| !matches!(track.codec_name.as_str(), "" | "none" | "unknown");
    let tracks = media.facts.audios().filter(known).take(TRACKS_MAX);
    tracks
        .enumerate()
        .fold(Args::default(), |args, (n, track)| {
            let args = args.arg("-map").arg(format!("0:{}", track.index));
            let args = args.arg(format!("-c:a:{n}"));
            if may_copy(media.container, track) {
                return args.arg("copy");
            }
            args.arg("aac").arg(format!("-b:a:{n}")).arg("192k")
        })
}

/// What every player takes is copied; of what only some take, that which the client had in such a
/// file already.
fn may_copy(container: Container, track: &Stream) -> bool {
    let codec = track.codec_name.as_str();
    video::fits_mp4(track)
        || (container == Container::Mov && matches!(codec, "ac3" | "eac3" | "alac" | "opus"))
}

async fn fonts() -> Result<&'static Fonts, Halt> {
    fonts::here().await.map_err(|error| {
        tracing::error!(%error, cause = ?error, "look for fonts");
        Halt::transient(
            Code::InternalError,
            "the worker could not look for its fonts; the operator has the evidence",
        )
    })
}

/// A font that is asked for must be here: another in its place would not be what was asked for.
fn check_font(style: &CaptionStyle, fonts: &Fonts) -> Result<(), Halt> {
    let absent = style.font.as_deref().filter(|name| !fonts.has_family(name));
    let Some(name) = absent else { return Ok(()) };
    // The shortest names are those of the fonts for all purposes.
    let mut here: Vec<&str> = fonts.families().iter().map(String::as_str).collect();
    here.sort_by_key(|family| family.len());
    here.truncate(NAMED_MAX);
    let here = here.join(", ");
    let detail = format!("the font {name:?} is not here; give one of {here}, or leave it out");
    Err(Halt::permanent(Code::FontMissing, detail))
}

async fn cues(desk: Desk<'_>, url: &str, fonts: &'static Fonts) -> Result<Vec<srt::Cue>, Halt> {
    desk.fetch(Kind::Captions, url, "captions.srt").await?;
    let path = desk.dir.join("captions.srt");
    let bytes = tokio::fs::read(&path).await.map_err(|error| {
        tracing::error!(%error, "read the captions");
        Halt::transient(
            Code::InternalError,
            "the worker could not read the captions",
        )
    })?;
    let parsed = aside(desk, move || srt::parse(&bytes)).await?;
    let cues = parsed.map_err(|error| video::unusable(Kind::Captions, &error.to_string()))?;
    let missing = ass::missing(&cues, fonts);
    if missing.is_empty() {
        return Ok(cues);
    }
    Err(Halt::permanent(
        Code::FontMissing,
        undrawable(&missing, cues.len()),
    ))
}

fn undrawable(missing: &[char], cues: usize) -> String {
    let mut named = String::new();
    for &c in missing.iter().take(NAMED_MAX) {
        let (code, script) = (u32::from(c), c.script().full_name());
        let comma = if named.is_empty() { "" } else { ", " };
        // Writing to a string cannot fail.
        let _written = write!(named, "{comma}{c} (U+{code:04X}, {script})");
    }
    let count = missing.len();
    let more = if count > NAMED_MAX { " and others" } else { "" };
    format!(
        "no font here draws {count} of the letters in the {cues} captions: {named}{more}; leave \
         them out, or have a font for them installed"
    )
}
