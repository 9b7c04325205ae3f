//! What a child says: its answer, line by line or whole, ffmpeg's progress, complaints.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::ChildStdout;
use tokio::time::Instant;

use super::FfmpegError;

/// The longest line of a child's standard output that is looked at; a longer one is passed over.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// How much of a child's complaints is kept: the last so many bytes.
pub const SAID_BYTES_MAX: usize = 4096;

/// Bytes a second at which a finished output is moved to make room for its index before it, at
/// least; ffmpeg tells nothing meanwhile.
const MOVED_BYTES_PER_S_MIN: u64 = 16 * 1024 * 1024;

/// How far ffmpeg is.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Moment {
    /// Seconds of output that are done.
    pub seconds: f64,
    /// Frames of output that are done.
    pub frames: u64,
    /// Bytes of output that are written.
    pub bytes: u64,
}

/// What standard output is for.
pub(super) enum Reading<'a> {
    /// The first so many bytes are the answer.
    Keep(usize),
    /// Each line is for this.
    Lines(&'a mut (dyn FnMut(&str) + Send)),
    /// ffmpeg's progress, for this.
    Progress(&'a (dyn Fn(Moment) + Sync)),
}

/// Reads standard output to its end; a child that tells its progress is given up when there is
/// none for `stall_max` and as long as its output may take to be moved.
pub(super) async fn read(
    program: &str,
    stall_max: Option<Duration>,
    out: Option<ChildStdout>,
    reading: Reading<'_>,
) -> Result<Vec<u8>, FfmpegError> {
    let Some(out) = out else {
        return Ok(Vec::new());
    };
    match reading {
        Reading::Keep(max) => return Ok(read_first(out, max).await),
        Reading::Lines(line) => {
            let mut lines = Lines::new(out);
            while lines.more(line).await {}
        }
        Reading::Progress(tell) => {
            let mut lines = Lines::new(out);
            let (mut newest, mut told) = (Moment::default(), Moment::default());
            let mut advanced = Instant::now();
            loop {
                let moved_s = newest.bytes / MOVED_BYTES_PER_S_MIN;
                let mut line = |line: &str| newest.take_in(line);
                let more = lines.more(&mut line);
                let more = match stall_max {
                    Some(limit) => {
                        let limit = limit + Duration::from_secs(moved_s);
                        tokio::time::timeout_at(advanced + limit, more)
                            .await
                            .map_err(|_| FfmpegError::Stalled {
                                program: program.to_owned(),
                                limit,
                            })?
                    }
                    None => more.await,
                };
                if newest != told {
                    (told, advanced) = (newest, Instant::now());
                    tell(told);
                }
                if !more {
                    break;
                }
            }
        }
    }
    Ok(Vec::new())
}

impl Moment {
    /// Takes in a line of ffmpeg's progress.
    fn take_in(&mut self, line: &str) {
        let Some((name, value)) = line.split_once('=') else {
            return;
        };
        // What is not known yet is "N/A"; before the first frame is shown, times are negative.
        match name {
            "out_time_us" => {
                self.seconds = value
                    .parse()
                    .map_or(self.seconds, |us: f64| us.max(0.0) / 1e6);
            }
            "frame" => self.frames = value.parse().unwrap_or(self.frames),
            "total_size" => self.bytes = value.parse().unwrap_or(self.bytes),
            _ => {}
        }
    }
}

/// Lines of a pipe.
struct Lines<R> {
    from: R,
    kept: Vec<u8>,
    buffer: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    fn new(from: R) -> Self {
        Self {
            from,
            kept: Vec::new(),
            buffer: vec![0; 16 * 1024],
        }
    }

    /// Reads a little and hands on the lines in it; false at the end.
    async fn more(&mut self, line: &mut (dyn FnMut(&str) + Send)) -> bool {
        let n = self.from.read(&mut self.buffer).await.unwrap_or(0);
        let mut pieces = self.buffer[..n].split(|&byte| byte == b'\n');
        let mut piece = pieces.next().unwrap_or_default();
        for next in pieces {
            self.kept.extend_from_slice(piece);
            if self.kept.len() <= LINE_BYTES_MAX {
                line(&String::from_utf8_lossy(&self.kept));
            }
            self.kept.clear();
            piece = next;
        }
        // Of a line that is too long, enough is kept to know that it is.
        let room = (LINE_BYTES_MAX + 1).saturating_sub(self.kept.len());
        self.kept.extend_from_slice(&piece[..piece.len().min(room)]);
        n > 0
    }
}

async fn read_first(mut from: impl AsyncRead + Unpin, max: usize) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut buffer = [0; 8192];
    // Read to the end even when full: a child whose pipe nobody reads stands still.
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        let room = max.saturating_sub(kept.len()).min(n);
        kept.extend_from_slice(&buffer[..room]);
    }
    kept
}

/// The end of what comes, at most [`SAID_BYTES_MAX`] of it.
pub(super) async fn read_last(from: Option<impl AsyncRead + Unpin>) -> String {
    let mut kept = Vec::new();
    if let Some(mut from) = from {
        let mut buffer = [0; 2048];
        while let Ok(n @ 1..) = from.read(&mut buffer).await {
            kept.extend_from_slice(&buffer[..n]);
            if kept.len() > 2 * SAID_BYTES_MAX {
                kept.drain(..kept.len() - SAID_BYTES_MAX);
            }
        }
        kept.drain(..kept.len().saturating_sub(SAID_BYTES_MAX));
    }
    String::from_utf8_lossy(&kept).trim().to_owned()
}
