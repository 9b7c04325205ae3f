//! Pictures from files: recognised by what they are, within limits, upright, in sRGB, on black.
//!
//! Nouns: a [`Kind`] is what a file is, whatever its name says; a [`Foreign`] one is none of ours.
//!
//! Guarantee: dimensions are checked before any pixel is decoded; of an animation only the first
//! frame costs anything; a picture that is cut off is refused, never rendered half grey; what the
//! decoders themselves need apart, three bytes a pixel are held, and for grey, deep, palette and
//! transparent PNG no more. Embedded colour profiles are honoured, transparent parts lie on black.
//!
//! Not for: AVIF, which needs an AV1 decoder: [`avif`] takes the file apart and puts it together.

pub mod avif;
mod colour;
mod gif;
mod jpeg;
mod kind;
mod png;
mod turn;
mod webp;

use std::error::Error;

use image::metadata::Orientation;

pub use image::RgbImage;
pub use kind::{Foreign, Kind};

/// Pixels of either side.
pub const SIDE_PX_MAX: u32 = 16_384;
/// Pixels in all.
pub const AREA_PX_MAX: u64 = 100_000_000;

/// Why a file is no picture for us.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// A format that we do not take, or none that we know.
    #[error("{0}")]
    Foreign(Foreign),
    /// The format is known, the content is broken.
    #[error("the {kind} picture is damaged")]
    Damaged {
        /// Its format.
        kind: Kind,
        /// What the decoder found.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The format is known, this use of it is not.
    #[error("the {kind} picture is of a rare sort ({what})")]
    Rare {
        /// Its format.
        kind: Kind,
        /// What is rare about it.
        what: &'static str,
    },
    /// The data ends before the picture does.
    #[error("the {kind} picture is cut off")]
    CutOff {
        /// Its format.
        kind: Kind,
    },
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

/// A picture as it is stored: rows of RGB, not yet turned.
struct Stored {
    width: u32,
    height: u32,
    /// Three bytes a pixel, row after row.
    rgb: Vec<u8>,
    orientation: Orientation,
}

/// Decodes a picture to upright sRGB; transparent parts are black. An AVIF is refused as
/// [`DecodeError::Rare`]: take [`avif::Still`].
pub fn decode(bytes: &[u8]) -> Result<RgbImage, DecodeError> {
    let kind = Kind::of(bytes).map_err(DecodeError::Foreign)?;
    let stored = match kind {
        Kind::Jpeg => jpeg::decode(bytes),
        Kind::Png => png::decode(bytes),
        Kind::WebP => webp::decode(bytes),
        Kind::Gif => gif::decode(bytes),
        Kind::Avif => Err(DecodeError::Rare {
            kind,
            what: "no AV1 decoder is at hand",
        }),
    }?;
    Ok(turn::upright(stored))
}

/// Refuses what is too large; before pixels are decoded.
fn check_size(kind: Kind, width: u32, height: u32) -> Result<(), DecodeError> {
    if width == 0 || height == 0 {
        return Err(DecodeError::Damaged {
            kind,
            source: "it has no pixels".into(),
        });
    }
    let area = u64::from(width) * u64::from(height);
    if width > SIDE_PX_MAX || height > SIDE_PX_MAX || area > AREA_PX_MAX {
        return Err(DecodeError::TooLarge { width, height });
    }
    Ok(())
}

/// Bytes of so many pixels of so many bytes; within the limits it cannot overflow.
fn bytes_of(width: u32, height: u32, each: usize) -> usize {
    width as usize * height as usize * each
}

/// What EXIF data say of the orientation. A picture with unreadable EXIF data is still a picture.
fn orientation(exif: Option<&[u8]>) -> Orientation {
    exif.map(|exif| exif.strip_prefix(b"Exif\0\0").unwrap_or(exif))
        .and_then(Orientation::from_exif_chunk)
        .unwrap_or(Orientation::NoTransforms)
}

/// The end of the data is told from damage.
fn of_io(kind: Kind, error: std::io::Error) -> DecodeError {
    if error.kind() == std::io::ErrorKind::UnexpectedEof {
        return DecodeError::CutOff { kind };
    }
    DecodeError::Damaged {
        kind,
        source: error.into(),
    }
}

#[cfg(test)]
mod tests;
