//! The pump: frames filmed on several threads, all at the same frame as far as they can, and written in order.
//!
//! Nouns: a *unit* is a band to film or a frame to aim at, taken by whoever is free; a band's *turn* is its place in
//! the file.
//!
//! Guarantee: at most a frame for each thread is in memory (as a rule a band, so that what is written comes from the
//! processor's cache), whatever the reader's pace; when the reader goes away or `stop` is cancelled, all threads end
//! at the next frame.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, PoisonError, RwLock, RwLockReadGuard};

use photofinish_contract::request::Motion;
use tokio_util::sync::CancellationToken;

use crate::camera::{self, Rect};
use crate::stage::{Aim, Band, Stage};

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
        let mut aim = Aim::default();
        aim.set(&self.stage, self.rect(n));
        let mut camera = self.stage.camera();
        let mut frame = vec![0; self.stage.frame_bytes()];
        let mut rest = frame.as_mut_slice();
        for band in self.stage.bands() {
            let (out, after) = rest.split_at_mut(band.bytes());
            camera.film(&self.stage, &aim, &band, out);
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
    let set = Set::new(shot, threads);
    let relay = Relay {
        sink: Mutex::new(sink),
        turn: AtomicU32::new(0),
        fault: Mutex::new(None),
        told: Condvar::new(),
    };
    std::thread::scope(|scope| {
        // Whoever ends early has told the relay why.
        let work = || {
            let _all = film(&set, &relay, stop);
        };
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    relay.over()
}

/// What is to be done, in units that threads take one after the other: for each frame the aim of the next one, then
/// its bands. So an aim is ready long before it is needed.
struct Set<'a> {
    shot: &'a Shot,
    bands: Vec<Band>,
    /// The unit that is taken next.
    next: AtomicU32,
    /// The aim of frame `n` lies at `n % aims.len()`, with the frame it is of, until all of that is written.
    aims: Vec<RwLock<(u32, Aim)>>,
}

/// One unit.
enum Unit<'a> {
    /// Aim at this frame.
    Aim(u32),
    /// Film a band of this frame; with its turn to be written.
    Band(u32, &'a Band, u32),
}

impl<'a> Set<'a> {
    fn new(shot: &'a Shot, threads: usize) -> Self {
        let set = Self {
            shot,
            bands: shot.stage.bands(),
            next: AtomicU32::new(0),
            aims: (0..threads + 3).map(|_| RwLock::default()).collect(),
        };
        set.aim(0);
        set
    }

    fn take(&self) -> Option<Unit<'_>> {
        let bands = self.bands.len() as u32;
        let unit = self.next.fetch_add(1, Ordering::Relaxed);
        let (frame, place) = (unit / (bands + 1), unit % (bands + 1));
        if frame >= self.shot.frames {
            return None;
        }
        Some(match place.checked_sub(1) {
            None => Unit::Aim(frame + 1),
            Some(band) => Unit::Band(frame, &self.bands[band as usize], frame * bands + band),
        })
    }

    /// The turn at which nobody needs the aim any more whose place this frame's takes.
    fn free_from(&self, frame: u32) -> u32 {
        let before = (frame + 1).saturating_sub(self.aims.len() as u32);
        before * self.bands.len() as u32
    }

    fn aim(&self, frame: u32) {
        let slot = &self.aims[frame as usize % self.aims.len()];
        let mut slot = slot.write().unwrap_or_else(PoisonError::into_inner);
        slot.1.set(&self.shot.stage, self.shot.rect(frame));
        slot.0 = frame;
    }

    /// The aim of a frame, if it is ready.
    fn aimed(&self, frame: u32) -> Option<RwLockReadGuard<'_, (u32, Aim)>> {
        let slot = &self.aims[frame as usize % self.aims.len()];
        let slot = slot.read().unwrap_or_else(PoisonError::into_inner);
        (slot.0 == frame).then_some(slot)
    }
}

/// What filming threads share: who has the turn to write, and the first fault, which ends them all.
struct Relay<'a, W> {
    sink: Mutex<&'a mut W>,
    /// The band that is written now, counted through all frames, or [`OVER`].
    turn: AtomicU32,
    fault: Mutex<Option<io::Error>>,
    told: Condvar,
}

/// No band has this number.
const OVER: u32 = u32::MAX;

/// A thread's turns are over; nobody waits for the others.
struct Over;

impl<W: Write> Relay<'_, W> {
    fn has(&self, turn: u32) -> bool {
        self.turn.load(Ordering::Acquire) == turn
    }

    fn reached(&self, turn: u32) -> bool {
        self.turn.load(Ordering::Acquire) >= turn
    }

    fn write(&self, bytes: &[u8]) -> Result<(), Over> {
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        let written = sink.write_all(bytes);
        drop(sink);
        written.map_err(|error| self.end(error))
    }

    /// Waits for something that is [told](Self::tell).
    fn wait<T>(&self, found: impl Fn() -> Option<T>) -> Result<T, Over> {
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if self.has(OVER) {
                return Err(Over);
            }
            if let Some(found) = found() {
                return Ok(found);
            }
            let woken = self.told.wait(fault);
            fault = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn pass(&self, turn: u32) {
        // Whoever ended it meanwhile has the last word.
        let _ended =
            self.turn
                .compare_exchange(turn, turn + 1, Ordering::AcqRel, Ordering::Acquire);
        self.tell();
    }

    fn tell(&self) {
        // Under the lock, or a thread that is about to wait would not hear of it.
        let _fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        self.told.notify_all();
    }

    fn end(&self, error: io::Error) -> Over {
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        fault.get_or_insert(error);
        self.turn.store(OVER, Ordering::Release);
        self.told.notify_all();
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

/// Takes units until there are none. A band whose turn it is is written while it is in the processor's cache, one
/// before its turn is kept.
fn film<W: Write>(set: &Set<'_>, relay: &Relay<'_, W>, stop: &CancellationToken) -> Option<()> {
    let _panics = Panics(relay);
    let stage = &set.shot.stage;
    let mut camera = stage.camera();
    let mut last = None;
    let mut kept = Kept::default();
    while let Some(unit) = set.take() {
        let (frame, band, turn) = match unit {
            Unit::Aim(frame) => {
                if stop.is_cancelled() {
                    relay.end(stopped());
                    return None;
                }
                if frame < set.shot.frames {
                    let free = set.free_from(frame);
                    kept.write_before(free, relay)?;
                    relay.wait(|| relay.reached(free).then_some(())).ok()?;
                    set.aim(frame);
                    relay.tell();
                }
                continue;
            }
            Unit::Band(frame, band, turn) => (frame, band, turn),
        };
        while kept.bytes + band.bytes() > stage.frame_bytes() {
            kept.write_first(relay)?;
        }
        let aim = if let Some(aim) = set.aimed(frame) {
            aim
        } else {
            // Whoever makes it may wait for the bands that are kept here.
            kept.write_before(OVER, relay)?;
            relay.wait(|| set.aimed(frame)).ok()?
        };
        if last != Some((frame, turn.wrapping_sub(1))) {
            camera.cut();
        }
        camera.film(stage, &aim.1, band, kept.add(turn, band.bytes()));
        drop(aim);
        last = Some((frame, turn));
        while kept.first().is_some_and(|first| relay.has(first)) {
            kept.write_first(relay)?;
        }
    }
    kept.write_before(OVER, relay)
}

/// Bands that were filmed before their turn.
#[derive(Debug, Default)]
struct Kept {
    bands: VecDeque<(u32, Vec<u8>)>,
    /// Bytes of them all.
    bytes: usize,
    /// Their memory, used again: what was written last is still in the processor's cache.
    spare: Vec<Vec<u8>>,
}

impl Kept {
    fn first(&self) -> Option<u32> {
        self.bands.front().map(|(turn, _)| *turn)
    }

    /// Room for one more band.
    fn add(&mut self, turn: u32, bytes: usize) -> &mut [u8] {
        let mut room = self.spare.pop().unwrap_or_default();
        room.resize(bytes, 0);
        self.bytes += bytes;
        let (_, room) = self.bands.push_back_mut((turn, room));
        room
    }

    /// Writes those whose turn is before this one.
    fn write_before<W: Write>(&mut self, turn: u32, relay: &Relay<'_, W>) -> Option<()> {
        while self.first().is_some_and(|first| first < turn) {
            self.write_first(relay)?;
        }
        Some(())
    }

    /// Writes the first of them when it is its turn.
    fn write_first<W: Write>(&mut self, relay: &Relay<'_, W>) -> Option<()> {
        let (turn, band) = self.bands.pop_front()?;
        relay.wait(|| relay.has(turn).then_some(())).ok()?;
        relay.write(&band).ok()?;
        relay.pass(turn);
        self.bytes -= band.len();
        self.spare.push(band);
        Some(())
    }
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
