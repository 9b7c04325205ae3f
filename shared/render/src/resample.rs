//! A rectangle of a source resampled to a whole picture, in one pass over the rows.
//!
//! Guarantee: the same samples whatever the processor and however the target is cut into bands; bands written in
//! order need each row of the source once, so it may be made on the fly.

use std::ops::Range;

use crate::axis::{Axis, SLACK, Span};
use crate::camera::Rect;
use crate::kernel::{Across, Down, GROUP, Ring, Simd};

/// A plane of samples: values with 128 taken off. Each row is followed by [`SLACK`] samples that mean nothing.
#[derive(Debug, Clone, Default)]
pub struct Plane {
    /// Samples of a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    data: Vec<u8>,
}

/// A source of rows.
pub trait Rows {
    /// Row `n`, with [`SLACK`] samples more than its width.
    fn row(&mut self, n: usize) -> &[u8];
}

impl Rows for &Plane {
    fn row(&mut self, n: usize) -> &[u8] {
        let stride = self.width + SLACK;
        &self.data[n * stride..][..stride]
    }
}

impl Plane {
    /// The rows of a source as they are.
    pub fn copy(source: &mut impl Rows, (width, height): (usize, usize)) -> Self {
        let mut data = Vec::with_capacity((width + SLACK) * height);
        for n in 0..height {
            data.extend_from_slice(&source.row(n)[..width + SLACK]);
        }
        Self {
            width,
            height,
            data,
        }
    }

    /// `rect` of a source of `from` samples, as `to` samples; only those of the columns and rows `lit` are made, the
    /// others are `bar`.
    pub fn resampled(
        resampler: &mut Resampler,
        source: &mut impl Rows,
        (from, bar): ((usize, usize), u8),
        rect: Rect,
        ((width, height), lit): ((usize, usize), (Range<usize>, Range<usize>)),
    ) -> Self {
        let stride = width + SLACK;
        let mut data = vec![bar; stride * height];
        let (across, down) = (rect.width / width as f64, rect.height / height as f64);
        let part = Rect {
            left: rect.left + lit.0.start as f64 * across,
            top: rect.top + lit.1.start as f64 * down,
            width: lit.0.len() as f64 * across,
            height: lit.1.len() as f64 * down,
        };
        let mut lens = Lens::default();
        lens.set(part, from, (lit.0.len(), lit.1.len()));
        resampler.begin(&lens);
        let out = &mut data[lit.1.start * stride + lit.0.start..];
        resampler.write((&lens, source), 0..lit.1.len(), out, (stride, 0));
        Self {
            width,
            height,
            data,
        }
    }
}

/// A rectangle of a source as a target of so many samples; good for any number of sources of one size.
#[derive(Debug, Clone, Default)]
pub struct Lens {
    across: Across,
    down: Axis,
    source_rows: usize,
}

impl Lens {
    /// Looks at `rect` of a source of `from` samples as `to` samples.
    pub fn set(&mut self, rect: Rect, from: (usize, usize), to: (usize, usize)) {
        self.across.set(Span {
            start: rect.left,
            step: rect.width / to.0 as f64,
            len: to.0,
            source: from.0,
        });
        self.down.set(Span {
            start: rect.top,
            step: rect.height / to.1 as f64,
            len: to.1,
            source: from.1,
        });
        self.source_rows = from.1;
    }
}

/// What resampling needs besides lens, source and target; kept from frame to frame.
#[derive(Debug)]
pub struct Resampler {
    simd: Simd,
    ring: Ring,
    /// The first source row that is not in the ring yet.
    next: usize,
}

impl Resampler {
    /// One that uses these instructions.
    pub fn new(simd: Simd) -> Self {
        Self {
            simd,
            ring: Ring::default(),
            next: 0,
        }
    }

    /// What is written next has nothing to do with what was written last.
    pub fn begin(&mut self, lens: &Lens) {
        self.ring.stride = lens.across.outputs().next_multiple_of(2 * GROUP);
        self.ring.rows = lens.down.taps;
        self.ring.data.resize(self.ring.stride * self.ring.rows, 0);
        self.next = 0;
    }

    /// Writes rows of the target, `stride` bytes each, into `out`; `flip` is 128 for a picture and 0 for samples.
    /// Unless something [begins](Self::begin), they follow those written last, of the same lens and source.
    pub fn write(
        &mut self,
        (lens, source): (&Lens, &mut impl Rows),
        rows: Range<usize>,
        out: &mut [u8],
        (stride, flip): (usize, u8),
    ) {
        let Lens { across, down, .. } = lens;
        let ring = &mut self.ring;
        for (n, out) in rows.zip(out.chunks_mut(stride)) {
            let first = down.first[n] as usize;
            // Taps beyond the source only fill up, and weigh nothing.
            let end = (first + down.taps).min(lens.source_rows);
            for row in self.next.max(first)..end {
                self.simd.across(
                    source.row(row),
                    across,
                    &mut ring.row_mut(row)[..across.outputs()],
                );
            }
            self.next = end;
            let taken = Down {
                ring,
                first,
                weights: &down.weights[n * down.taps..][..down.taps],
                flip,
            };
            self.simd.down(taken, &mut out[..across.width]);
        }
    }
}
