//! One axis of a resample: for each output sample the source samples it is made of, and their weights.
//!
//! Nouns: a [`Span`] says where on the source the outputs lie; an [`Axis`] is the list of taps made of it.
//!
//! Guarantee: Lanczos with three lobes, widened when the source is denser than the output; the weights of an output
//! are fixed point and sum to exactly [`ONE`]; every tap is inside the source; where the kernel reaches outside, it is
//! cut off and the rest made to sum to one. For outputs whose centre is inside the source the absolute values of the
//! weights sum to less than 1.6 times that.

use std::sync::LazyLock;

/// What the weights of an output sum to.
pub const ONE: i32 = 1 << 14;
/// Lobes of the kernel on either side.
pub const LOBES: f64 = 3.0;
/// Samples that a tap list may be read beyond the source: planes keep so many more after each row.
pub const SLACK: usize = 32;
/// Positions between two source samples that are told apart when nothing is reduced: 1/4096 pixel at most off.
const PHASES: usize = 2048;
const PHASE_TAPS: usize = 6;
/// Steps of the table of the kernel for one sample; between them it is a straight line (error below 2e-6).
const STEPS: usize = 1024;

static KERNEL: LazyLock<Vec<f32>> = LazyLock::new(|| {
    (0..=STEPS * LOBES as usize + 1)
        .map(|n| lanczos(n as f64 / STEPS as f64) as f32)
        .collect()
});
static PHASE_WEIGHTS: LazyLock<Vec<[i16; PHASE_TAPS]>> = LazyLock::new(|| {
    (0..=PHASES)
        .map(|phase| {
            // Tap k lies k - 2 samples right of the whole position.
            let offset = phase as f64 / PHASES as f64;
            let weights: [f64; PHASE_TAPS] =
                std::array::from_fn(|k| lanczos(k as f64 - 2.0 - offset));
            let mut fixed = [0; PHASE_TAPS];
            normalise(&weights.map(|weight| weight as f32), &mut fixed);
            fixed
        })
        .collect()
});

fn lanczos(x: f64) -> f64 {
    let x = x.abs();
    if x < 1e-9 {
        return 1.0;
    }
    if x >= LOBES {
        return 0.0;
    }
    let p = std::f64::consts::PI * x;
    LOBES * p.sin() * (p / LOBES).sin() / (p * p)
}

/// Where `len` outputs lie on a source of `source` samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// The near edge of the first output; the near edge of the first source sample is 0.
    pub start: f64,
    /// Source samples from one output to the next.
    pub step: f64,
    /// Outputs.
    pub len: usize,
    /// Samples of the source, at least 1.
    pub source: usize,
}

/// The taps of all outputs of one axis. Buffers are kept from one [`Axis::set`] to the next.
#[derive(Debug, Clone, Default)]
pub struct Axis {
    /// The first source sample of each output; never decreases.
    pub first: Vec<u32>,
    /// `taps` weights of each output, zeros among them.
    pub weights: Vec<i16>,
    /// Weights of one output; a multiple of 2, or of 8 where there are more than 16.
    pub taps: usize,
    scratch: Vec<f32>,
}

impl Axis {
    /// Makes the taps of `span`.
    pub fn set(&mut self, span: Span) {
        let scale = span.step.max(1.0);
        // So many samples lie inside the kernel, wherever it stands.
        let wanted = (2.0 * LOBES * scale).ceil() as usize;
        let taps = wanted.min(span.source);
        self.taps = taps.next_multiple_of(if taps > 16 { 8 } else { 2 });
        self.first.clear();
        self.weights.clear();
        self.weights.resize(self.taps * span.len, 0);
        if scale > 1.0 || taps < PHASE_TAPS {
            self.widened(span, scale, taps);
        } else {
            self.phased(span);
        }
    }

    fn phased(&mut self, span: Span) {
        let last = span.source - PHASE_TAPS;
        for (n, out) in self.weights.chunks_exact_mut(PHASE_TAPS).enumerate() {
            let centre = span.start + (n as f64 + 0.5) * span.step - 0.5;
            let whole = floor(centre);
            let phase = ((centre - whole as f64) * PHASES as f64 + 0.5) as usize;
            let wished = whole - 2;
            if (0..=last as isize).contains(&wished) {
                self.first.push(wished as u32);
                out.copy_from_slice(&PHASE_WEIGHTS[phase]);
            } else {
                let first = wished.clamp(0, last as isize);
                self.first.push(first as u32);
                self.scratch.clear();
                self.scratch.extend(
                    (0..PHASE_TAPS).map(|k| kernel((first as f64 + k as f64 - centre) as f32)),
                );
                normalise(&self.scratch, out);
            }
        }
    }

    fn widened(&mut self, span: Span, scale: f64, taps: usize) {
        let last = span.source - taps;
        let narrow = (1.0 / scale) as f32;
        for (n, out) in self.weights.chunks_exact_mut(self.taps).enumerate() {
            let centre = span.start + (n as f64 + 0.5) * span.step - 0.5;
            let wished = floor(centre - LOBES * scale) + 1;
            let first = wished.clamp(0, last as isize);
            self.first.push(first as u32);
            let from = (first as f64 - centre) as f32;
            self.scratch.clear();
            self.scratch
                .extend((0..taps).map(|k| kernel((from + k as f32) * narrow)));
            normalise(&self.scratch, &mut out[..taps]);
        }
    }
}

/// The whole number below; the library's own is a call on processors of unknown age.
fn floor(x: f64) -> isize {
    // So much above zero that cutting off is rounding down.
    const LIFT: f64 = (1_u64 << 32) as f64;
    (x + LIFT) as isize - LIFT as isize
}

/// The kernel by its table.
fn kernel(x: f32) -> f32 {
    let at = (x.abs() * STEPS as f32).min(STEPS as f32 * LOBES as f32);
    let whole = at as usize;
    let (a, b) = (KERNEL[whole], KERNEL[whole + 1]);
    a + (b - a) * (at - whole as f32)
}

/// Weights as fixed point with the exact sum [`ONE`]; what rounding leaves goes to the largest.
fn normalise(weights: &[f32], out: &mut [i16]) {
    // As in `floor`.
    const LIFT: i32 = 1 << 16;
    let sum: f32 = weights.iter().sum();
    let unit = ONE as f32 / sum;
    let mut rest = ONE;
    let mut largest = 0;
    for (n, (&weight, out)) in weights.iter().zip(out.iter_mut()).enumerate() {
        let fixed = (weight * unit + (LIFT as f32 + 0.5)) as i32 - LIFT;
        *out = fixed as i16;
        rest -= fixed;
        if weight > weights[largest] {
            largest = n;
        }
    }
    out[largest] += rest as i16;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(start: f64, step: f64, len: usize, source: usize) -> Axis {
        let mut axis = Axis::default();
        axis.set(Span {
            start,
            step,
            len,
            source,
        });
        axis
    }

    #[test]
    fn weights_sum_to_one_and_stay_inside_at_every_density() {
        for (step, source) in [
            (0.01, 7),
            (0.5, 100),
            (0.755, 300),
            (1.0, 64),
            (1.324, 99),
            (2.5, 400),
            (9.0, 1000),
            (40.0, 50),
            (0.3, 1),
            (1.0, 3),
        ] {
            let len = ((source as f64 / step) as usize).clamp(1, 500);
            let axis = axis(0.0, step, len, source);
            assert_eq!(axis.first.len(), len);
            assert!(axis.first.is_sorted());
            for (first, weights) in axis.first.iter().zip(axis.weights.chunks(axis.taps)) {
                let sum: i32 = weights.iter().map(|&w| i32::from(w)).sum();
                assert_eq!(sum, ONE, "{step} of {source}");
                let last = weights.iter().rposition(|&w| w != 0).unwrap();
                assert!(*first as usize + last < source, "{step} of {source}");
                assert!(*first as usize + axis.taps <= source + SLACK);
            }
        }
    }

    #[test]
    fn weights_never_amplify_much() {
        for source in [1, 2, 3, 5, 6, 7, 40] {
            for n in 0..400 {
                let step = f64::from(n % 20) * 0.31 + 0.03;
                let step = step.min(source as f64);
                let start = (source as f64 - step) * f64::from(n) / 399.0;
                // The centre goes from one edge to the other.
                for start in [start, start - step / 2.0, start + step / 2.0] {
                    let axis = axis(start, step, 1, source);
                    let sum: i32 = axis.weights.iter().map(|&w| i32::from(w).abs()).sum();
                    assert!(sum * 10 < ONE * 16, "{start} by {step} of {source}: {sum}");
                }
            }
        }
    }

    #[test]
    fn the_same_density_in_place_is_the_identity() {
        let axis = axis(0.0, 1.0, 40, 40);
        for (n, (&first, weights)) in axis
            .first
            .iter()
            .zip(axis.weights.chunks(axis.taps))
            .enumerate()
        {
            assert_eq!(i32::from(weights[n - first as usize]), ONE);
        }
    }

    #[test]
    fn weights_are_the_kernels() {
        for step in [0.7, 1.0, 1.3, 3.7] {
            let scale = f64::max(step, 1.0);
            let axis = axis(50.3, step, 20, 200);
            for (n, (&first, weights)) in axis
                .first
                .iter()
                .zip(axis.weights.chunks(axis.taps))
                .enumerate()
            {
                let centre = 50.3 + (n as f64 + 0.5) * step - 0.5;
                let exact: Vec<f64> = (0..axis.taps)
                    .map(|k| lanczos((f64::from(first) + k as f64 - centre) / scale))
                    .collect();
                let sum: f64 = exact.iter().sum();
                for (weight, exact) in weights.iter().zip(exact) {
                    let off = f64::from(*weight) / f64::from(ONE) - exact / sum;
                    assert!(off.abs() < 5e-4, "step {step}, output {n}: {off}");
                }
            }
        }
    }
}
