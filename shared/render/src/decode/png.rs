//! PNG: every colour type and depth, row by row, so that only RGB is ever held whole.

use std::io::Cursor;

use png::{
    BitDepth, ColorType, Decoder, DecodingError, InterlaceInfo, Limits, Transformations,
    expand_interlaced_row,
};

use super::colour::{Layout, Paint};
use super::{DecodeError, Kind, Stored, bytes_of, check_size};

/// Bytes that the decoder may allocate: rows, palette, a colour profile.
const ALLOC_BYTES_MAX: usize = 16 * 1024 * 1024;

fn fault(error: DecodingError) -> DecodeError {
    let kind = Kind::Png;
    match error {
        DecodingError::IoError(error) => super::of_io(kind, error),
        other @ (DecodingError::Format(_)
        | DecodingError::Parameter(_)
        | DecodingError::LimitsExceeded) => DecodeError::Damaged {
            kind,
            source: other.into(),
        },
    }
}

/// Decodes the picture; of an animation what viewers show that know no animation.
pub(super) fn decode(bytes: &[u8]) -> Result<Stored, DecodeError> {
    let limits = Limits {
        bytes: ALLOC_BYTES_MAX,
    };
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), limits);
    decoder.set_ignore_text_chunk(true);
    let header = decoder.read_header_info().map_err(fault)?;
    let (width, height) = (header.width, header.height);
    check_size(Kind::Png, width, height)?;
    // Palettes and small depths to 8 bits, transparency to alpha; 16 bits we round ourselves, as
    // the decoder would cut them off.
    decoder.set_transformations(Transformations::EXPAND);
    let mut reader = decoder.read_info().map_err(fault)?;
    let layout = layout(reader.output_color_type());
    // With an sRGB chunk no profile counts.
    let info = reader.info();
    let profile = info.icc_profile.as_deref().filter(|_| info.srgb.is_none());
    let mut paint = Paint::new(profile, layout);
    let stride = width as usize * 3;
    let mut rgb = vec![0; bytes_of(width, height, 3)];
    if info.interlaced {
        let mut painted = vec![0; stride];
        while let Some(row) = reader.next_interlaced_row().map_err(fault)? {
            let InterlaceInfo::Adam7(place) = row.interlace() else {
                break;
            };
            let painted = &mut painted[..row.data().len() / layout.bytes() * 3];
            paint.row(row.data(), painted);
            expand_interlaced_row(&mut rgb, stride, painted, place, 24);
        }
    } else if layout == Layout::Rgb8 {
        for row in rgb.chunks_exact_mut(stride) {
            reader.read_row(row).map_err(fault)?;
        }
        paint.in_place(&mut rgb, width);
    } else {
        let mut line = vec![0; width as usize * layout.bytes()];
        for row in rgb.chunks_exact_mut(stride) {
            reader.read_row(&mut line).map_err(fault)?;
            paint.row(&line, row);
        }
    }
    // The checksum of the data and the end of the file; an orientation may stand there, too.
    reader.finish().map_err(fault)?;
    let orientation = super::orientation(reader.info().exif_metadata.as_deref());
    Ok(Stored {
        width,
        height,
        rgb,
        orientation,
    })
}

fn layout(output: (ColorType, BitDepth)) -> Layout {
    let deep = output.1 == BitDepth::Sixteen;
    match (output.0, deep) {
        (ColorType::Grayscale, false) => Layout::Grey8,
        (ColorType::Grayscale, true) => Layout::Grey16,
        (ColorType::GrayscaleAlpha, false) => Layout::GreyAlpha8,
        (ColorType::GrayscaleAlpha, true) => Layout::GreyAlpha16,
        // A palette has been expanded to this or the next but one.
        (ColorType::Rgb | ColorType::Indexed, false) => Layout::Rgb8,
        (ColorType::Rgb | ColorType::Indexed, true) => Layout::Rgb16,
        (ColorType::Rgba, false) => Layout::Rgba8,
        (ColorType::Rgba, true) => Layout::Rgba16,
    }
}
