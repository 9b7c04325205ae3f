//! The same, one sample after the other: what vectors do is defined here.

use super::{ACROSS_BITS, Across, COMPONENT_BITS, Component, DOWN_BITS, Down};
use crate::axis::ONE;

const SHIFT: i32 = ONE.ilog2() as i32 - ACROSS_BITS;

pub(super) fn across(row: &[u8], across: &Across, out: &mut [i16]) {
    let axis = &across.axis;
    let weights = axis.weights.chunks_exact(axis.taps);
    for ((out, &first), weights) in out.iter_mut().zip(&axis.first).zip(weights) {
        let samples = &row[first as usize..][..axis.taps];
        let sum: i32 = samples
            .iter()
            .zip(weights)
            .map(|(&sample, &weight)| i32::from(sample as i8) * i32::from(weight))
            .sum();
        *out = rounded(sum);
    }
}

/// A sum of samples and weights as the pass across gives it.
pub(super) fn rounded(sum: i32) -> i16 {
    ((sum + (1 << (SHIFT - 1))) >> SHIFT) as i16
}

/// Makes `out`, which begins at column `from` of the rows.
pub(super) fn down(down: Down<'_>, from: usize, out: &mut [u8]) {
    for (n, out) in out.iter_mut().enumerate() {
        let mut sum = 1 << (DOWN_BITS - 1);
        for (k, &weight) in down.weights.iter().enumerate() {
            let value = i32::from(down.ring.row(down.first + k)[from + n]);
            sum += (value * i32::from(weight) + (1 << 14)) >> 15;
        }
        let sample = (sum >> DOWN_BITS).clamp(i8::MIN.into(), i8::MAX.into()) as i8;
        *out = sample as u8 ^ down.flip;
    }
}

pub(super) fn component(rgb: &[u8], component: &Component, out: &mut [u8]) {
    let [r, g, b] = component.weights.map(i32::from);
    for (out, pixel) in out.iter_mut().zip(rgb.as_chunks::<3>().0) {
        let [red, green, blue] = pixel.map(i32::from);
        let sum = r * red + g * green + b * blue + component.offset;
        *out = (sum >> COMPONENT_BITS) as u8;
    }
}
