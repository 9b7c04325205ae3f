//! Facts about media files, from ffprobe, with the demuxer forced.
//!
//! Nouns: [`Facts`] is what the header says; a [`Span`] is what the packets of one stream say, which
//! is exact where headers guess.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::container::Container;
use super::ffmpeg::{Args, FfmpegError, Running};

/// The longest description of a file that is read.
const FACTS_BYTES_MAX: usize = 1024 * 1024;
/// The longest list of packets that is read: some ten hours of video.
const PACKETS_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Why nothing is known of a file.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// ffprobe could not read it.
    #[error("probe the file")]
    Ffprobe(#[from] FfmpegError),
    /// ffprobe's answer is not what we know.
    #[error("read ffprobe's answer")]
    Answer(#[from] serde_json::Error),
    /// More packets than we read.
    #[error("the stream has too many packets")]
    TooLong,
}

/// A ffprobe to ask.
#[derive(Debug, Clone, Copy)]
pub struct Probe<'a> {
    /// The program.
    pub program: &'a str,
    /// The file's directory.
    pub dir: &'a Path,
    /// How long an answer may take.
    pub limit: Duration,
    /// Ends it.
    pub stop: &'a CancellationToken,
}

/// What a file's header says.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Facts {
    /// Its streams, in order.
    #[serde(default)]
    pub streams: Vec<Stream>,
    /// The whole file.
    #[serde(default)]
    pub format: Format,
}

/// What the header says of the file as a whole.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct Format {
    #[serde(default)]
    duration: Option<String>,
}

/// What the header says of one stream.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Stream {
    /// Its number.
    pub index: u32,
    #[serde(default)]
    codec_type: String,
    /// Its codec, in ffmpeg's words.
    #[serde(default)]
    pub codec_name: String,
    /// Pixels, as stored.
    #[serde(default)]
    pub width: u32,
    /// Pixels, as stored.
    #[serde(default)]
    pub height: u32,
    #[serde(default)]
    r_frame_rate: String,
    #[serde(default)]
    avg_frame_rate: String,
    #[serde(default)]
    disposition: Disposition,
    #[serde(default)]
    side_data_list: Vec<SideData>,
    /// Frames, when the header says.
    #[serde(default)]
    pub nb_frames: Option<String>,
    /// Pixel format.
    #[serde(default)]
    pub pix_fmt: Option<String>,
    /// Colour matrix.
    #[serde(default)]
    pub color_space: Option<String>,
    /// Colour range.
    #[serde(default)]
    pub color_range: Option<String>,
    /// Where chroma samples sit.
    #[serde(default)]
    pub chroma_location: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
struct Disposition {
    #[serde(default)]
    attached_pic: u8,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct SideData {
    #[serde(default)]
    rotation: Option<f64>,
}

impl Facts {
    /// The first moving picture; cover art does not count.
    pub fn video(&self) -> Option<&Stream> {
        self.streams
            .iter()
            .find(|stream| stream.codec_type == "video" && stream.disposition.attached_pic == 0)
    }

    /// The first audio stream.
    pub fn audio(&self) -> Option<&Stream> {
        self.streams
            .iter()
            .find(|stream| stream.codec_type == "audio")
    }

    /// Seconds, when the header says.
    pub fn duration_s(&self) -> Option<f64> {
        self.format.duration.as_deref()?.parse().ok()
    }
}

impl Stream {
    /// Frames per second: the average, else the base rate.
    pub fn rate(&self) -> Option<f64> {
        [&self.avg_frame_rate, &self.r_frame_rate]
            .into_iter()
            .find_map(|rate| {
                let (n, d) = rate.split_once('/')?;
                let rate = n.parse::<f64>().ok()? / d.parse::<f64>().ok()?;
                (rate.is_finite() && rate > 0.0).then_some(rate)
            })
    }

    /// Pixels as shown, after rotation.
    pub fn shown(&self) -> (u32, u32) {
        let quarter = self
            .side_data_list
            .iter()
            .filter_map(|data| data.rotation)
            .any(|rotation| (rotation.abs() % 180.0 - 90.0).abs() < 1.0);
        if quarter {
            (self.height, self.width)
        } else {
            (self.width, self.height)
        }
    }
}

/// What the packets of one stream say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// How many.
    pub packets: u64,
    /// Seconds at which the first one is shown.
    pub start_s: f64,
    /// Seconds at which the last one ends.
    pub end_s: f64,
}

impl Span {
    /// Seconds from the first to the end of the last.
    pub fn duration_s(&self) -> f64 {
        self.end_s - self.start_s
    }
}

impl Probe<'_> {
    async fn ask(
        &self,
        file: &str,
        container: Container,
        what: Args,
        max: usize,
    ) -> Result<Vec<u8>, ProbeError> {
        let args = Args::words("-v error -protocol_whitelist file,pipe -f")
            .arg(container.demuxer())
            .with(&what)
            .arg("-i")
            .arg(format!("file:{file}"));
        let running = Running::start(self.program, self.dir, &args, false)?;
        Ok(running.finish(max, self.limit, self.stop).await?)
    }

    async fn json<T: DeserializeOwned>(
        &self,
        file: &str,
        container: Container,
        what: Args,
    ) -> Result<T, ProbeError> {
        let answer = self.ask(file, container, what, FACTS_BYTES_MAX).await?;
        Ok(serde_json::from_slice(&answer)?)
    }

    /// What the header of a file says.
    pub async fn facts(&self, file: &str, container: Container) -> Result<Facts, ProbeError> {
        let what = Args::words("-show_streams -show_format -of json");
        self.json(file, container, what).await
    }

    /// What the packets of stream `index` say; `None` when it has none.
    pub async fn span(
        &self,
        file: &str,
        container: Container,
        index: u32,
    ) -> Result<Option<Span>, ProbeError> {
        let what = Args::words("-select_streams")
            .arg(index.to_string())
            .and("-show_entries packet=pts_time,dts_time,duration_time -of compact=p=0");
        let answer = self.ask(file, container, what, PACKETS_BYTES_MAX).await?;
        if answer.len() >= PACKETS_BYTES_MAX {
            return Err(ProbeError::TooLong);
        }
        Ok(span_of(&String::from_utf8_lossy(&answer)))
    }
}

fn span_of(lines: &str) -> Option<Span> {
    let mut span: Option<Span> = None;
    for line in lines.lines() {
        let field = |name: &str| {
            line.split('|').find_map(|part| {
                part.strip_prefix(name)?
                    .strip_prefix('=')?
                    .parse::<f64>()
                    .ok()
            })
        };
        let Some(at) = field("pts_time").or_else(|| field("dts_time")) else {
            continue;
        };
        let end = at + field("duration_time").unwrap_or(0.0);
        let so_far = span.get_or_insert(Span {
            packets: 0,
            start_s: at,
            end_s: end,
        });
        so_far.packets += 1;
        so_far.start_s = so_far.start_s.min(at);
        so_far.end_s = so_far.end_s.max(end);
    }
    span
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_goes_from_the_first_shown_to_the_end_of_the_last() {
        let span = span_of(
            "pts_time=0.100000|dts_time=0.000000|duration_time=0.040000\n\
             pts_time=0.220000|dts_time=0.040000|duration_time=0.040000\n\
             pts_time=0.140000|dts_time=0.080000|duration_time=0.040000|side\n",
        )
        .unwrap();
        assert_eq!(span.packets, 3);
        assert!((span.duration_s() - 0.16).abs() < 1e-9);
        assert_eq!(span_of("pts_time=N/A|duration_time=N/A\n"), None);
    }
}
