//! How far an item is.

use std::sync::atomic::{AtomicU32, Ordering};

const WHOLE: f64 = 1_000_000.0;

/// A fraction that one writes and others read.
#[derive(Debug, Default)]
pub struct Progress(AtomicU32);

impl Progress {
    /// Sets it, 0 to 1.
    pub fn set(&self, fraction: f64) {
        // NaN becomes 0.
        let parts = (fraction.clamp(0.0, 1.0) * WHOLE) as u32;
        self.0.store(parts, Ordering::Relaxed);
    }

    /// What it is, 0 to 1.
    pub fn get(&self) -> f64 {
        f64::from(self.0.load(Ordering::Relaxed)) / WHOLE
    }
}
