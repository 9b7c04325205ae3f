//! Facts about media files, from ffprobe, with the demuxer forced.
//!
//! Nouns: [`Facts`] is what the header says; a [`Span`] is what the packets of one stream say, which
//! is exact where headers guess; a [`Survey`] is both, from one reading.
//!
//! Guarantee: nothing but the file itself is read, whatever it names.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::container::Container;
use super::ffmpeg::{Args, Bounds, FfmpegError, Running};

/// The longest description of a file that is read.
const FACTS_BYTES_MAX: usize = 1024 * 1024;
/// The most packets that are looked at: more than twelve hours of 120 frames a second and sound.
const PACKETS_MAX: u64 = 8_000_000;
/// Address space of a ffprobe.
const MEMORY_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;
/// Streams of a file.
const STREAMS_MAX: u32 = 100;

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
    #[serde(default)]
    start_time: Option<String>,
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
    sample_rate: Option<String>,
    #[serde(default)]
    start_time: Option<String>,
    #[serde(default)]
    duration: Option<String>,
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
    /// How light is coded.
    #[serde(default)]
    pub color_transfer: Option<String>,
    /// Whether a frame is two fields, and which is first.
    #[serde(default)]
    pub field_order: Option<String>,
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
        self.audios().next()
    }

    /// All audio streams.
    pub fn audios(&self) -> impl Iterator<Item = &Stream> {
        self.streams
            .iter()
            .filter(|stream| stream.codec_type == "audio")
    }

    /// Seconds, when the header says.
    pub fn duration_s(&self) -> Option<f64> {
        self.format.duration.as_deref()?.parse().ok()
    }

    /// Seconds that ffmpeg takes off all timestamps of the file.
    pub fn start_s(&self) -> f64 {
        let start = self.format.start_time.as_deref();
        start.and_then(|start| start.parse().ok()).unwrap_or(0.0)
    }
}

impl Stream {
    /// Frames per second as the header has them: the average, and the rate on whose grid all lie.
    pub fn rates(&self) -> [Option<f64>; 2] {
        [&self.avg_frame_rate, &self.r_frame_rate].map(|rate| {
            let (n, d) = rate.split_once('/')?;
            let rate = n.parse::<f64>().ok()? / d.parse::<f64>().ok()?;
            (rate.is_finite() && rate > 0.0).then_some(rate)
        })
    }

    /// Seconds at which the stream ends, when the header says.
    fn end_s(&self) -> Option<f64> {
        let seconds = |text: &Option<String>| text.as_deref()?.parse::<f64>().ok();
        Some(seconds(&self.start_time)? + seconds(&self.duration)?)
    }

    /// Samples a second.
    pub fn sample_rate(&self) -> Option<u32> {
        self.sample_rate.as_deref()?.parse().ok()
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

/// What the packets of one stream say. Those that are only there to be decoded, because an edit
/// list cuts what they show, are not in it but counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// How many are shown.
    pub packets: u64,
    /// Seconds at which the first one is shown.
    pub start_s: f64,
    /// Seconds at which the last one is shown.
    pub last_s: f64,
    /// Seconds at which the last one ends; without its duration the mean one counts.
    pub end_s: f64,
    /// How many are not shown.
    pub hidden: u64,
    /// The first one can be decoded alone, and nothing is shown before it.
    pub clean_start: bool,
    /// Every one has a time to be shown at, and they are in the order of decoding.
    pub ordered: bool,
    /// Seconds from the first to the last as they are decoded, if every one says when.
    pub decoding_s: Option<f64>,
}

impl Span {
    /// Seconds from the first to the end of the last.
    pub fn duration_s(&self) -> f64 {
        self.end_s - self.start_s
    }

    /// Shown per second.
    pub fn rate(&self) -> f64 {
        self.packets as f64 / self.duration_s()
    }
}

/// A file, looked at once from the first to the last packet.
#[derive(Debug, Clone, PartialEq)]
pub struct Survey {
    /// What its header says.
    pub facts: Facts,
    /// What the packets of each stream say, by its number.
    pub spans: BTreeMap<u32, Span>,
}

impl Probe<'_> {
    fn start(&self, file: &str, container: Container, what: &str) -> Result<Running, FfmpegError> {
        let args = Args::words("-v error -protocol_whitelist file,pipe -max_streams")
            .arg(STREAMS_MAX.to_string())
            .arg("-f")
            .arg(container.demuxer())
            .and(what)
            .arg("-i")
            .arg(format!("file:{file}"));
        let bounds = Bounds::of(self.limit).in_memory(MEMORY_BYTES_MAX);
        Running::start(self.program, self.dir, &args, false, bounds)
    }

    /// What the header of a file says.
    pub async fn facts(&self, file: &str, container: Container) -> Result<Facts, ProbeError> {
        let what = "-show_streams -show_format -of json";
        let running = self.start(file, container, what)?;
        let answer = running.finish(FACTS_BYTES_MAX, self.stop).await?;
        Ok(serde_json::from_slice(&answer)?)
    }

    /// What the header and the packets of a file say.
    pub async fn survey(&self, file: &str, container: Container) -> Result<Survey, ProbeError> {
        let what = "-show_streams -show_format -show_entries \
                    packet=stream_index,pts_time,dts_time,duration_time,flags -of json=compact=1";
        let running = self.start(file, container, what)?;
        let mut surveyor = Surveyor::default();
        running
            .lines(&mut |line| surveyor.take_in(line), self.stop)
            .await?;
        surveyor.done(container)
    }
}

/// Reads ffprobe's answer line by line, so that hours of packets cost no memory.
#[derive(Debug, Default)]
struct Surveyor {
    among_packets: bool,
    /// All but the packets.
    header: String,
    streams: BTreeMap<u32, Counted>,
    packets: u64,
}

/// What is known of a stream so far.
#[derive(Debug)]
struct Counted {
    span: Span,
    /// When the first and the last one in order of decoding are decoded.
    decoded_s: Option<(f64, f64)>,
    timed: bool,
    last_duration_s: Option<f64>,
}

impl Surveyor {
    fn take_in(&mut self, line: &str) {
        match (self.among_packets, line) {
            (true, "    ],") => self.among_packets = false,
            (true, packet) => self.packet(packet),
            (false, "    \"packets\": [") => self.among_packets = true,
            (false, _) if self.header.len() < FACTS_BYTES_MAX => {
                self.header.push_str(line);
                self.header.push('\n');
            }
            (false, _) => {}
        }
    }

    fn packet(&mut self, line: &str) {
        let Some(index) = number(line, "\"stream_index\": ") else {
            return;
        };
        self.packets += 1;
        let seconds = |name: &str| number::<f64>(line, name);
        let (shown, decoded) = (seconds("\"pts_time\": \""), seconds("\"dts_time\": \""));
        let duration = seconds("\"duration_time\": \"").filter(|&duration| duration > 0.0);
        let flags = line.split("\"flags\": \"").nth(1).unwrap_or_default();
        let flags = flags.split('"').next().unwrap_or_default();
        let Some(at) = shown.or(decoded) else {
            return;
        };
        let end = at + duration.unwrap_or(0.0);
        let counted = self.streams.entry(index).or_insert(Counted {
            span: Span {
                packets: 0,
                start_s: at,
                last_s: at,
                end_s: end,
                hidden: 0,
                clean_start: flags.contains('K'),
                ordered: true,
                decoding_s: None,
            },
            decoded_s: None,
            timed: true,
            last_duration_s: duration,
        });
        let span = &mut counted.span;
        // A time of decoding that is missing is made up by whoever writes the file.
        counted.timed &= decoded.is_some();
        if let Some(decoded) = decoded {
            let (first, last) = counted.decoded_s.unwrap_or((decoded, f64::NEG_INFINITY));
            span.ordered &= decoded > last && shown.is_some_and(|shown| shown >= decoded);
            counted.decoded_s = Some((first, decoded));
        }
        span.ordered &= shown.is_some();
        if flags.contains('D') {
            span.hidden += 1;
            return;
        }
        if span.packets == 0 {
            (span.start_s, span.last_s, span.end_s) = (at, at, end);
        }
        span.packets += 1;
        span.clean_start &= at >= span.start_s;
        span.start_s = span.start_s.min(at);
        span.end_s = span.end_s.max(end);
        if at >= span.last_s {
            (span.last_s, counted.last_duration_s) = (at, duration);
        }
    }

    fn done(self, container: Container) -> Result<Survey, ProbeError> {
        if self.packets > PACKETS_MAX {
            return Err(ProbeError::TooLong);
        }
        let facts: Facts = serde_json::from_str(&self.header)?;
        let spans = self.streams.into_iter().filter_map(|(index, counted)| {
            let mut span = counted.span;
            if counted.last_duration_s.is_none() && span.packets > 1 {
                let mean = (span.last_s - span.start_s) / (span.packets - 1) as f64;
                span.end_s = span.end_s.max(span.last_s + mean);
            }
            // ffprobe has the durations of pictures from the pictures, which know nothing of new
            // times; the last one's is in the header of an MP4.
            let stream = facts.streams.iter().find(|stream| stream.index == index);
            let pictures = stream.filter(|stream| stream.codec_type == "video");
            let end = pictures.and_then(Stream::end_s);
            if let Some(end) = end.filter(|end| *end > span.last_s)
                && container == Container::Mov
                && span.hidden == 0
            {
                span.end_s = end;
            }
            let decoded = counted.decoded_s.filter(|_| counted.timed);
            span.decoding_s = decoded.map(|(first, last)| last - first);
            (span.packets > 0).then_some((index, span))
        });
        let spans = spans.collect();
        Ok(Survey { facts, spans })
    }
}

/// The number that follows `name`.
fn number<T: std::str::FromStr>(line: &str, name: &str) -> Option<T> {
    let rest = &line[line.find(name)? + name.len()..];
    let end = rest.find([' ', ',', '"']).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survey(packets: &[&str]) -> Survey {
        let mut surveyor = Surveyor::default();
        let lines = ["{", "    \"packets\": ["].into_iter();
        let lines = lines.chain(packets.iter().copied());
        let rest = [
            "    ],",
            "    \"streams\": [],",
            "    \"format\": { \"start_time\": \"0.1\" }",
            "}",
        ];
        for line in lines.chain(rest) {
            surveyor.take_in(line);
        }
        surveyor.done(Container::Mov).unwrap()
    }

    fn packet(stream: u32, pts: &str, dts: &str, duration: &str, flags: &str) -> String {
        format!(
            "        {{ \"stream_index\": {stream}, \"pts_time\": \"{pts}\", \"dts_time\": \"{dts}\", \
             \"duration_time\": \"{duration}\", \"flags\": \"{flags}\" }},"
        )
    }

    fn span(packets: &[String]) -> Span {
        let packets: Vec<&str> = packets.iter().map(String::as_str).collect();
        survey(&packets).spans[&0]
    }

    #[test]
    fn a_span_goes_from_the_first_shown_to_the_end_of_the_last() {
        let span = span(&[
            packet(0, "0.100000", "0.000000", "0.040000", "K_"),
            packet(0, "0.220000", "0.040000", "0.040000", "__"),
            packet(1, "9.000000", "9.000000", "0.040000", "__"),
            packet(0, "0.140000", "0.080000", "0.040000", "__"),
        ]);
        assert_eq!((span.packets, span.hidden), (3, 0));
        assert!((span.duration_s() - 0.16).abs() < 1e-9);
        assert!(span.clean_start && span.ordered);
        assert!((span.decoding_s.unwrap() - 0.08).abs() < 1e-9);
        assert!((survey(&[]).facts.start_s() - 0.1).abs() < 1e-9);
        assert!(survey(&[]).spans.is_empty());
    }

    #[test]
    fn what_is_wrong_with_a_stream_is_seen() {
        // Cut by an edit list: decoded, not shown.
        let cut = span(&[
            packet(0, "-0.040000", "-0.080000", "0.040000", "KD"),
            packet(0, "0.000000", "-0.040000", "0.040000", "__"),
        ]);
        assert_eq!((cut.packets, cut.hidden, cut.start_s), (1, 1, 0.0));
        let no_key = span(&[packet(0, "0.0", "0.0", "0.04", "__")]);
        assert!(!no_key.clean_start);
        let leading = span(&[
            packet(0, "0.080000", "0.000000", "0.040000", "K_"),
            packet(0, "0.040000", "0.040000", "0.040000", "__"),
        ]);
        assert!(!leading.clean_start);
        let backwards = span(&[
            packet(0, "0.080000", "0.080000", "0.040000", "K_"),
            packet(0, "0.120000", "0.040000", "0.040000", "__"),
        ]);
        assert!(!backwards.ordered);
        let timeless = span(&[packet(0, "N/A", "0.0", "0.04", "K_")]);
        assert!(!timeless.ordered);
    }

    #[test]
    fn a_duration_that_is_missing_is_the_mean_one() {
        let span = span(&[
            packet(0, "0.000000", "0.000000", "N/A", "K_"),
            packet(0, "0.050000", "0.050000", "N/A", "__"),
            packet(0, "0.080000", "0.080000", "N/A", "__"),
        ]);
        assert!((span.end_s - 0.12).abs() < 1e-9, "{span:?}");
    }
}
