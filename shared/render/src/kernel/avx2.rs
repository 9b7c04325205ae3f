//! 256 bits at once, for processors with AVX2.

use std::arch::x86_64::{
    __m128i, __m256i, _mm256_add_epi8, _mm256_add_epi16, _mm256_add_epi32, _mm256_cvtepi8_epi16,
    _mm256_madd_epi16, _mm256_mulhrs_epi16, _mm256_packs_epi16, _mm256_packs_epi32,
    _mm256_permute4x64_epi64, _mm256_set_m128i, _mm256_set1_epi8, _mm256_set1_epi16,
    _mm256_set1_epi32, _mm256_shuffle_epi8, _mm256_srai_epi16, _mm256_srai_epi32, _mm256_xor_si256,
};

use super::across::{GROUP, WINDOW, Weights};
use super::{Across, COMPONENT_BITS, Component, DOWN_BITS, Down, scalar};

/// Samples that are written at once.
const WRITE: usize = 32;

/// The windows that begin at two places of a row.
///
/// # Safety
/// Both end within the row.
#[inline]
#[target_feature(enable = "avx2")]
#[expect(
    unsafe_code,
    reason = "two checks for each window were a tenth of all time"
)]
unsafe fn windows(row: &[u8], at: [u32; 2]) -> __m256i {
    let window = |at: u32| -> __m128i {
        // SAFETY: the caller's promise; an array of bytes has no alignment.
        let bytes = unsafe { &*row.as_ptr().add(at as usize).cast::<[u8; WINDOW]>() };
        bytemuck::cast(*bytes)
    };
    _mm256_set_m128i(window(at[1]), window(at[0]))
}

#[target_feature(enable = "avx2")]
pub(super) fn across(row: &[u8], across: &Across, out: &mut [i16]) {
    match across.pairs {
        _ if across.groups.is_empty() => one_by_one(row, across, out),
        3 => in_groups::<3>(row, across, out),
        4 => in_groups::<4>(row, across, out),
        5 => in_groups::<5>(row, across, out),
        _ => in_groups::<0>(row, across, out),
    }
}

/// `PAIRS` is the number of pairs of taps, 0 if it is only known at run time.
#[inline]
#[target_feature(enable = "avx2")]
#[expect(unsafe_code, reason = "as above")]
fn in_groups<const PAIRS: usize>(row: &[u8], across: &Across, out: &mut [i16]) {
    let pairs = if PAIRS == 0 { across.pairs } else { PAIRS };
    let next = _mm256_set1_epi8(2);
    let half = _mm256_set1_epi32(1 << 14);
    let weights = across.weights.chunks_exact(pairs);
    let (out, _) = out.as_chunks_mut::<GROUP>();
    assert!(across.reach <= row.len(), "rows have slack");
    for ((out, group), weights) in out.iter_mut().zip(&across.groups).zip(weights) {
        // SAFETY: `reach` is the farthest end of all windows of all groups.
        let (even, odd) = unsafe { (windows(row, group.bases[0]), windows(row, group.bases[1])) };
        let (mut even_mask, mut odd_mask) = (
            bytemuck::cast(group.masks[0]),
            bytemuck::cast(group.masks[1]),
        );
        let (mut even_sum, mut odd_sum) = (half, half);
        for pair in weights {
            let pair: &Weights = pair;
            let samples = _mm256_shuffle_epi8(even, even_mask);
            let products = _mm256_madd_epi16(samples, bytemuck::cast(pair[0]));
            even_sum = _mm256_add_epi32(even_sum, products);
            let samples = _mm256_shuffle_epi8(odd, odd_mask);
            let products = _mm256_madd_epi16(samples, bytemuck::cast(pair[1]));
            odd_sum = _mm256_add_epi32(odd_sum, products);
            even_mask = _mm256_add_epi8(even_mask, next);
            odd_mask = _mm256_add_epi8(odd_mask, next);
        }
        // Samples were the high bytes: the sums are 256 times those of the scalar path.
        let packed = _mm256_packs_epi32(
            _mm256_srai_epi32::<15>(even_sum),
            _mm256_srai_epi32::<15>(odd_sum),
        );
        *out = bytemuck::cast(packed);
    }
}

#[target_feature(enable = "avx2")]
fn one_by_one(row: &[u8], across: &Across, out: &mut [i16]) {
    let axis = &across.axis;
    let weights = axis.weights.chunks_exact(axis.taps);
    for ((out, &first), weights) in out.iter_mut().zip(&axis.first).zip(weights) {
        let samples = &row[first as usize..][..axis.taps];
        let (samples, samples_left) = samples.as_chunks::<16>();
        let (weights, weights_left) = weights.as_chunks::<16>();
        let mut sums = _mm256_set1_epi32(0);
        for (samples, weights) in samples.iter().zip(weights) {
            let samples = _mm256_cvtepi8_epi16(bytemuck::cast(*samples));
            let products = _mm256_madd_epi16(samples, bytemuck::cast(*weights));
            sums = _mm256_add_epi32(sums, products);
        }
        let sums: [i32; 8] = bytemuck::cast(sums);
        let left: i32 = samples_left
            .iter()
            .zip(weights_left)
            .map(|(&sample, &weight)| i32::from(sample as i8) * i32::from(weight))
            .sum();
        *out = scalar::rounded(sums.iter().sum::<i32>() + left);
    }
}

#[target_feature(enable = "avx2")]
pub(super) fn down(down: Down<'_>, out: &mut [u8]) {
    match down.weights.len() {
        6 => rows::<6>(down, out),
        8 => rows::<8>(down, out),
        10 => rows::<10>(down, out),
        _ => any_rows(down, out),
    }
}

#[inline]
#[target_feature(enable = "avx2")]
#[expect(
    unsafe_code,
    reason = "a check for each row and chunk was a tenth of all time"
)]
fn rows<const TAPS: usize>(down: Down<'_>, out: &mut [u8]) {
    let mut rows: [&[[i16; WRITE]]; TAPS] = [&[]; TAPS];
    let mut weights = [half(); TAPS];
    for k in 0..TAPS {
        rows[k] = down.ring.row(down.first + k).as_chunks().0;
        weights[k] = _mm256_set1_epi16(down.weights[k]);
    }
    let flip = _mm256_set1_epi8(down.flip as i8);
    let (chunks, _) = out.as_chunks_mut::<WRITE>();
    assert!(rows.iter().all(|row| row.len() >= chunks.len()));
    for (n, out) in chunks.iter_mut().enumerate() {
        let (mut near, mut far) = (half(), half());
        for k in 0..TAPS {
            // SAFETY: no row is shorter than `chunks`.
            let values = unsafe { *rows[k].get_unchecked(n) };
            let [a, b]: [__m256i; 2] = bytemuck::cast(values);
            near = _mm256_add_epi16(near, _mm256_mulhrs_epi16(a, weights[k]));
            far = _mm256_add_epi16(far, _mm256_mulhrs_epi16(b, weights[k]));
        }
        *out = bytemuck::cast(finished(near, far, flip));
    }
    let done = out.len() / WRITE * WRITE;
    scalar::down(down, done, &mut out[done..]);
}

#[target_feature(enable = "avx2")]
fn any_rows(down: Down<'_>, out: &mut [u8]) {
    let flip = _mm256_set1_epi8(down.flip as i8);
    let (chunks, _) = out.as_chunks_mut::<WRITE>();
    for (n, out) in chunks.iter_mut().enumerate() {
        let (mut near, mut far) = (half(), half());
        for (k, &weight) in down.weights.iter().enumerate() {
            let (row, _) = down.ring.row(down.first + k).as_chunks::<WRITE>();
            let [a, b]: [__m256i; 2] = bytemuck::cast(row[n]);
            let weight = _mm256_set1_epi16(weight);
            near = _mm256_add_epi16(near, _mm256_mulhrs_epi16(a, weight));
            far = _mm256_add_epi16(far, _mm256_mulhrs_epi16(b, weight));
        }
        *out = bytemuck::cast(finished(near, far, flip));
    }
    let done = out.len() / WRITE * WRITE;
    scalar::down(down, done, &mut out[done..]);
}

#[inline]
#[target_feature(enable = "avx2")]
fn half() -> __m256i {
    _mm256_set1_epi16(1 << (DOWN_BITS - 1))
}

#[inline]
#[target_feature(enable = "avx2")]
fn finished(near: __m256i, far: __m256i, flip: __m256i) -> __m256i {
    let near = _mm256_srai_epi16::<DOWN_BITS>(near);
    let far = _mm256_srai_epi16::<DOWN_BITS>(far);
    // Packing works in lanes of 128 bits; this puts the quarters back in order.
    let packed = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi16(near, far));
    _mm256_xor_si256(packed, flip)
}

/// Bytes that are read for 32 pixels: the last load begins at pixel 28.
const READ: usize = 28 * 3 + 16;

#[target_feature(enable = "avx2")]
pub(super) fn component(rgb: &[u8], component: &Component, out: &mut [u8]) {
    const X: u8 = 0x80;
    const RED_GREEN: [u8; 16] = [0, X, 1, X, 3, X, 4, X, 6, X, 7, X, 9, X, 10, X];
    const BLUE: [u8; 16] = [2, X, X, X, 5, X, X, X, 8, X, X, X, 11, X, X, X];
    let [r, g, b] = component.weights;
    let red_green_mask: __m256i = bytemuck::cast([RED_GREEN; 2]);
    let blue_mask: __m256i = bytemuck::cast([BLUE; 2]);
    let red_green: __m256i = bytemuck::cast([[r, g]; 8]);
    let blue: __m256i = bytemuck::cast([[b, 0]; 8]);
    let offset = _mm256_set1_epi32(component.offset);
    let eight = |bytes: &[u8; READ], near: usize, far: usize| {
        let at = |pixel: usize| -> __m128i {
            let bytes: &[u8; WINDOW] = bytes[pixel * 3..].first_chunk().expect("within READ");
            bytemuck::cast(*bytes)
        };
        let pixels = _mm256_set_m128i(at(far), at(near));
        let rg = _mm256_madd_epi16(_mm256_shuffle_epi8(pixels, red_green_mask), red_green);
        let b = _mm256_madd_epi16(_mm256_shuffle_epi8(pixels, blue_mask), blue);
        let sum = _mm256_add_epi32(_mm256_add_epi32(rg, b), offset);
        _mm256_srai_epi32::<COMPONENT_BITS>(sum)
    };
    let (chunks, _) = out.as_chunks_mut::<WRITE>();
    let mut done = 0;
    for out in chunks {
        let Some(bytes) = rgb.get(done * 3..).and_then(|rest| rest.first_chunk()) else {
            break;
        };
        let near = _mm256_packs_epi32(eight(bytes, 0, 8), eight(bytes, 4, 12));
        let far = _mm256_packs_epi32(eight(bytes, 16, 24), eight(bytes, 20, 28));
        let packed = _mm256_packs_epi16(near, far);
        *out = bytemuck::cast(_mm256_permute4x64_epi64::<0b11_01_10_00>(packed));
        done += WRITE;
    }
    scalar::component(&rgb[done * 3..], component, &mut out[done..]);
}
