//! caption: SubRip captions burnt into a video, the audio as it is.
//!
//! Guarantee: ffmpeg sees our own ASS file under a fixed name; nothing the client wrote is in any
//! argument.

use std::path::Path;

use photofinish_contract::request::CaptionStyle;
use photofinish_model::Code;

use super::inputs::{self, Kind};
use super::srt;
use super::studio::encode_fault;
use super::video::{self, Desk};
use super::{Made, ass};
use crate::error::Halt;

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
    let ((media, picture), cues) =
        tokio::try_join!(desk.video(job.url_video), cues(desk, job.url_srt))?;
    let (width, height) = picture.shown();
    let text = ass::file(&cues, job.style, width, height);
    tokio::fs::write(desk.dir.join("captions.ass"), text)
        .await
        .map_err(|error| {
            tracing::error!(%error, "write the ASS file");
            Halt::transient(
                Code::InternalError,
                "the worker could not keep the captions",
            )
        })?;
    let _slot = desk.studio.slot(desk.stop).await?;
    let encoder = desk
        .studio
        .encoder()
        .await
        .map_err(|error| encode_fault(&error))?;
    // 4:2:0 has even sides; a row or column is cut off, after the text is drawn.
    let filter = "ass=captions.ass:shaping=complex,crop=trunc(iw/2)*2:trunc(ih/2)*2,format=yuv420p";
    let mut args = video::preamble()
        .with(&media.input())
        .arg("-map")
        .arg(format!("0:{}", picture.index))
        .arg("-vf")
        .arg(filter)
        .and("-fps_mode vfr")
        .with(&encoder.args(desk.studio.threads(1)));
    if let Some(audio) = media.facts.audio() {
        let map = format!("0:{}", audio.index);
        args = args
            .arg("-map")
            .arg(map)
            .with(&video::audio_args(&audio.codec_name));
    }
    desk.encode(args, out, media.facts.duration_s().unwrap_or(0.0))
        .await
}

async fn cues(desk: Desk<'_>, url: &str) -> Result<Vec<srt::Cue>, Halt> {
    let path = desk.dir.join("captions.srt");
    let (outbound, limits) = (&desk.studio.outbound, &desk.studio.settings.inputs);
    inputs::fetch(outbound, limits, Kind::Captions, url, &path, desk.stop).await?;
    let bytes = tokio::fs::read(&path).await.map_err(|error| {
        tracing::error!(%error, "read the captions");
        Halt::transient(
            Code::InternalError,
            "the worker could not read the captions",
        )
    })?;
    srt::parse(&bytes).map_err(|error| video::unusable(Kind::Captions, &error.to_string()))
}
