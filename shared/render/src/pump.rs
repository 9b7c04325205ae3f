//! The pump: frames filmed on several threads and written in order.
//!
//! Guarantee: at most three frames a thread are in memory, whatever the reader's pace; when the
//! reader goes away or `stop` is cancelled, all threads end at the next frame.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use fast_image_resize::Resizer;
use photofinish_contract::request::Motion;
use tokio_util::sync::CancellationToken;

use crate::camera::{self, Rect};
use crate::stage::Stage;

/// What a clip shows.
#[derive(Debug, Clone)]
pub struct Shot {
    /// The picture.
    pub stage: Stage,
    /// The camera's way.
    pub motion: Motion,
    /// Frames of the clip.
    pub frames: u32,
}

impl Shot {
    fn rect(&self, n: u32) -> Rect {
        camera::rectangle(&self.motion, n, self.frames, self.stage.base)
    }
}

/// Films all frames on `threads` threads into `sink`.
pub fn pump(
    shot: &Shot,
    threads: usize,
    sink: &mut impl Write,
    stop: &CancellationToken,
) -> io::Result<()> {
    if shot.rect(0) == shot.rect(shot.frames - 1) {
        return pump_still(shot, sink, stop);
    }
    let threads = threads.clamp(1, shot.frames as usize);
    std::thread::scope(|scope| {
        let mut lines = Vec::with_capacity(threads);
        for first in 0..threads {
            let (filmed_tx, filmed) = sync_channel(1);
            let (used, used_rx) = sync_channel(3);
            lines.push(Line { filmed, used });
            scope.spawn(move || film(shot, (first, threads), &filmed_tx, &used_rx, stop));
        }
        // Owns the lines: when it returns, however, the threads find nobody and end.
        write_in_order(shot, lines, sink)
    })
}

/// The two ends of one filming thread that the writer holds.
struct Line {
    filmed: Receiver<io::Result<Vec<u8>>>,
    used: SyncSender<Vec<u8>>,
}

fn film(
    shot: &Shot,
    (first, step): (usize, usize),
    filmed: &SyncSender<io::Result<Vec<u8>>>,
    used: &Receiver<Vec<u8>>,
    stop: &CancellationToken,
) {
    let mut resizer = Resizer::new();
    for n in (first..shot.frames as usize).step_by(step) {
        if stop.is_cancelled() {
            return;
        }
        let mut frame = used
            .try_recv()
            .unwrap_or_else(|_| vec![0; shot.stage.frame_bytes()]);
        let made = shot
            .stage
            .film(&mut resizer, shot.rect(n as u32), &mut frame)
            .map(|()| frame)
            .map_err(io::Error::other);
        if filmed.send(made).is_err() {
            return;
        }
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the threads end when the lines are dropped"
)]
fn write_in_order(shot: &Shot, lines: Vec<Line>, sink: &mut impl Write) -> io::Result<()> {
    for line in lines.iter().cycle().take(shot.frames as usize) {
        let frame = line
            .filmed
            .recv()
            .map_err(|_| io::Error::other("filming was stopped"))??;
        sink.write_all(&frame)?;
        // Full or gone: the buffer is simply freed.
        drop(line.used.try_send(frame));
    }
    sink.flush()
}

fn pump_still(shot: &Shot, sink: &mut impl Write, stop: &CancellationToken) -> io::Result<()> {
    let mut frame = vec![0; shot.stage.frame_bytes()];
    shot.stage
        .film(&mut Resizer::new(), shot.rect(0), &mut frame)
        .map_err(io::Error::other)?;
    for _ in 0..shot.frames {
        if stop.is_cancelled() {
            return Err(io::Error::other("filming was stopped"));
        }
        sink.write_all(&frame)?;
    }
    sink.flush()
}
