//! Dots whose place can be measured to a hundredth of a pixel: how smoothly a camera moves.

use image::{Rgb, RgbImage};

/// Width of a dot: the standard deviation of its brightness, in pixels.
const SIGMA: f64 = 3.0;
const COLUMNS: u32 = 7;
const ROWS: u32 = 5;

/// Places of the dots on a picture, edges of pixels at whole numbers; none is near the border.
pub fn dots(width: u32, height: u32) -> Vec<(f64, f64)> {
    let step = |size: u32, count: u32| f64::from(size) * 0.6 / f64::from(count - 1);
    let place =
        |size: u32, n: u32, count: u32| f64::from(size) * 0.2 + step(size, count) * f64::from(n);
    // A little off the grid, each differently, so that all parts of a pixel are met.
    (0..ROWS)
        .flat_map(|y| (0..COLUMNS).map(move |x| (x, y)))
        .map(|(x, y)| {
            let off = f64::from(x * 3 + y * 5) * 0.137;
            (
                place(width, x, COLUMNS) + off,
                place(height, y, ROWS) + off * 0.7,
            )
        })
        .collect()
}

/// A black picture with white dots at [`dots`].
pub fn dotted(width: u32, height: u32) -> RgbImage {
    let mut picture = RgbImage::new(width, height);
    for (left, top) in dots(width, height) {
        let near = |at: f64, size: u32| (at as u32).saturating_sub(16)..(at as u32 + 17).min(size);
        for y in near(top, height) {
            for x in near(left, width) {
                let (dx, dy) = (f64::from(x) + 0.5 - left, f64::from(y) + 0.5 - top);
                let light = 255.0 * (-(dx * dx + dy * dy) / (2.0 * SIGMA * SIGMA)).exp();
                picture.put_pixel(x, y, Rgb([light.round() as u8; 3]));
            }
        }
    }
    picture
}

/// Where the dot near `(x, y)` really is on a plane of limited-range luma: the centre of its light within `reach`
/// pixels.
pub fn centre(luma: &[u8], width: usize, (x, y): (f64, f64), reach: usize) -> (f64, f64) {
    let (mut light, mut left, mut top) = (0.0, 0.0, 0.0);
    for row in y as usize - reach..=y as usize + reach {
        for column in x as usize - reach..=x as usize + reach {
            let value = f64::from(luma[row * width + column]) - 16.0;
            light += value;
            left += value * (column as f64 + 0.5);
            top += value * (row as f64 + 0.5);
        }
    }
    (left / light, top / light)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_found_where_they_were_put() {
        let picture = dotted(640, 360);
        let luma: Vec<u8> = picture
            .pixels()
            .map(|p| (16.0 + f64::from(p.0[0]) * 219.0 / 255.0).round() as u8)
            .collect();
        for (x, y) in dots(640, 360) {
            let (a, b) = centre(&luma, 640, (x, y), 14);
            assert!(
                (a - x).abs() < 0.02 && (b - y).abs() < 0.02,
                "{x},{y}: {a},{b}"
            );
        }
    }
}
