//! GIF: the first frame, on its canvas.

use std::io::Cursor;
use std::num::NonZeroU64;

use gif::{ColorOutput, DecodeOptions, DecodingError, MemoryLimit};
use image::metadata::Orientation;

use super::{AREA_PX_MAX, DecodeError, Kind, Stored, bytes_of, check_size};

fn fault(error: DecodingError) -> DecodeError {
    let kind = Kind::Gif;
    match error {
        DecodingError::Io(error) => super::of_io(kind, error),
        DecodingError::UnexpectedEof => DecodeError::CutOff { kind },
        other @ (DecodingError::OutOfMemory
        | DecodingError::MemoryLimit
        | DecodingError::DecoderNotFound
        | DecodingError::EndCodeNotFound
        | DecodingError::LzwError(_)
        | DecodingError::Format(_)
        | _) => DecodeError::Damaged {
            kind,
            source: other.into(),
        },
    }
}

fn damaged(what: &'static str) -> DecodeError {
    DecodeError::Damaged {
        kind: Kind::Gif,
        source: what.into(),
    }
}

/// Decodes the first frame; where it leaves the canvas free or transparent, the canvas is black.
pub(super) fn decode(bytes: &[u8]) -> Result<Stored, DecodeError> {
    let mut options = DecodeOptions::new();
    // A byte a pixel and the palette afterwards: a quarter of what RGBA would take.
    options.set_color_output(ColorOutput::Indexed);
    if let Some(limit) = NonZeroU64::new(AREA_PX_MAX) {
        options.set_memory_limit(MemoryLimit::Bytes(limit));
    }
    let mut decoder = options.read_info(Cursor::new(bytes)).map_err(fault)?;
    let (width, height) = (u32::from(decoder.width()), u32::from(decoder.height()));
    check_size(Kind::Gif, width, height)?;
    let frame = decoder.next_frame_info().map_err(fault)?;
    let frame = frame.ok_or_else(|| damaged("it has no frame"))?;
    let (left, top) = (u32::from(frame.left), u32::from(frame.top));
    let (across, down) = (u32::from(frame.width), u32::from(frame.height));
    let (own, clear) = (frame.palette.clone(), frame.transparent);
    check_size(Kind::Gif, across, down)?;
    let palette = match own {
        Some(palette) => palette,
        None => decoder
            .global_palette()
            .ok_or_else(|| damaged("it has no palette"))?
            .to_vec(),
    };
    let mut indices = vec![0; bytes_of(across, down, 1)];
    decoder.read_into_buffer(&mut indices).map_err(fault)?;
    // What a palette that is too short does not say is black, as is what is clear.
    let mut colours = [[0; 3]; 256];
    for (colour, entry) in colours.iter_mut().zip(palette.chunks_exact(3)) {
        colour.copy_from_slice(entry);
    }
    if let Some(clear) = clear {
        colours[usize::from(clear)] = [0; 3];
    }
    let mut rgb = vec![0; bytes_of(width, height, 3)];
    let rows = rgb.chunks_exact_mut(width as usize * 3).skip(top as usize);
    for (row, line) in rows.zip(indices.chunks_exact(across as usize)) {
        let start = (left as usize * 3).min(row.len());
        for (pixel, &index) in row[start..].chunks_exact_mut(3).zip(line) {
            pixel.copy_from_slice(&colours[usize::from(index)]);
        }
    }
    Ok(Stored {
        width,
        height,
        rgb,
        orientation: Orientation::NoTransforms,
    })
}
