//! WebP: lossy, lossless, with alpha, the first frame of an animation.

use std::io::Cursor;

use image::codecs::webp::WebPDecoder;
use image::{ImageDecoder as _, ImageError};

use super::colour::{Layout, Paint};
use super::{DecodeError, Kind, Stored, bytes_of, check_size};

fn fault(error: ImageError) -> DecodeError {
    let kind = Kind::WebP;
    match error {
        ImageError::IoError(error) => super::of_io(kind, error),
        ImageError::Decoding(_)
        | ImageError::Encoding(_)
        | ImageError::Parameter(_)
        | ImageError::Limits(_)
        | ImageError::Unsupported(_) => DecodeError::Damaged {
            kind,
            source: error.into(),
        },
    }
}

/// Decodes the picture, or the first frame of an animation.
pub(super) fn decode(bytes: &[u8]) -> Result<Stored, DecodeError> {
    let kind = Kind::WebP;
    // The decoder takes a file as whole that ends within its last chunk's padding or before it.
    let said = bytes.get(4..8).and_then(|size| size.first_chunk().copied());
    let said = said.map_or(0, u32::from_le_bytes) as usize;
    if bytes.len() < said.saturating_add(8) {
        return Err(DecodeError::CutOff { kind });
    }
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(fault)?;
    let (width, height) = decoder.dimensions();
    check_size(kind, width, height)?;
    let layout = if decoder.color_type().has_alpha() {
        Layout::Rgba8
    } else {
        Layout::Rgb8
    };
    let exif = decoder.exif_metadata().ok().flatten();
    let profile = decoder.icc_profile().ok().flatten();
    let mut pixels = vec![0; bytes_of(width, height, layout.bytes())];
    decoder.read_image(&mut pixels).map_err(fault)?;
    Paint::new(profile.as_deref(), layout).in_place(&mut pixels, width);
    Ok(Stored {
        width,
        height,
        rgb: pixels,
        orientation: super::orientation(exif.as_deref()),
    })
}
