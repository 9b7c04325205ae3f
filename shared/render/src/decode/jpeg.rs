//! JPEG: baseline and progressive; grey, YCbCr, RGB, CMYK and YCCK.
//!
//! Guarantee: a file without its end is refused, because decoders paint what is missing grey; one
//! made of more scans than any program writes is refused, because each costs a walk over the picture.

use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::colour::{Layout, Paint};
use super::{DecodeError, Kind, SIDE_PX_MAX, Stored, bytes_of, check_size};

/// Scans of a picture: progressive files have about ten.
const SCANS_MAX: u32 = 100;

fn damaged(error: DecodeErrors) -> DecodeError {
    DecodeError::Damaged {
        kind: Kind::Jpeg,
        source: error.into(),
    }
}

fn rare(what: &'static str) -> DecodeError {
    let kind = Kind::Jpeg;
    DecodeError::Rare { kind, what }
}

/// Decodes the picture.
pub(super) fn decode(bytes: &[u8]) -> Result<Stored, DecodeError> {
    let outline = Outline::of(bytes);
    if !outline.whole {
        return Err(DecodeError::CutOff { kind: Kind::Jpeg });
    }
    check_size(Kind::Jpeg, outline.width, outline.height)?;
    outline.check()?;
    // Inks are decoded as they are stored: what they look like is decided here.
    let inks = match (outline.components, outline.adobe) {
        (4, Some(2)) => Some(ColorSpace::YCCK),
        (4, _) => Some(ColorSpace::CMYK),
        (..) => None,
    };
    let layout = if inks.is_some() {
        Layout::Cmyk8
    } else {
        Layout::Rgb8
    };
    let options = DecoderOptions::default()
        .jpeg_set_out_colorspace(inks.unwrap_or(ColorSpace::RGB))
        .set_strict_mode(false)
        .set_max_width(SIDE_PX_MAX as usize)
        .set_max_height(SIDE_PX_MAX as usize);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(damaged)?;
    let (width, height) = decoder.dimensions().unwrap_or_default();
    let (width, height) = (width as u32, height as u32);
    // Its own reading of the header is the one that decides what it writes.
    check_size(Kind::Jpeg, width, height)?;
    let mut pixels = vec![0; bytes_of(width, height, layout.bytes())];
    decoder.decode_into(&mut pixels).map_err(damaged)?;
    let profile = decoder.icc_profile();
    let orientation = super::orientation(decoder.exif().map(Vec::as_slice));
    drop(decoder);
    if inks.is_some() {
        to_ink(&mut pixels, outline.adobe);
    }
    paint(
        &mut pixels,
        width,
        profile.as_deref(),
        layout,
        outline.components,
    );
    Ok(Stored {
        width,
        height,
        rgb: pixels,
        orientation,
    })
}

fn paint(pixels: &mut Vec<u8>, width: u32, profile: Option<&[u8]>, layout: Layout, components: u8) {
    if components != 1 {
        Paint::new(profile, layout).in_place(pixels, width);
    } else if profile.is_some() {
        // The decoder has made three of each grey already.
        let mut paint = Paint::new(profile, Layout::Grey8);
        let mut line = Vec::with_capacity(width as usize);
        for row in pixels.chunks_exact_mut(width as usize * 3) {
            line.clear();
            line.extend(row.iter().step_by(3));
            paint.row(&line, row);
        }
    }
}

/// Samples as stored to inks, 255 the fullest. Adobe's programs, and all that write their marker,
/// store them the other way round; with transform 2 the first three as YCbCr of that.
fn to_ink(pixels: &mut [u8], adobe: Option<u8>) {
    let pixels = pixels.as_chunks_mut::<4>().0;
    match adobe {
        None => {}
        Some(2) => {
            for pixel in pixels {
                let [y, cb, cr] = [pixel[0], pixel[1], pixel[2]].map(i32::from);
                let (cb, cr) = (cb - 128, cr - 128);
                // JFIF's matrix in 16-bit fixed point.
                let rgb = [
                    y + ((91_881 * cr + 32_768) >> 16),
                    y - ((22_554 * cb + 46_802 * cr + 32_768) >> 16),
                    y + ((116_130 * cb + 32_768) >> 16),
                ];
                let [c, m, y] = rgb.map(|value| value.clamp(0, 255) as u8);
                *pixel = [c, m, y, 255 - pixel[3]];
            }
        }
        Some(_) => {
            for value in pixels.as_flattened_mut() {
                *value = 255 - *value;
            }
        }
    }
}

/// What the markers of a file say.
#[derive(Debug, Default)]
struct Outline {
    width: u32,
    height: u32,
    /// Bits of a sample.
    precision: u8,
    /// The marker of its frame, which says how it is coded.
    coding: u8,
    components: u8,
    /// The transform that Adobe's marker names.
    adobe: Option<u8>,
    scans: u32,
    /// Whether the end is there.
    whole: bool,
}

impl Outline {
    /// Walks over the markers, to the end of the picture.
    fn of(bytes: &[u8]) -> Self {
        let mut outline = Self::default();
        let mut at = 2;
        loop {
            // To the next marker: over entropy-coded data (FF 00, FF D0..D7 belong to it) and fill.
            let Some(skip) = bytes[at.min(bytes.len())..].iter().position(|&b| b == 0xFF) else {
                return outline;
            };
            at += skip;
            let Some(&marker) = bytes.get(at + 1) else {
                return outline;
            };
            match marker {
                0xFF => at += 1,
                0x00 | 0x01 | 0xD0..=0xD8 => at += 2,
                0xD9 => {
                    outline.whole = true;
                    return outline;
                }
                _ => {
                    let Some(&[high, low]) = bytes.get(at + 2..at + 4) else {
                        return outline;
                    };
                    let length = usize::from(u16::from_be_bytes([high, low])).max(2);
                    let end = (at + 2 + length).min(bytes.len());
                    outline.note(marker, &bytes[at + 4..end.max(at + 4)]);
                    at += 2 + length;
                }
            }
        }
    }

    fn note(&mut self, marker: u8, segment: &[u8]) {
        match (marker, segment) {
            (0xC4 | 0xC8 | 0xCC, _) => {}
            (0xC0..=0xCF, &[precision, h, h2, w, w2, components, ..]) if self.components == 0 => {
                self.coding = marker;
                self.precision = precision;
                self.height = u16::from_be_bytes([h, h2]).into();
                self.width = u16::from_be_bytes([w, w2]).into();
                self.components = components;
            }
            (0xDA, _) => self.scans += 1,
            (0xEE, _) if segment.starts_with(b"Adobe") => {
                self.adobe = segment.get(11).copied();
            }
            _ => {}
        }
    }

    fn check(&self) -> Result<(), DecodeError> {
        if !matches!(self.coding, 0xC0..=0xC2) {
            return Err(rare("arithmetic coding, lossless or hierarchical"));
        }
        if self.precision != 8 {
            return Err(rare("more than 8 bits a sample"));
        }
        if !matches!(self.components, 1 | 3 | 4) {
            return Err(rare("neither grey nor three nor four colours"));
        }
        if self.scans > SCANS_MAX {
            return Err(rare("far too many scans"));
        }
        Ok(())
    }
}
