//! The taps of the horizontal pass, laid out for vectors.
//!
//! Sixteen outputs are a [`Group`]: two lanes of eight, each lane two quads of four. The source bytes of a quad lie in
//! one window of sixteen; a shuffle picks the pair of bytes that two taps of each output need, the next two taps are
//! two bytes further. Where a window is too short (the source is more than about 1.6 times as dense as the output),
//! there are no groups and outputs are made one by one.

use crate::axis::{Axis, Span};

/// Outputs of a group.
pub const GROUP: usize = 16;
/// Bytes of a window.
pub const WINDOW: usize = 16;
/// Weights of one pair of taps: of quads 0 and 2, and of quads 1 and 3.
pub type Weights = [[i16; 16]; 2];

/// Where a group's outputs come from.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(32))]
pub struct Group {
    /// For the quads 0 and 2, and for 1 and 3: which bytes of their windows the first pair of taps needs, each as the
    /// high byte of a 16-bit number.
    pub masks: [[u8; 32]; 2],
    /// Where the windows begin: quads 0 and 2, and 1 and 3.
    pub bases: [[u32; 2]; 2],
}

/// The horizontal taps of a row.
#[derive(Debug, Clone, Default)]
pub struct Across {
    /// One output after the other.
    pub axis: Axis,
    /// Sixteen at once; empty where windows are too short.
    pub groups: Vec<Group>,
    /// For each group, its pairs of taps.
    pub weights: Vec<Weights>,
    /// Pairs of taps of an output in `weights`.
    pub pairs: usize,
    /// Outputs that were asked for.
    pub width: usize,
    /// Bytes of a row that windows reach to.
    pub reach: usize,
}

impl Across {
    /// Makes the taps of `span`; outputs are filled up to whole groups.
    pub fn set(&mut self, span: Span) {
        self.axis.set(span);
        self.groups.clear();
        self.weights.clear();
        self.width = span.len;
        self.reach = 0;
        let last = self.axis.first.last().copied().unwrap_or(0);
        let whole = span.len.next_multiple_of(GROUP);
        self.axis.first.resize(whole, last);
        self.axis.weights.resize(whole * self.axis.taps, 0);
        self.pairs = self.axis.taps / 2;
        if self.fits() {
            self.lay_out();
        }
    }

    /// Outputs, filled up to whole groups.
    pub fn outputs(&self) -> usize {
        self.axis.first.len()
    }

    fn fits(&self) -> bool {
        let taps = self.axis.taps;
        taps <= WINDOW
            && self
                .axis
                .first
                .as_chunks::<4>()
                .0
                .iter()
                .all(|quad| (quad[3] - quad[0]) as usize + taps <= WINDOW)
    }

    fn lay_out(&mut self) {
        let taps = self.axis.taps;
        let (firsts, _) = self.axis.first.as_chunks::<GROUP>();
        for (firsts, weights) in firsts
            .iter()
            .zip(self.axis.weights.chunks_exact(GROUP * taps))
        {
            let mut group = Group {
                masks: [[0x80; 32]; 2],
                bases: [[0; 2]; 2],
            };
            let at = self.weights.len();
            self.weights.resize(at + self.pairs, [[0; 16]; 2]);
            for quad in 0..4 {
                let (lane, half) = (quad / 2, quad % 2);
                let base = firsts[quad * 4];
                self.reach = self.reach.max(base as usize + WINDOW);
                group.bases[half][lane] = base;
                for n in 0..4 {
                    let output = quad * 4 + n;
                    let slot = lane * 16 + n * 4;
                    let index = (firsts[output] - base) as u8;
                    group.masks[half][slot + 1] = index;
                    group.masks[half][slot + 3] = index + 1;
                    let own = &weights[output * taps..][..taps];
                    for (pair, two) in self.weights[at..].iter_mut().zip(own.as_chunks::<2>().0) {
                        pair[half][slot / 2] = two[0];
                        pair[half][slot / 2 + 1] = two[1];
                    }
                }
            }
            self.groups.push(group);
        }
    }
}
