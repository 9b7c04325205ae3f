//! The inner loops: a row across, rows down, RGB to one component; by vectors where the processor has them.
//!
//! Nouns: samples are 8-bit values with 128 taken off, kept in bytes (two's complement). The pass across makes 16-bit
//! numbers of 1/128 step, the pass down makes samples of them.
//!
//! Guarantee: every [`Simd`] gives the same bytes. Across, sums are exact in 32 bits and rounded once, so the order
//! does not matter; down, each product is rounded to 1/64 step in the same way everywhere. No overflow: the weights'
//! absolute values sum to less than 1.6 (`axis`), so a value stays below 128 · 1.6 · 1.6 · 64 = 20,972.
//!
//! The one place with vector instructions, and with `unsafe`: a function compiled for a processor feature is called
//! only when the feature was found.

mod across;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod sse41;

pub use across::{Across, GROUP};

/// Steps of the pass across for one step of a sample, as a power of two.
const ACROSS_BITS: i32 = 7;
/// What is left after the pass down.
const DOWN_BITS: i32 = 6;
/// Fraction bits of [`Component`]'s weights.
pub const COMPONENT_BITS: i32 = 15;

/// How a component is made of R, G and B (0 to 255), as a sample: 128 less than it is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Component {
    /// Weights of R, G and B with 15 fraction bits.
    pub weights: [i16; 3],
    /// What is added to the weighted sum, half a step for rounding included.
    pub offset: i32,
}

/// Which instructions are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Simd {
    /// None.
    Scalar,
    /// 128 bits, x86-64.
    #[cfg(target_arch = "x86_64")]
    Sse41,
    /// 256 bits, x86-64.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// 128 bits, ARM.
    #[cfg(target_arch = "aarch64")]
    Neon,
}

/// Rows that the pass across has made: row `n` of the source lies at `n % rows`.
#[derive(Debug, Clone, Default)]
pub struct Ring {
    /// All rows.
    pub data: Vec<i16>,
    /// Numbers of a row, a multiple of [`GROUP`].
    pub stride: usize,
    /// Rows.
    pub rows: usize,
}

impl Ring {
    /// Row `n` of the source.
    pub fn row(&self, n: usize) -> &[i16] {
        &self.data[n % self.rows * self.stride..][..self.stride]
    }

    /// Row `n` of the source, to be written.
    pub fn row_mut(&mut self, n: usize) -> &mut [i16] {
        &mut self.data[n % self.rows * self.stride..][..self.stride]
    }
}

/// The taps of one output row.
#[derive(Debug, Clone, Copy)]
pub struct Down<'a> {
    /// The rows.
    pub ring: &'a Ring,
    /// The first row.
    pub first: usize,
    /// Weights of it and those that follow.
    pub weights: &'a [i16],
    /// Added to the low byte of each sample: 128 makes pictures of samples, 0 leaves samples.
    pub flip: u8,
}

impl Simd {
    /// The best that this processor has.
    pub fn best() -> Self {
        Self::all().last().copied().unwrap_or(Self::Scalar)
    }

    /// All that this processor has, the best last.
    pub fn all() -> &'static [Self] {
        #[cfg(target_arch = "x86_64")]
        {
            match (
                is_x86_feature_detected!("sse4.1"),
                is_x86_feature_detected!("avx2"),
            ) {
                (_, true) => &[Self::Scalar, Self::Sse41, Self::Avx2],
                (true, false) => &[Self::Scalar, Self::Sse41],
                (false, false) => &[Self::Scalar],
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            &[Self::Scalar, Self::Neon]
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        {
            &[Self::Scalar]
        }
    }

    /// Its name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "none",
            #[cfg(target_arch = "x86_64")]
            Self::Sse41 => "SSE4.1",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "AVX2",
            #[cfg(target_arch = "aarch64")]
            Self::Neon => "NEON",
        }
    }

    /// A row across: `out`, as long as `across`, from `row`, which has [`crate::axis::SLACK`] bytes after its samples.
    #[cfg_attr(
        any(target_arch = "x86_64", target_arch = "aarch64"),
        expect(unsafe_code, reason = "the feature was found, or `self` would not be")
    )]
    pub(crate) fn across(self, row: &[u8], across: &Across, out: &mut [i16]) {
        match self {
            Self::Scalar => scalar::across(row, across, out),
            #[cfg(target_arch = "x86_64")]
            Self::Sse41 => unsafe { sse41::across(row, across, out) },
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { avx2::across(row, across, out) },
            #[cfg(target_arch = "aarch64")]
            Self::Neon => unsafe { neon::across(row, across, out) },
        }
    }

    /// Rows down: one row of `out`, at most as long as the ring's rows.
    #[cfg_attr(
        any(target_arch = "x86_64", target_arch = "aarch64"),
        expect(unsafe_code, reason = "the feature was found, or `self` would not be")
    )]
    pub(crate) fn down(self, down: Down<'_>, out: &mut [u8]) {
        match self {
            Self::Scalar => scalar::down(down, 0, out),
            #[cfg(target_arch = "x86_64")]
            Self::Sse41 => unsafe { sse41::down(down, out) },
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { avx2::down(down, out) },
            #[cfg(target_arch = "aarch64")]
            Self::Neon => unsafe { neon::down(down, out) },
        }
    }

    /// One component of a row of RGB.
    #[cfg_attr(
        target_arch = "x86_64",
        expect(unsafe_code, reason = "the feature was found, or `self` would not be")
    )]
    pub(crate) fn component(self, rgb: &[u8], component: &Component, out: &mut [u8]) {
        match self {
            Self::Scalar => scalar::component(rgb, component, out),
            #[cfg(target_arch = "x86_64")]
            Self::Sse41 => unsafe { sse41::component(rgb, component, out) },
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { avx2::component(rgb, component, out) },
            // The compiler's own vectors do.
            #[cfg(target_arch = "aarch64")]
            Self::Neon => scalar::component(rgb, component, out),
        }
    }
}

#[cfg(test)]
mod tests;
