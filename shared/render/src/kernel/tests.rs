//! Vectors against the scalar path, bit for bit.

use proptest::prelude::*;

use super::*;
use crate::axis::{SLACK, Span};
use crate::convert::{BLUE, LUMA, RED};

/// Bytes that look like nothing, the same for the same seed.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // Mostly the extremes: those overflow first.
        match state % 4 {
            0 => 0x80,
            1 => 0x7F,
            _ => (state >> 32) as u8,
        }
    };
    (0..len).map(|_| next()).collect()
}

fn across_of(simd: Simd, row: &[u8], across: &Across) -> Vec<i16> {
    let mut out = vec![0; across.outputs()];
    simd.across(row, across, &mut out);
    out
}

proptest! {
    #[test]
    fn a_row_across_is_the_same_for_all(
        source in 1_usize..700,
        len in 1_usize..300,
        start in 0.0..1.0_f64,
        part in 0.02..1.0_f64,
        seed: u64,
    ) {
        let length = source as f64 * part;
        let start = (source as f64 - length) * start;
        let mut across = Across::default();
        across.set(Span { start, step: length / len as f64, len, source });
        let mut row = noise(source + SLACK, seed);
        let wanted = across_of(Simd::Scalar, &row, &across);
        for &simd in Simd::all() {
            prop_assert_eq!(&across_of(simd, &row, &across), &wanted, "{:?}", simd);
        }
        // What lies behind a row counts for nothing.
        row[source..].fill(0);
        prop_assert_eq!(across_of(Simd::Scalar, &row, &across), wanted);
    }

    #[test]
    fn rows_down_are_the_same_for_all(
        width in 1_usize..150,
        source in 1_usize..60,
        step in 0.05..5.0_f64,
        flip in prop_oneof![Just(0_u8), Just(0x80)],
        seed: u64,
    ) {
        let mut axis = crate::axis::Axis::default();
        let len = ((source as f64 / step) as usize).max(1);
        axis.set(Span { start: 0.0, step: step.min(source as f64), len, source });
        let stride = width.next_multiple_of(2 * GROUP);
        let values = noise(stride * axis.taps, seed);
        let ring = Ring {
            // As large as the pass across makes them.
            data: values.iter().map(|&v| i16::from(v as i8) * 204).collect(),
            stride,
            rows: axis.taps,
        };
        for (&first, weights) in axis.first.iter().zip(axis.weights.chunks(axis.taps)) {
            let down = Down { ring: &ring, first: first as usize, weights, flip };
            let mut wanted = vec![0; width];
            Simd::Scalar.down(down, &mut wanted);
            for &simd in Simd::all() {
                let mut out = vec![0; width];
                simd.down(down, &mut out);
                prop_assert_eq!(&out, &wanted, "{:?}", simd);
            }
        }
    }

    #[test]
    fn components_are_the_same_for_all(width in 0_usize..200, seed: u64) {
        let rgb = noise(width * 3, seed);
        for component in [LUMA, BLUE, RED] {
            let mut wanted = vec![0; width];
            Simd::Scalar.component(&rgb, &component, &mut wanted);
            for &simd in Simd::all() {
                let mut out = vec![0; width];
                simd.component(&rgb, &component, &mut out);
                prop_assert_eq!(&out, &wanted, "{:?}", simd);
            }
        }
    }
}

#[test]
fn the_best_is_one_of_all_and_vectors_are_tried_here() {
    assert_eq!(Simd::all().last(), Some(&Simd::best()));
    #[cfg(target_arch = "x86_64")]
    assert!(Simd::all().contains(&Simd::Avx2), "run tests where AVX2 is");
}
