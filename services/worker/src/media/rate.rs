//! Frame rates as exact fractions.

use std::fmt;

/// How far a number may be from one of NTSC's rates and still mean it: `29.97`, `23.976`.
const NTSC_WITHIN: f64 = 0.001;
const NTSC_BASES: [u32; 5] = [24, 30, 48, 60, 120];
/// What other rates are rounded to: a thousandth of a frame a second.
const PARTS: u32 = 1000;

/// Frames per second, exactly; shown as ffmpeg reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    frames: u32,
    seconds: u32,
}

impl Rate {
    /// What people mean by a number of frames per second, at least a thousandth.
    pub fn of(fps: f64) -> Self {
        let ntsc = |base: &&u32| (f64::from(**base) * 1000.0 / 1001.0 - fps).abs() < NTSC_WITHIN;
        if let Some(base) = NTSC_BASES.iter().find(ntsc) {
            return Self {
                frames: base * 1000,
                seconds: 1001,
            };
        }
        let parts = (fps * f64::from(PARTS)).round().max(1.0) as u32;
        let common = gcd(parts, PARTS);
        Self {
            frames: parts / common,
            seconds: PARTS / common,
        }
    }

    /// Seconds that so many frames last.
    pub fn seconds(self, frames: u32) -> f64 {
        f64::from(frames) * f64::from(self.seconds) / f64::from(self.frames)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.frames, self.seconds)
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rates_of_television_are_exact_and_others_as_they_are_written() {
        let cases = [
            (30.0, "30/1"),
            (29.97, "30000/1001"),
            (23.976, "24000/1001"),
            (59.94, "60000/1001"),
            (119.88, "120000/1001"),
            (30000.0 / 1001.0, "30000/1001"),
            (23.98, "1199/50"),
            (12.5, "25/2"),
            (14.985, "2997/200"),
            (1.0, "1/1"),
            (119.999_9, "120/1"),
        ];
        for (fps, text) in cases {
            assert_eq!(Rate::of(fps).to_string(), text);
        }
        assert!((Rate::of(29.97).seconds(30) - 1.001).abs() < 1e-12);
    }
}
