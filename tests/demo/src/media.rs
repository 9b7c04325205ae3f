//! What ffprobe sees in a file.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize;

const PROBE_TIMEOUT: Duration = Duration::from_secs(20);

/// A file that was opened, its pictures decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct Probed {
    /// Of the pictures, in pixels; zero without any.
    pub width: u32,
    /// Of the pictures, in pixels; zero without any.
    pub height: u32,
    /// Pictures that could be decoded.
    pub frames: u64,
    /// Length of the pictures in seconds; zero without any.
    pub video_s: f64,
    /// Length of the sound in seconds; zero without any.
    pub audio_s: f64,
}

#[derive(Debug, Deserialize)]
struct Answer {
    #[serde(default)]
    streams: Vec<Stream>,
}

#[derive(Debug, Deserialize)]
struct Stream {
    codec_type: String,
    #[serde(default)]
    width: u32,
    #[serde(default)]
    height: u32,
    #[serde(default)]
    nb_read_frames: String,
    #[serde(default)]
    duration: String,
}

/// Opens a file with ffprobe, which decodes every frame; a file it complains of is an error.
pub async fn probe(path: &Path) -> anyhow::Result<Probed> {
    let running = tokio::process::Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-count_frames",
            "-of",
            "json",
            "-show_entries",
        ])
        .arg("stream=codec_type,width,height,nb_read_frames,duration")
        .arg(path)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let ran = tokio::time::timeout(PROBE_TIMEOUT, running)
        .await
        .with_context(|| format!("ffprobe hangs at {}", path.display()))?
        .context("run ffprobe: install it with `sudo apt-get install -y ffmpeg`")?;
    let said = String::from_utf8_lossy(&ran.stderr);
    let whole = ran.status.success() && said.trim().is_empty();
    anyhow::ensure!(
        whole,
        "ffprobe cannot read {}: {}",
        path.display(),
        said.trim()
    );
    read(&ran.stdout)
}

fn read(json: &[u8]) -> anyhow::Result<Probed> {
    let answer: Answer = serde_json::from_slice(json).context("read ffprobe's answer")?;
    let find = |kind: &str| {
        answer
            .streams
            .iter()
            .find(|stream| stream.codec_type == kind)
    };
    let seconds = |stream: Option<&Stream>| -> anyhow::Result<f64> {
        let Some(stream) = stream else { return Ok(0.0) };
        stream
            .duration
            .parse()
            .with_context(|| format!("no duration: {stream:?}"))
    };
    let (video, audio) = (find("video"), find("audio"));
    Ok(Probed {
        width: video.map_or(0, |stream| stream.width),
        height: video.map_or(0, |stream| stream.height),
        frames: video.map_or(Ok(0), |stream| stream.nb_read_frames.parse())?,
        video_s: seconds(video)?,
        audio_s: seconds(audio)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_read() {
        let json = br#"{"streams": [
            {"codec_type": "audio", "nb_read_frames": "10", "duration": "1.5"},
            {"codec_type": "video", "width": 640, "height": 360, "nb_read_frames": "12",
             "duration": "1.000000"}]}"#;
        let expected = Probed {
            width: 640,
            height: 360,
            frames: 12,
            video_s: 1.0,
            audio_s: 1.5,
        };
        assert_eq!(read(json).unwrap(), expected);
        assert!(read(b"{}").unwrap().frames == 0);
        assert!(read(br#"{"streams": [{"codec_type": "video"}]}"#).is_err());
    }
}
