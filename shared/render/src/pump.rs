//! The pump: frames filmed on several threads and written in order, band by band.
//!
//! Guarantee: at most a frame for each thread is in memory (on a single thread one band), whatever the reader's pace;
//! when the reader goes away or `stop` is cancelled, all threads end at the next frame.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use photofinish_contract::request::Motion;
use tokio_util::sync::CancellationToken;

use crate::camera::{self, Rect};
use crate::stage::{Band, Stage};

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
    sink: &mut (impl Write + Send),
    stop: &CancellationToken,
) -> io::Result<()> {
    if shot.rect(0) == shot.rect(shot.frames - 1) {
        pump_still(shot, sink, stop)?;
        return sink.flush();
    }
    let bands = shot.stage.bands();
    let threads = threads.clamp(1, shot.frames as usize);
    let relay = Relay {
        sink: Mutex::new(sink),
        turn: AtomicU32::new(0),
        fault: Mutex::new(None),
        passed: Condvar::new(),
    };
    std::thread::scope(|scope| {
        let (bands, relay) = (&bands, &relay);
        let mut lines = (0..threads as u32).map(|first| {
            move || {
                let turns = (first..shot.frames).step_by(threads);
                // Whoever ends early has told the relay why.
                let _all = film(shot, bands, turns, relay, stop);
            }
        });
        // The first one is this thread's: where there is only one, nothing changes hands.
        let own = lines.next();
        for line in lines {
            scope.spawn(line);
        }
        if let Some(line) = own {
            line();
        }
    });
    relay.over()
}

/// What filming threads share: who has the turn to write, and the first fault, which ends them all.
struct Relay<'a, W> {
    sink: Mutex<&'a mut W>,
    /// The frame that is written now, or [`OVER`].
    turn: AtomicU32,
    fault: Mutex<Option<io::Error>>,
    passed: Condvar,
}

/// No frame has this number.
const OVER: u32 = u32::MAX;

/// A thread's turns are over; nobody waits for the others.
struct Over;

impl<W: Write> Relay<'_, W> {
    fn has(&self, frame: u32) -> bool {
        self.turn.load(Ordering::Acquire) == frame
    }

    fn write(&self, bytes: &[u8]) -> Result<(), Over> {
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        let written = sink.write_all(bytes);
        drop(sink);
        written.map_err(|error| self.end(error))
    }

    /// Waits until it is this frame's turn.
    fn wait(&self, frame: u32) -> Result<(), Over> {
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        while !self.has(frame) {
            if self.has(OVER) {
                return Err(Over);
            }
            let woken = self.passed.wait(fault);
            fault = woken.unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    fn pass(&self, frame: u32) {
        // Under the lock, or a thread that is about to wait would not hear of it.
        let _fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever ended it meanwhile has the last word.
        let _ended =
            self.turn
                .compare_exchange(frame, frame + 1, Ordering::AcqRel, Ordering::Acquire);
        self.passed.notify_all();
    }

    fn end(&self, error: io::Error) -> Over {
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        fault.get_or_insert(error);
        self.turn.store(OVER, Ordering::Release);
        self.passed.notify_all();
        Over
    }

    /// The end of all: everything written, or the first fault.
    fn over(self) -> io::Result<()> {
        let fault = self.fault.into_inner();
        if let Some(fault) = fault.unwrap_or_else(PoisonError::into_inner) {
            return Err(fault);
        }
        let sink = self.sink.into_inner();
        sink.unwrap_or_else(PoisonError::into_inner).flush()
    }
}

/// Ends everybody when its thread panics: they would wait for its turn for ever.
struct Panics<'a, 'b, W: Write>(&'a Relay<'b, W>);

impl<W: Write> Drop for Panics<'_, '_, W> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.end(io::Error::other("a filming thread panicked"));
        }
    }
}

/// Films some of the frames. The one whose turn it is writes each band while it is in the processor's cache; the
/// others keep theirs.
fn film<W: Write>(
    shot: &Shot,
    bands: &[Band],
    turns: impl Iterator<Item = u32>,
    relay: &Relay<'_, W>,
    stop: &CancellationToken,
) -> Option<()> {
    let _panics = Panics(relay);
    let mut camera = shot.stage.camera();
    let mut kept = Vec::new();
    for n in turns {
        if stop.is_cancelled() {
            relay.end(stopped());
            return None;
        }
        camera.aim(&shot.stage, shot.rect(n));
        let mut held = 0;
        for band in bands {
            let end = held + band.bytes();
            if kept.len() < end {
                kept.resize(end, 0);
            }
            camera.film(&shot.stage, band, &mut kept[held..end]);
            held = end;
            if relay.has(n) {
                relay.write(&kept[..held]).ok()?;
                held = 0;
            }
        }
        relay.wait(n).ok()?;
        relay.write(&kept[..held]).ok()?;
        relay.pass(n);
    }
    Some(())
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
