//! Pictures from files: recognised by what they are, within limits, upright, without alpha.
//!
//! Guarantee: dimensions are checked before any pixel is decoded; a picture that is cut off is
//! refused, never rendered half grey. Not for: colour profiles (taken as sRGB).

use std::io::Cursor;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, Limits, RgbImage};

/// Pixels of either side.
pub const SIDE_PX_MAX: u32 = 16_384;
/// Pixels in all.
pub const AREA_PX_MAX: u64 = 100_000_000;
/// Bytes that a decoder may allocate: 100 Mpx of 16 bits in four channels, and room to work.
const ALLOC_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Why a file is no picture for us.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// No format that we know.
    #[error("the file is no JPEG, PNG, WebP or GIF picture")]
    Unknown,
    /// The format is known, the content is broken.
    #[error("the {format} picture is damaged")]
    Damaged {
        /// Its format.
        format: &'static str,
        /// What the decoder found.
        source: ImageError,
    },
    /// The data ends before the picture does.
    #[error("the JPEG picture is cut off")]
    CutOff,
    /// More pixels than we take.
    #[error(
        "the picture has {width}x{height} pixels; at most {SIDE_PX_MAX} a side and {AREA_PX_MAX} in all are taken"
    )]
    TooLarge {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
    },
}

/// Decodes a picture to upright RGB; transparent parts are black.
pub fn decode(bytes: &[u8]) -> Result<RgbImage, DecodeError> {
    let reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|_| DecodeError::Unknown)?;
    let format = match reader.format() {
        Some(image::ImageFormat::Jpeg) => "JPEG",
        Some(image::ImageFormat::Png) => "PNG",
        Some(image::ImageFormat::WebP) => "WebP",
        Some(image::ImageFormat::Gif) => "GIF",
        _ => return Err(DecodeError::Unknown),
    };
    if format == "JPEG" && !jpeg_is_whole(bytes) {
        return Err(DecodeError::CutOff);
    }
    let damaged = |source| DecodeError::Damaged { format, source };
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    let area = u64::from(width) * u64::from(height);
    if width > SIDE_PX_MAX || height > SIDE_PX_MAX || area > AREA_PX_MAX {
        return Err(DecodeError::TooLarge { width, height });
    }
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE_PX_MAX);
    limits.max_image_height = Some(SIDE_PX_MAX);
    limits.max_alloc = Some(ALLOC_BYTES_MAX);
    decoder.set_limits(limits).map_err(damaged)?;
    // A picture with unreadable EXIF data is still a picture.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    picture.apply_orientation(orientation);
    Ok(flatten(picture))
}

fn flatten(picture: DynamicImage) -> RgbImage {
    if !picture.color().has_alpha() {
        return picture.into_rgb8();
    }
    let rgba = picture.into_rgba8();
    let (width, height) = rgba.dimensions();
    let mut rgb = Vec::with_capacity(width as usize * height as usize * 3);
    for pixel in rgba.as_raw().chunks_exact(4) {
        let alpha = u32::from(pixel[3]);
        rgb.extend(
            pixel[..3]
                .iter()
                .map(|&c| ((u32::from(c) * alpha + 127) / 255) as u8),
        );
    }
    RgbImage::from_raw(width, height, rgb).expect("three bytes were made of each pixel")
}

/// Whether the data goes on to the end-of-image marker. Decoders paint what is missing grey.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    let mut at = 2;
    loop {
        // To the next marker: over entropy-coded data (FF 00, FF D0..D7 belong to it) and fill.
        while at + 1 < bytes.len()
            && (bytes[at] != 0xFF || matches!(bytes[at + 1], 0x00 | 0xD0..=0xD7 | 0xFF))
        {
            at += 1;
        }
        let Some(marker) = bytes.get(at + 1) else {
            return false;
        };
        match marker {
            0xD9 => return true,
            0x01 => at += 2,
            _ => {
                let Some(&[high, low]) = bytes.get(at + 2..at + 4) else {
                    return false;
                };
                at += 2 + usize::from(u16::from_be_bytes([high, low])).max(2);
            }
        }
    }
}

#[cfg(test)]
mod tests;
