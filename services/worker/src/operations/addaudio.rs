//! addaudio: a video's time stretched or squeezed to the length of an audio track.
//!
//! Guarantee: both end within one frame of each other. With `auto` the pictures stay bit for bit
//! what they were where new timestamps alone give a sound file.

use std::path::Path;

use photofinish_contract::request::Timing;
use photofinish_model::Code;

use super::Made;
use super::inputs::Kind;
use super::studio::encode_fault;
use super::video::{self, Desk, Media, probe_fault, unusable};
use crate::error::Halt;
use crate::media::container::Container;
use crate::media::ffmpeg::Args;
use crate::media::probe::{Span, Stream};

/// Frames per second that players take without complaint: between these, timestamps are changed.
const RATE_MIN: f64 = 12.0;
/// See [`RATE_MIN`].
const RATE_MAX: f64 = 60.0;
/// A new encoding is never faster than this.
const REENCODED_RATE_MAX: f64 = 120.0;
const SECONDS_MIN: f64 = 0.02;

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

/// Fits the video to the audio, as the file `out`.
pub async fn addaudio(desk: Desk<'_>, job: AddaudioJob<'_>, out: &Path) -> Result<Made, Halt> {
    let ((media, picture), audio) = tokio::try_join!(
        desk.video(job.url_video),
        desk.media(Kind::Audio, job.url_audio, "audio")
    )?;
    let sound = audio.facts.audio().cloned();
    let sound = sound.ok_or_else(|| unusable(Kind::Audio, "it has no audio track"))?;
    let (shown, heard) = tokio::try_join!(
        span(desk, Kind::Video, &media, picture.index),
        span(desk, Kind::Audio, &audio, sound.index)
    )?;
    let seconds = heard.duration_s();
    let factor = seconds / shown.duration_s();
    let rate = shown.packets as f64 / seconds;
    let keep = may_keep(job.timing, media.container, &picture, rate);
    tracing::info!(factor, rate, keep, "fit a video to its audio");

    let _slot = desk.studio.slot(desk.stop).await?;
    let args = video::preamble().with(&media.input()).with(&audio.input());
    let args = args.arg("-map").arg(format!("0:{}", picture.index));
    let args = if keep {
        args.with(&keep_args(&picture, factor))
    } else {
        args.with(&reencode_args(desk, &picture, factor, seconds).await?)
    };
    let args = args
        .arg("-map")
        .arg(format!("1:{}", sound.index))
        .with(&video::audio_args(&sound.codec_name));
    desk.encode(args, out, seconds.max(shown.duration_s()))
        .await
}

async fn span(desk: Desk<'_>, kind: Kind, media: &Media, index: u32) -> Result<Span, Halt> {
    let span = desk.probe().span(media.name, media.container, index).await;
    let span = span.map_err(|error| probe_fault(kind, &error))?;
    let span = span.filter(|span| span.duration_s() >= SECONDS_MIN);
    span.ok_or_else(|| unusable(kind, "it is empty"))
}

fn may_keep(timing: Timing, container: Container, picture: &Stream, rate: f64) -> bool {
    let sound = match timing {
        Timing::Auto => true,
        Timing::Reencode => false,
    };
    sound
        && container == Container::Mov
        && matches!(picture.codec_name.as_str(), "h264" | "hevc")
        && (RATE_MIN..=RATE_MAX).contains(&rate)
}

fn keep_args(picture: &Stream, factor: f64) -> Args {
    let times = format!(
        "setts=pts=(PTS-STARTPTS)*{factor:.15}:dts=(DTS-STARTPTS)*{factor:.15}:duration=DURATION*{factor:.15}"
    );
    let args = Args::words("-c:v copy -bsf:v").arg(times);
    // Apple's players want this tag; ffmpeg writes another one by default.
    if picture.codec_name == "hevc" {
        args.and("-tag:v hvc1")
    } else {
        args
    }
}

async fn reencode_args(
    desk: Desk<'_>,
    picture: &Stream,
    factor: f64,
    seconds: f64,
) -> Result<Args, Halt> {
    let encoder = desk
        .studio
        .encoder()
        .await
        .map_err(|error| encode_fault(&error))?;
    let rate = picture
        .rate()
        .unwrap_or(30.0)
        .clamp(1.0, REENCODED_RATE_MAX);
    let frames = (seconds * rate).round().max(1.0);
    if frames > f64::from(u32::MAX) {
        return Err(Halt::permanent(
            Code::InputTooLarge,
            "the audio is too long",
        ));
    }
    // The last frame is held, then the clip cut at the frame that the audio ends at. (`-frames:v`
    // would end the audio with it.)
    let filter = format!(
        "setpts=(PTS-STARTPTS)*{factor:.15},fps={rate:.6},\
         tpad=stop_mode=clone:stop_duration=2,trim=end_frame={frames:.0},\
         crop=trunc(iw/2)*2:trunc(ih/2)*2,format=yuv420p"
    );
    Ok(Args::words("-vf")
        .arg(filter)
        .with(&encoder.args(desk.studio.threads(1))))
}
