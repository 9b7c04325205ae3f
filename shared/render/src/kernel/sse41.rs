//! 128 bits at once, for processors with SSE4.1 but not AVX2.

use std::arch::x86_64::{
    __m128i, _mm_add_epi8, _mm_add_epi16, _mm_add_epi32, _mm_cvtepi8_epi16, _mm_madd_epi16,
    _mm_mulhrs_epi16, _mm_packs_epi16, _mm_packs_epi32, _mm_set1_epi8, _mm_set1_epi16,
    _mm_set1_epi32, _mm_shuffle_epi8, _mm_srai_epi16, _mm_srai_epi32, _mm_xor_si128,
};

use super::across::{GROUP, Group, WINDOW, Weights};
use super::{Across, COMPONENT_BITS, Component, DOWN_BITS, Down, scalar};

/// Samples that are written at once.
const WRITE: usize = 16;

#[inline]
#[target_feature(enable = "sse4.1")]
fn window(row: &[u8], at: usize) -> __m128i {
    let bytes: &[u8; WINDOW] = row[at..].first_chunk().expect("rows have slack");
    bytemuck::cast(*bytes)
}

#[target_feature(enable = "sse4.1")]
pub(super) fn across(row: &[u8], across: &Across, out: &mut [i16]) {
    if across.groups.is_empty() {
        return one_by_one(row, across, out);
    }
    let weights = across.weights.chunks_exact(across.pairs);
    let (out, _) = out.as_chunks_mut::<GROUP>();
    for ((out, group), weights) in out.iter_mut().zip(&across.groups).zip(weights) {
        let lanes = [
            lane::<0>(row, group, weights),
            lane::<1>(row, group, weights),
        ];
        *out = bytemuck::cast(lanes);
    }
}

#[inline]
#[target_feature(enable = "sse4.1")]
fn lane<const LANE: usize>(row: &[u8], group: &Group, weights: &[Weights]) -> __m128i {
    let next = _mm_set1_epi8(2);
    let sums: [__m128i; 2] = std::array::from_fn(|half| {
        let samples = window(row, group.bases[half][LANE] as usize);
        let masks: [__m128i; 2] = bytemuck::cast(group.masks[half]);
        let mut mask = masks[LANE];
        let mut sum = _mm_set1_epi32(1 << 14);
        for pair in weights {
            let pair: [__m128i; 2] = bytemuck::cast(pair[half]);
            let products = _mm_madd_epi16(_mm_shuffle_epi8(samples, mask), pair[LANE]);
            sum = _mm_add_epi32(sum, products);
            mask = _mm_add_epi8(mask, next);
        }
        // Samples were the high bytes: the sums are 256 times those of the scalar path.
        _mm_srai_epi32::<15>(sum)
    });
    _mm_packs_epi32(sums[0], sums[1])
}

#[target_feature(enable = "sse4.1")]
fn one_by_one(row: &[u8], across: &Across, out: &mut [i16]) {
    let axis = &across.axis;
    let weights = axis.weights.chunks_exact(axis.taps);
    for ((out, &first), weights) in out.iter_mut().zip(&axis.first).zip(weights) {
        let samples = &row[first as usize..][..axis.taps];
        let (samples, samples_left) = samples.as_chunks::<8>();
        let (weights, weights_left) = weights.as_chunks::<8>();
        let mut sums = _mm_set1_epi32(0);
        for (samples, weights) in samples.iter().zip(weights) {
            let bytes = u128::from(u64::from_le_bytes(*samples));
            let samples = _mm_cvtepi8_epi16(bytemuck::cast(bytes));
            sums = _mm_add_epi32(sums, _mm_madd_epi16(samples, bytemuck::cast(*weights)));
        }
        let sums: [i32; 4] = bytemuck::cast(sums);
        let left: i32 = samples_left
            .iter()
            .zip(weights_left)
            .map(|(&sample, &weight)| i32::from(sample as i8) * i32::from(weight))
            .sum();
        *out = scalar::rounded(sums.iter().sum::<i32>() + left);
    }
}

#[target_feature(enable = "sse4.1")]
pub(super) fn down(down: Down<'_>, out: &mut [u8]) {
    let flip = _mm_set1_epi8(down.flip as i8);
    let (chunks, _) = out.as_chunks_mut::<WRITE>();
    for (n, out) in chunks.iter_mut().enumerate() {
        let half = _mm_set1_epi16(1 << (DOWN_BITS - 1));
        let (mut near, mut far) = (half, half);
        for (k, &weight) in down.weights.iter().enumerate() {
            let (row, _) = down.ring.row(down.first + k).as_chunks::<WRITE>();
            let [a, b]: [__m128i; 2] = bytemuck::cast(row[n]);
            let weight = _mm_set1_epi16(weight);
            near = _mm_add_epi16(near, _mm_mulhrs_epi16(a, weight));
            far = _mm_add_epi16(far, _mm_mulhrs_epi16(b, weight));
        }
        let near = _mm_srai_epi16::<DOWN_BITS>(near);
        let far = _mm_srai_epi16::<DOWN_BITS>(far);
        *out = bytemuck::cast(_mm_xor_si128(_mm_packs_epi16(near, far), flip));
    }
    let done = out.len() / WRITE * WRITE;
    scalar::down(down, done, &mut out[done..]);
}

/// Bytes that are read for 16 pixels: the last load begins at pixel 12.
const READ: usize = 12 * 3 + 16;

#[target_feature(enable = "sse4.1")]
pub(super) fn component(rgb: &[u8], component: &Component, out: &mut [u8]) {
    const X: u8 = 0x80;
    const RED_GREEN: [u8; 16] = [0, X, 1, X, 3, X, 4, X, 6, X, 7, X, 9, X, 10, X];
    const BLUE: [u8; 16] = [2, X, X, X, 5, X, X, X, 8, X, X, X, 11, X, X, X];
    let [r, g, b] = component.weights;
    let (red_green_mask, blue_mask): (__m128i, __m128i) =
        (bytemuck::cast(RED_GREEN), bytemuck::cast(BLUE));
    let red_green: __m128i = bytemuck::cast([[r, g]; 4]);
    let blue: __m128i = bytemuck::cast([[b, 0]; 4]);
    let offset = _mm_set1_epi32(component.offset);
    let four = |bytes: &[u8; READ], pixel: usize| {
        let pixels = window(bytes, pixel * 3);
        let rg = _mm_madd_epi16(_mm_shuffle_epi8(pixels, red_green_mask), red_green);
        let b = _mm_madd_epi16(_mm_shuffle_epi8(pixels, blue_mask), blue);
        _mm_srai_epi32::<COMPONENT_BITS>(_mm_add_epi32(_mm_add_epi32(rg, b), offset))
    };
    let (chunks, _) = out.as_chunks_mut::<WRITE>();
    let mut done = 0;
    for out in chunks {
        let Some(bytes) = rgb.get(done * 3..).and_then(|rest| rest.first_chunk()) else {
            break;
        };
        let near = _mm_packs_epi32(four(bytes, 0), four(bytes, 4));
        let far = _mm_packs_epi32(four(bytes, 8), four(bytes, 12));
        *out = bytemuck::cast(_mm_packs_epi16(near, far));
        done += WRITE;
    }
    scalar::component(&rgb[done * 3..], component, &mut out[done..]);
}
