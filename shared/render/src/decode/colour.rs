//! Samples as a file holds them to sRGB on black.
//!
//! Nouns: a [`Layout`] is how a decoder hands pixels over; a [`Paint`] makes RGB of them.
//!
//! Guarantee: an embedded ICC profile is honoured (grey, RGB and CMYK); one that cannot be read, that
//! does not fit the picture or that says sRGB changes nothing. 16 bits are rounded to the nearest of
//! 8; alpha scales plain sRGB values, as browsers do.

use std::sync::Arc;

use moxcms::{ColorProfile, DataColorSpace, Transform8BitExecutor, TransformOptions};

/// Differences from sRGB that nobody sees: a profile within them is taken as sRGB itself.
const SAME_AS_SRGB: u8 = 2;
/// Steps a side of the cube of colours on which a profile is compared with sRGB.
const PROBES: [u8; 6] = [0, 40, 96, 144, 200, 255];

/// How a decoder hands pixels over; 16 bits are big endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    Grey8,
    Grey16,
    GreyAlpha8,
    GreyAlpha16,
    Rgb8,
    Rgb16,
    Rgba8,
    Rgba16,
    /// 255 is full ink.
    Cmyk8,
}

impl Layout {
    /// Bytes of a pixel.
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::Grey8 => 1,
            Self::Grey16 | Self::GreyAlpha8 => 2,
            Self::Rgb8 => 3,
            Self::GreyAlpha16 | Self::Rgba8 | Self::Cmyk8 => 4,
            Self::Rgb16 => 6,
            Self::Rgba16 => 8,
        }
    }

    fn space(self) -> (DataColorSpace, moxcms::Layout) {
        match self {
            Self::Grey8 | Self::Grey16 | Self::GreyAlpha8 | Self::GreyAlpha16 => {
                (DataColorSpace::Gray, moxcms::Layout::Gray)
            }
            Self::Rgb8 | Self::Rgb16 | Self::Rgba8 | Self::Rgba16 => {
                (DataColorSpace::Rgb, moxcms::Layout::Rgb)
            }
            // The library's name for four channels of whatever.
            Self::Cmyk8 => (DataColorSpace::Cmyk, moxcms::Layout::Rgba),
        }
    }
}

/// Makes RGB of rows of one layout.
pub(super) struct Paint {
    layout: Layout,
    /// What each grey is.
    greys: Box<[[u8; 3]; 256]>,
    /// From the profile's RGB or CMYK to sRGB.
    transform: Option<Arc<Transform8BitExecutor>>,
    scratch: Vec<u8>,
}

impl Paint {
    /// For a picture with this ICC profile.
    pub(super) fn new(profile: Option<&[u8]>, layout: Layout) -> Self {
        let mut greys = Box::new(std::array::from_fn(|grey| [grey as u8; 3]));
        let mut transform = profile.and_then(|profile| transform(profile, layout));
        if layout.space().0 == DataColorSpace::Gray
            && let Some(transform) = transform.take()
        {
            let from: Vec<u8> = (0..=255).collect();
            let mut to = [0; 768];
            if transform.transform(&from, &mut to).is_ok() {
                greys.as_flattened_mut().copy_from_slice(&to);
            }
        }
        Self {
            layout,
            greys,
            transform,
            scratch: Vec::new(),
        }
    }

    /// Paints one row of pixels.
    pub(super) fn row(&mut self, from: &[u8], to: &mut [u8]) {
        let greys = &self.greys;
        let pixels = to.as_chunks_mut::<3>().0;
        match self.layout {
            Layout::Grey8 => each(from, pixels, |&[v]: &[u8; 1]| greys[usize::from(v)]),
            Layout::Grey16 => each(from, pixels, |&[a, b]: &[u8; 2]| {
                greys[usize::from(round(a, b))]
            }),
            Layout::GreyAlpha8 => each(from, pixels, |&[v, a]: &[u8; 2]| {
                on_black(greys[usize::from(v)], a)
            }),
            Layout::GreyAlpha16 => each(from, pixels, |&[a, b, c, d]: &[u8; 4]| {
                on_black(greys[usize::from(round(a, b))], round(c, d))
            }),
            Layout::Rgb8 => to.copy_from_slice(from),
            Layout::Rgb16 => each(from, pixels, |&samples| rgb_of_16(samples)),
            Layout::Rgba8 => each(from, pixels, |&[r, g, b, _]: &[u8; 4]| [r, g, b]),
            Layout::Rgba16 => each(from, pixels, |&[r, r2, g, g2, b, b2, _, _]: &[u8; 8]| {
                rgb_of_16([r, r2, g, g2, b, b2])
            }),
            Layout::Cmyk8 => each(from, pixels, |&inks| rgb_of_ink(inks)),
        }
        self.correct(from, to);
        // After the correction: a profile speaks of the colour, not of what shines through.
        let pixels = to.as_chunks_mut::<3>().0;
        if self.layout == Layout::Rgba8 {
            for (pixel, &[_, _, _, a]) in pixels.iter_mut().zip(from.as_chunks::<4>().0) {
                *pixel = on_black(*pixel, a);
            }
        } else if self.layout == Layout::Rgba16 {
            for (pixel, &[.., a, b]) in pixels.iter_mut().zip(from.as_chunks::<8>().0) {
                *pixel = on_black(*pixel, round(a, b));
            }
        }
    }

    fn correct(&mut self, from: &[u8], to: &mut [u8]) {
        let Some(transform) = &self.transform else {
            return;
        };
        let source = if self.layout == Layout::Cmyk8 {
            from
        } else {
            self.scratch.clear();
            self.scratch.extend_from_slice(to);
            &self.scratch
        };
        // It fails only for slices of unlike lengths, and leaves what is there.
        if transform.transform(source, to).is_err() {
            self.transform = None;
        }
    }

    /// Paints a whole picture where it stands; afterwards it is as short as RGB is. For layouts of
    /// three and more bytes.
    pub(super) fn in_place(&mut self, pixels: &mut Vec<u8>, width: u32) {
        if self.layout == Layout::Rgb8 && self.transform.is_none() {
            return;
        }
        let (from_row, to_row) = (width as usize * self.layout.bytes(), width as usize * 3);
        let rows = pixels.len() / from_row;
        let mut line = vec![0; from_row];
        for row in 0..rows {
            line.copy_from_slice(&pixels[row * from_row..][..from_row]);
            self.row(&line, &mut pixels[row * to_row..][..to_row]);
        }
        pixels.truncate(rows * to_row);
        pixels.shrink_to_fit();
    }
}

fn each<const N: usize>(from: &[u8], to: &mut [[u8; 3]], rgb: impl Fn(&[u8; N]) -> [u8; 3]) {
    for (pixel, samples) in to.iter_mut().zip(from.as_chunks::<N>().0) {
        *pixel = rgb(samples);
    }
}

/// 16 bits to the nearest of 8.
fn round(high: u8, low: u8) -> u8 {
    ((u32::from(u16::from_be_bytes([high, low])) * 255 + 32_895) >> 16) as u8
}

fn rgb_of_16([r, r2, g, g2, b, b2]: [u8; 6]) -> [u8; 3] {
    [round(r, r2), round(g, g2), round(b, b2)]
}

/// `a * b / 255`, rounded.
fn scaled(a: u8, b: u8) -> u8 {
    ((u32::from(a) * u32::from(b) + 127) / 255) as u8
}

/// Plain values scaled, as browsers do.
pub(super) fn on_black(rgb: [u8; 3], alpha: u8) -> [u8; 3] {
    rgb.map(|value| scaled(value, alpha))
}

/// What is left of white light under each ink and black: what viewers show without a profile.
fn rgb_of_ink([c, m, y, k]: [u8; 4]) -> [u8; 3] {
    [c, m, y].map(|ink| scaled(255 - ink, 255 - k))
}

/// The way from an ICC profile to sRGB; `None` when there is none or none is needed.
fn transform(profile: &[u8], layout: Layout) -> Option<Arc<Transform8BitExecutor>> {
    let (space, channels) = layout.space();
    let profile = ColorProfile::new_from_slice(profile).ok()?;
    if profile.color_space != space {
        return None;
    }
    let transform = profile
        .create_transform_8bit(
            channels,
            &ColorProfile::new_srgb(),
            moxcms::Layout::Rgb,
            TransformOptions::default(),
        )
        .ok()?;
    let needed = space != DataColorSpace::Rgb || differs(&*transform);
    needed.then_some(transform)
}

fn differs(transform: &Transform8BitExecutor) -> bool {
    let mut from = Vec::with_capacity(PROBES.len().pow(3) * 3);
    for r in PROBES {
        for g in PROBES {
            for b in PROBES {
                from.extend([r, g, b]);
            }
        }
    }
    let mut to = vec![0; from.len()];
    // One that cannot even do this is not used.
    transform.transform(&from, &mut to).is_ok()
        && from
            .iter()
            .zip(&to)
            .any(|(&a, &b)| a.abs_diff(b) > SAME_AS_SRGB)
}
