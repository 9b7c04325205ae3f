//! 128 bits at once, for ARM: every 64-bit one has NEON.

use std::arch::aarch64::{
    int16x8_t, vaddq_s16, vaddq_s32, vaddq_u8, vcombine_s8, vcombine_s16, vdupq_n_s16, vdupq_n_s32,
    vdupq_n_u8, veorq_u8, vget_high_s16, vget_low_s16, vmovl_s8, vmull_s16, vpaddq_s32, vqmovn_s16,
    vqmovn_s32, vqrdmulhq_s16, vqtbl1q_u8, vreinterpretq_s16_u8, vreinterpretq_u8_s8, vshrq_n_s16,
    vshrq_n_s32,
};

use super::across::{GROUP, Group, WINDOW, Weights};
use super::{Across, DOWN_BITS, Down, scalar};

/// Samples that are written at once.
const WRITE: usize = 16;

#[target_feature(enable = "neon")]
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
#[target_feature(enable = "neon")]
fn lane<const LANE: usize>(row: &[u8], group: &Group, weights: &[Weights]) -> int16x8_t {
    let next = vdupq_n_u8(2);
    let half = |half: usize| {
        let at = group.bases[half][LANE] as usize;
        let samples: &[u8; WINDOW] = row[at..].first_chunk().expect("rows have slack");
        let samples = bytemuck::cast(*samples);
        let masks: [[u8; 16]; 2] = bytemuck::cast(group.masks[half]);
        let mut mask = bytemuck::cast(masks[LANE]);
        let mut sum = vdupq_n_s32(1 << 14);
        for pair in weights {
            let pair: [int16x8_t; 2] = bytemuck::cast(pair[half]);
            // An index that is too large gives zero, as the masks want it.
            let samples = vreinterpretq_s16_u8(vqtbl1q_u8(samples, mask));
            let low = vmull_s16(vget_low_s16(samples), vget_low_s16(pair[LANE]));
            let high = vmull_s16(vget_high_s16(samples), vget_high_s16(pair[LANE]));
            sum = vaddq_s32(sum, vpaddq_s32(low, high));
            mask = vaddq_u8(mask, next);
        }
        // Samples were the high bytes: the sums are 256 times those of the scalar path.
        vqmovn_s32(vshrq_n_s32::<15>(sum))
    };
    vcombine_s16(half(0), half(1))
}

#[target_feature(enable = "neon")]
fn one_by_one(row: &[u8], across: &Across, out: &mut [i16]) {
    let axis = &across.axis;
    let weights = axis.weights.chunks_exact(axis.taps);
    for ((out, &first), weights) in out.iter_mut().zip(&axis.first).zip(weights) {
        let samples = &row[first as usize..][..axis.taps];
        let (samples, samples_left) = samples.as_chunks::<8>();
        let (weights, weights_left) = weights.as_chunks::<8>();
        let mut sums = vdupq_n_s32(0);
        for (samples, weights) in samples.iter().zip(weights) {
            let samples = vmovl_s8(bytemuck::cast(*samples));
            let weights: int16x8_t = bytemuck::cast(*weights);
            let low = vmull_s16(vget_low_s16(samples), vget_low_s16(weights));
            let high = vmull_s16(vget_high_s16(samples), vget_high_s16(weights));
            sums = vaddq_s32(sums, vpaddq_s32(low, high));
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

#[target_feature(enable = "neon")]
pub(super) fn down(down: Down<'_>, out: &mut [u8]) {
    let flip = vdupq_n_u8(down.flip);
    let (chunks, _) = out.as_chunks_mut::<WRITE>();
    for (n, out) in chunks.iter_mut().enumerate() {
        let half = vdupq_n_s16(1 << (DOWN_BITS - 1));
        let (mut near, mut far) = (half, half);
        for (k, &weight) in down.weights.iter().enumerate() {
            let (row, _) = down.ring.row(down.first + k).as_chunks::<WRITE>();
            let [a, b]: [int16x8_t; 2] = bytemuck::cast(row[n]);
            let weight = vdupq_n_s16(weight);
            near = vaddq_s16(near, vqrdmulhq_s16(a, weight));
            far = vaddq_s16(far, vqrdmulhq_s16(b, weight));
        }
        let near = vqmovn_s16(vshrq_n_s16::<DOWN_BITS>(near));
        let far = vqmovn_s16(vshrq_n_s16::<DOWN_BITS>(far));
        let samples = vreinterpretq_u8_s8(vcombine_s8(near, far));
        *out = bytemuck::cast(veorq_u8(samples, flip));
    }
    let done = out.len() / WRITE * WRITE;
    scalar::down(down, done, &mut out[done..]);
}
