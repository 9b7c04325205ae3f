//! Pictures set upright.
//!
//! Guarantee: any of the eight orientations, without a second picture in memory where that is more
//! than a trifle: half turns and mirrors in place, quarter turns in place in strips of rows.

use image::RgbImage;
use image::metadata::Orientation;

use super::Stored;

type Pixel = [u8; 3];

/// Below this many pixels a quarter turn takes a copy: it is simpler, and small.
const COPY_PX_MAX: usize = 1_000_000;
/// Rows of a strip, at most: a strip's column should fill a cache line or two.
const STRIP_ROWS_MAX: usize = 32;
/// Rows of a strip, at least: below, moving strips about costs more than a copy is worth.
const STRIP_ROWS_MIN: usize = 4;

/// Turns a picture as its orientation says.
pub(super) fn upright(stored: Stored) -> RgbImage {
    let Stored {
        width,
        height,
        mut rgb,
        orientation,
    } = stored;
    let (w, h) = (width as usize, height as usize);
    let across = matches!(
        orientation,
        Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH
    );
    let (width, height) = if across {
        transpose(&mut rgb, w, h);
        (height, width)
    } else {
        (width, height)
    };
    let pixels = rgb.as_chunks_mut::<3>().0;
    let w = width as usize;
    match orientation {
        // The sixth turned over the main diagonal is the fifth, and so on.
        Orientation::NoTransforms | Orientation::Rotate90FlipH => {}
        Orientation::FlipHorizontal | Orientation::Rotate90 => mirror(pixels, w),
        Orientation::FlipVertical | Orientation::Rotate270 => overturn(pixels, w),
        Orientation::Rotate180 | Orientation::Rotate270FlipH => pixels.reverse(),
    }
    RgbImage::from_raw(width, height, rgb).expect("a picture has three bytes for each pixel")
}

/// Left to right.
fn mirror(pixels: &mut [Pixel], width: usize) {
    for row in pixels.chunks_exact_mut(width) {
        row.reverse();
    }
}

/// Upside down.
fn overturn(pixels: &mut [Pixel], width: usize) {
    let mut rows = pixels.chunks_exact_mut(width);
    while let (Some(upper), Some(lower)) = (rows.next(), rows.next_back()) {
        upper.swap_with_slice(lower);
    }
}

/// Columns to rows: `width` x `height` becomes `height` x `width`.
fn transpose(rgb: &mut Vec<u8>, width: usize, height: usize) {
    let strip = (STRIP_ROWS_MIN..=STRIP_ROWS_MAX)
        .rev()
        .find(|rows| height.is_multiple_of(*rows));
    match strip {
        Some(rows) if width * height > COPY_PX_MAX => {
            transpose_strips(rgb.as_chunks_mut::<3>().0, width, rows);
        }
        Some(_) | None => {
            let mut turned = vec![0; rgb.len()];
            transposed(rgb.as_chunks().0, turned.as_chunks_mut().0, width, height);
            *rgb = turned;
        }
    }
}

/// Writes `from`, `width` x `height`, with columns as rows to `to`; by small squares, for the cache.
fn transposed(from: &[Pixel], to: &mut [Pixel], width: usize, height: usize) {
    const SIDE: usize = 32;
    for top in (0..height).step_by(SIDE) {
        for left in (0..width).step_by(SIDE) {
            for x in left..(left + SIDE).min(width) {
                for y in top..(top + SIDE).min(height) {
                    to[x * height + y] = from[y * width + x];
                }
            }
        }
    }
}

/// The same in place: first each strip of `rows` rows by itself, then the columns of the strips,
/// each `rows` pixels long, go where they belong along the cycles of that permutation.
fn transpose_strips(pixels: &mut [Pixel], width: usize, rows: usize) {
    let mut scratch = vec![[0; 3]; width * rows];
    for strip in pixels.chunks_exact_mut(width * rows) {
        transposed(strip, &mut scratch, width, rows);
        strip.copy_from_slice(&scratch);
    }
    let strips = pixels.len() / (width * rows);
    let columns = strips * width;
    let mut done = vec![false; columns];
    let mut held = vec![[0; 3]; rows];
    for start in 0..columns {
        if done[start] {
            continue;
        }
        // Column `x` of strip `s` lies at `s * width + x` and belongs at `x * strips + s`. Going
        // against the arrows, each column is moved once, into the place that has become free.
        held.copy_from_slice(&pixels[start * rows..][..rows]);
        let mut free = start;
        loop {
            done[free] = true;
            let from = (free % strips) * width + free / strips;
            if from == start {
                pixels[free * rows..][..rows].copy_from_slice(&held);
                break;
            }
            pixels.copy_within(from * rows..(from + 1) * rows, free * rows);
            free = from;
        }
    }
}
