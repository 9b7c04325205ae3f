//! addaudio: a video's time stretched or squeezed to the length of an audio track.
//!
//! Nouns: the [`Sound`] is the audio as it will lie in the output; a [`Fit`] is what happens to the
//! time of the pictures.
//!
//! Guarantee: both end within one frame of each other, and within a millisecond where new
//! timestamps alone give a sound file: then the pictures are bit for bit what they were.

use std::path::Path;

use photofinish_contract::request::Timing;
use photofinish_model::Code;

use super::Made;
use super::inputs::Kind;
use super::video::{self, Desk, Media, fits_mp4, unusable};
use crate::error::Halt;
use crate::media::container::Container;
use crate::media::ffmpeg::{self, Args, FfmpegError};
use crate::media::plan::Plan;
use crate::media::probe::{Span, Stream};
use crate::media::rate::Rate;

/// Frames per second that players take without complaint: between these, timestamps are changed;
/// what is encoded anew has no fewer.
const RATE_MIN: f64 = 12.0;
/// See [`RATE_MIN`].
const RATE_MAX: f64 = 60.0;
/// A new encoding is never faster than this.
const REENCODED_RATE_MAX: f64 = 120.0;
/// Rates that people use.
const RATES: [f64; 9] = [
    24_000.0 / 1001.0,
    24.0,
    25.0,
    30_000.0 / 1001.0,
    30.0,
    48.0,
    50.0,
    60_000.0 / 1001.0,
    60.0,
];
/// How far the rate that a header names may be from what the packets show.
const RATE_WITHIN: f64 = 0.02;
/// How many times longer or shorter a video may become.
const STRETCH_MAX: f64 = 1000.0;
/// Ticks a second of new timestamps: fine enough for a millisecond however coarse the source's are.
const TICKS_PER_S: u32 = 90_000;
/// The audio that had to be made to fit into an MP4.
const SOUND: &str = "sound.m4a";

/// The job: addresses and way.
#[derive(Debug, Clone, Copy)]
pub struct AddaudioJob<'a> {
    /// The video.
    pub url_video: &'a str,
    /// The audio it is fitted to.
    pub url_audio: &'a str,
    /// How its time is changed.
    pub timing: Timing,
}

/// Audio that lies in an MP4 as it is.
#[derive(Debug)]
struct Sound {
    media: Media,
    index: u32,
    /// When it will end in the output, which begins at zero.
    seconds: f64,
}

/// What happens to the time of the pictures.
#[derive(Debug, Clone, Copy)]
struct Fit {
    shown: Span,
    factor: f64,
    seconds: f64,
}

/// Fits the video to the audio, as the file `out`.
pub async fn addaudio(desk: Desk<'_>, job: AddaudioJob<'_>, out: &Path) -> Result<Made, Halt> {
    let ((media, picture), sound) =
        tokio::try_join!(desk.video(job.url_video), sound(desk, job.url_audio))?;
    let shown = media.span(&picture);
    let shown = shown.ok_or_else(|| unusable(Kind::Video, "it is empty"))?;
    let fit = Fit::new(shown, sound.seconds)?;
    let keep = fit.keeps(job.timing, media.container, &picture);
    tracing::info!(
        factor = fit.factor,
        rate = fit.rate(),
        keep,
        "fit a video to its audio"
    );
    let args = |pictures: &Args| {
        video::preamble()
            .with(&media.input())
            .with(&sound.media.input())
            .arg("-map")
            .arg(format!("0:{}", picture.index))
            .with(pictures)
            .arg("-map")
            .arg(format!("1:{}", sound.index))
            .and("-c:a copy")
    };
    if keep {
        match desk
            .remux(args(&fit.kept(&picture)), out, fit.seconds)
            .await
        {
            // What cannot be copied into an MP4 after all can still be encoded.
            Err(Halt::Fault(fault)) if fault.fault.code == Code::RenderFailed => {
                tracing::warn!(%fault, "new timestamps alone gave no file");
            }
            done => return done,
        }
    }
    let filter = fit.filter(&picture);
    let encoded = |plan: &Plan| {
        let pictures = Args::words("-vf").arg(&filter);
        args(&pictures.with(&plan.args()))
    };
    desk.encode(encoded, picture.shown(), out, fit.seconds)
        .await
}

/// Fetches the audio; what does not fit into an MP4 as it is, or whose length cannot be told from
/// its packets to the millisecond, is put into one first.
async fn sound(desk: Desk<'_>, url: &str) -> Result<Sound, Halt> {
    let media = desk.media(Kind::Audio, url, "audio").await?;
    let (stream, span) = heard(&media)?;
    let exact = [Container::Mov, Container::Mp3, Container::Aac].contains(&media.container);
    if fits_mp4(&stream) && exact {
        // ffmpeg takes the file's start off all its times; what is then before zero is not heard.
        let seconds = span.end_s - media.facts.start_s();
        return Ok(Sound {
            media,
            index: stream.index,
            seconds,
        });
    }
    if fits_mp4(&stream) {
        match put_into_mp4(desk, &media, &stream, "-c:a copy").await {
            Err(Halt::Fault(fault)) => tracing::info!(%fault, "an audio track is encoded anew"),
            done => return done,
        }
    }
    put_into_mp4(desk, &media, &stream, "-c:a aac -b:a 192k").await
}

/// The first audio stream with something in it.
fn heard(media: &Media) -> Result<(Stream, Span), Halt> {
    let mut streams = media.facts.audios().peekable();
    if streams.peek().is_none() {
        return Err(unusable(Kind::Audio, "it has no audio track"));
    }
    let mut heard = streams.filter_map(|stream| Some((stream.clone(), media.span(stream)?)));
    heard
        .next()
        .ok_or_else(|| unusable(Kind::Audio, "its audio track is empty"))
}

async fn put_into_mp4(
    desk: Desk<'_>,
    media: &Media,
    stream: &Stream,
    codec: &str,
) -> Result<Sound, Halt> {
    let _slot = desk.studio.slot(desk.stop).await?;
    let seconds = media.span(stream).map_or(0.0, |span| span.duration_s());
    let args = video::preamble()
        .with(&media.input())
        .arg("-map")
        .arg(format!("0:{}", stream.index))
        .and(codec)
        .and("-map_metadata -1 -vn -sn -dn -f mp4")
        .arg(SOUND);
    let (program, bounds) = (
        &desk.studio.settings.ffmpeg,
        desk.studio.encode_bounds(seconds),
    );
    let made = ffmpeg::run(program, desk.dir, &args, bounds, &|_| {}, desk.stop).await;
    made.map_err(|error| match error {
        FfmpegError::Failed { .. } | FfmpegError::Stalled { .. } => {
            tracing::info!(%error, "an audio track");
            unusable(Kind::Audio, "its audio cannot be decoded")
        }
        FfmpegError::Start { .. }
        | FfmpegError::TimedOut { .. }
        | FfmpegError::CpuUsedUp { .. }
        | FfmpegError::FileTooLarge { .. }
        | FfmpegError::Stopped => super::studio::encode_fault(&error),
    })?;
    let media = desk.look(Kind::Audio, SOUND, Container::Mov).await?;
    let (stream, span) = heard(&media)?;
    let seconds = span.end_s - media.facts.start_s();
    Ok(Sound {
        media,
        index: stream.index,
        seconds,
    })
}

impl Fit {
    fn new(shown: Span, seconds: f64) -> Result<Self, Halt> {
        let factor = seconds / shown.duration_s();
        if !(1.0 / STRETCH_MAX..=STRETCH_MAX).contains(&factor) {
            let (longer, shorter, times) = if factor > 1.0 {
                ("audio", "video", factor)
            } else {
                ("video", "audio", 1.0 / factor)
            };
            return Err(Halt::permanent(
                Code::InputTooLarge,
                format!(
                    "the {longer} is {times:.0} times as long as the {shorter}, at most {STRETCH_MAX}; give a shorter {longer} or a longer {shorter}"
                ),
            ));
        }
        Ok(Self {
            shown,
            factor,
            seconds,
        })
    }

    /// Frames a second, on the average, with new timestamps.
    fn rate(&self) -> f64 {
        self.shown.packets as f64 / self.seconds
    }

    /// Whether new timestamps alone give a sound file. A picture that an edit list hides would have
    /// to be hidden again, one that is shown before the first keyframe cannot be decoded.
    fn keeps(&self, timing: Timing, container: Container, picture: &Stream) -> bool {
        let wanted = match timing {
            Timing::Auto => true,
            Timing::Reencode => false,
        };
        let timed = matches!(
            container,
            Container::Mov | Container::Matroska | Container::MpegTs | Container::Flv
        );
        let span = &self.shown;
        wanted
            && timed
            && matches!(picture.codec_name.as_str(), "h264" | "hevc" | "av1")
            && span.clean_start
            && span.ordered
            && span.hidden == 0
            && (RATE_MIN..=RATE_MAX).contains(&self.rate())
    }

    /// Arguments that change timestamps. The muxer ends the track one duration, that of the last
    /// packet, after the time at which that is decoded; so it is what is missing to the end.
    fn kept(&self, picture: &Stream) -> Args {
        let last = match self.shown.decoding_s {
            Some(decoding_s) => self.seconds - decoding_s * self.factor,
            None => (self.shown.end_s - self.shown.last_s) * self.factor,
        };
        let ticks = (last * f64::from(TICKS_PER_S)).round().max(1.0);
        let factor = self.factor;
        // The filter counts in the new ticks before it calculates.
        let times = format!(
            "setts=time_base=1/{TICKS_PER_S}:pts=(PTS-STARTPTS)*{factor:.15}:\
             dts=(DTS-STARTPTS)*{factor:.15}:duration={ticks}"
        );
        let args = Args::words("-c:v copy -bsf:v").arg(times);
        // Apple's players want this tag; ffmpeg writes another one by default.
        if picture.codec_name == "hevc" {
            args.and("-tag:v hvc1")
        } else {
            args
        }
    }

    /// The rate of a new encoding: the source's own; where that is not steady, one on whose grid
    /// its pictures lie, or else the next common one. What is shown longer than players like is
    /// repeated.
    fn encoded_rate(&self, picture: &Stream) -> Rate {
        let measured = self.shown.rate();
        let near = |a: f64, b: f64| (a / b - 1.0).abs() <= RATE_WITHIN;
        let [average, grid] = picture.rates();
        let common = |rate: f64| RATES.iter().any(|known| (rate / known - 1.0).abs() < 1e-4);
        let steady = average.filter(|rate| {
            near(*rate, measured) && (common(*rate) || grid.is_some_and(|grid| near(grid, *rate)))
        });
        let most = measured * (1.0 - RATE_WITHIN);
        let grid = grid.filter(|rate| (most..=RATE_MAX).contains(rate));
        let next = || RATES.into_iter().find(|rate| *rate >= most);
        let rate = steady.or(grid).or_else(next).unwrap_or(RATE_MAX);
        let times = (RATE_MIN / rate).ceil().max(1.0);
        Rate::of((rate * times).min(REENCODED_RATE_MAX))
    }

    /// The filter of a new encoding. The last picture is held for as long as need be, then the clip
    /// is cut at the frame that the audio ends at. (`-frames:v` would end the audio with it.)
    fn filter(&self, picture: &Stream) -> String {
        let rate = self.encoded_rate(picture);
        let frames = (self.seconds / rate.seconds(1)).round().max(1.0);
        let factor = self.factor;
        format!(
            "setpts=(PTS-STARTPTS)*{factor:.15},fps={rate}:start_time=0,\
             tpad=stop=-1:stop_mode=clone,trim=end_frame={frames:.0},\
             crop=trunc(iw/2)*2:trunc(ih/2)*2,format=yuv420p"
        )
    }
}
