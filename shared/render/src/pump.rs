//! The pump: frames filmed on several threads and written in order, band by band.
//!
//! Guarantee: at most a frame and a band for each thread are in memory, and the band that is written (on a single
//! thread one band), whatever the reader's pace; when the reader goes away or `stop` is cancelled, all threads end at
//! the next frame.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use photofinish_contract::request::Motion;
use tokio_util::sync::CancellationToken;

use crate::camera::{self, Rect};
use crate::stage::{Band, Camera, Stage};

/// What a clip shows.
#[derive(Debug, Clone)]
pub struct Shot {
    /// The picture.
    pub stage: Stage,
    /// The camera's way.
    pub motion: Motion,
    /// Frames of the clip, at least 1.
    pub frames: u32,
}

impl Shot {
    fn rect(&self, n: u32) -> Rect {
        camera::rectangle(&self.motion, n, self.frames, self.stage.base)
    }

    /// Frame `n` (from 0) as a whole: planar 4:2:0, [`Stage::frame_bytes`] long.
    pub fn frame(&self, n: u32) -> Vec<u8> {
        let mut camera = self.stage.camera();
        camera.aim(&self.stage, self.rect(n));
        let mut frame = vec![0; self.stage.frame_bytes()];
        let mut rest = frame.as_mut_slice();
        for band in self.stage.bands() {
            let (out, after) = rest.split_at_mut(band.bytes());
            camera.film(&self.stage, &band, out);
            rest = after;
        }
        frame
    }
}

/// Films all frames on `threads` threads into `sink`.
pub fn pump(
    shot: &Shot,
    threads: usize,
    sink: &mut impl Write,
    stop: &CancellationToken,
) -> io::Result<()> {
    let bands = shot.stage.bands();
    if shot.rect(0) == shot.rect(shot.frames - 1) {
        pump_still(shot, sink, stop)?;
    } else if threads.min(shot.frames as usize) < 2 {
        pump_alone(shot, &bands, sink, stop)?;
    } else {
        let threads = threads.min(shot.frames as usize);
        std::thread::scope(|scope| {
            let mut lines = Vec::with_capacity(threads);
            for first in 0..threads {
                let (filmed_tx, filmed) = sync_channel(bands.len());
                let (used, used_rx) = sync_channel(bands.len() + 1);
                lines.push(Line { filmed, used });
                let bands = &bands;
                let turns = (first as u32..shot.frames).step_by(threads);
                scope.spawn(move || film(shot, bands, turns, (&filmed_tx, &used_rx), stop));
            }
            // Owns the lines: when it returns, however, the threads find nobody and end.
            write_in_order(shot, bands.len(), lines, sink)
        })?;
    }
    sink.flush()
}

/// The two ends of one filming thread that the writer holds.
struct Line {
    filmed: Receiver<Vec<u8>>,
    used: SyncSender<Vec<u8>>,
}

fn film(
    shot: &Shot,
    bands: &[Band],
    turns: impl Iterator<Item = u32>,
    (filmed, used): (&SyncSender<Vec<u8>>, &Receiver<Vec<u8>>),
    stop: &CancellationToken,
) {
    let mut camera = shot.stage.camera();
    for n in turns {
        if stop.is_cancelled() {
            return;
        }
        camera.aim(&shot.stage, shot.rect(n));
        for band in bands {
            let mut out = used.try_recv().unwrap_or_default();
            out.resize(band.bytes(), 0);
            camera.film(&shot.stage, band, &mut out);
            if filmed.send(out).is_err() {
                return;
            }
        }
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the threads end when the lines are dropped"
)]
fn write_in_order(
    shot: &Shot,
    bands: usize,
    lines: Vec<Line>,
    sink: &mut impl Write,
) -> io::Result<()> {
    for line in lines.iter().cycle().take(shot.frames as usize) {
        for _ in 0..bands {
            let band = line.filmed.recv().map_err(|_| stopped())?;
            sink.write_all(&band)?;
            // Full or gone: the buffer is simply freed.
            drop(line.used.try_send(band));
        }
    }
    Ok(())
}

/// Films and writes on this thread: a band is written while it is in the processor's cache.
fn pump_alone(
    shot: &Shot,
    bands: &[Band],
    sink: &mut impl Write,
    stop: &CancellationToken,
) -> io::Result<()> {
    let mut camera: Camera = shot.stage.camera();
    let mut out = Vec::new();
    for n in 0..shot.frames {
        if stop.is_cancelled() {
            return Err(stopped());
        }
        camera.aim(&shot.stage, shot.rect(n));
        for band in bands {
            out.resize(band.bytes(), 0);
            camera.film(&shot.stage, band, &mut out);
            sink.write_all(&out)?;
        }
    }
    Ok(())
}

fn pump_still(shot: &Shot, sink: &mut impl Write, stop: &CancellationToken) -> io::Result<()> {
    let frame = shot.frame(0);
    for _ in 0..shot.frames {
        if stop.is_cancelled() {
            return Err(stopped());
        }
        sink.write_all(&frame)?;
    }
    Ok(())
}

fn stopped() -> io::Error {
    io::Error::other("filming was stopped")
}
