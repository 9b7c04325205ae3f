//! What a resampled picture must look like, computed in f64 from first principles, and how far off one is.
//!
//! Guarantee: independent of the product: no code of its renderer is used, colour matrix and kernel are written out
//! from their definitions. Slow on purpose.

use image::RgbImage;

/// One plane of unrounded BT.709 limited-range values.
#[derive(Debug, Clone)]
pub struct Exact {
    /// Samples of a row.
    pub width: usize,
    /// Row after row.
    pub values: Vec<f64>,
}

/// Centres of output samples on one axis, in source samples with edges at whole numbers.
#[derive(Debug, Clone, Copy)]
pub struct Steps {
    /// Of the first.
    pub first: f64,
    /// To the next.
    pub step: f64,
    /// How many.
    pub len: usize,
}

/// Luma, blue difference and red difference of a picture.
pub fn planes(picture: &RgbImage) -> [Exact; 3] {
    let rows = [
        [0.2126, 0.7152, 0.0722, 219.0, 16.0],
        [-0.2126 / 1.8556, -0.7152 / 1.8556, 0.5, 224.0, 128.0],
        [0.5, -0.7152 / 1.5748, -0.0722 / 1.5748, 224.0, 128.0],
    ];
    rows.map(|[r, g, b, span, offset]| {
        let value = |p: &image::Rgb<u8>| {
            let [red, green, blue] = p.0.map(f64::from);
            (r * red + g * green + b * blue) / 255.0 * span + offset
        };
        Exact {
            width: picture.width() as usize,
            values: picture.pixels().map(value).collect(),
        }
    })
}

fn lanczos3(x: f64) -> f64 {
    if x.abs() < 1e-12 {
        return 1.0;
    }
    if x.abs() >= 3.0 {
        return 0.0;
    }
    let p = std::f64::consts::PI * x;
    3.0 * p.sin() * (p / 3.0).sin() / (p * p)
}

/// The source samples that an output at `centre` is made of, `step` apart from the next, with their weights.
fn weights(centre: f64, step: f64, size: usize) -> Vec<(usize, f64)> {
    let scale = step.max(1.0);
    let reach = 3.0 * scale + 1.0;
    let from = (centre - reach).max(0.0) as usize;
    let to = ((centre + reach).ceil() as usize).min(size);
    let taps: Vec<(usize, f64)> = (from..to)
        .map(|n| (n, lanczos3((n as f64 + 0.5 - centre) / scale)))
        .filter(|&(_, weight)| weight != 0.0)
        .collect();
    let sum: f64 = taps.iter().map(|&(_, weight)| weight).sum();
    taps.into_iter()
        .map(|(n, weight)| (n, weight / sum))
        .collect()
}

impl Exact {
    /// Rows.
    pub fn height(&self) -> usize {
        self.values.len() / self.width
    }

    /// The plane seen at these centres.
    #[must_use]
    pub fn resampled(&self, across: Steps, down: Steps) -> Self {
        let taps = |steps: Steps, size| -> Vec<Vec<(usize, f64)>> {
            (0..steps.len)
                .map(|n| weights(steps.first + n as f64 * steps.step, steps.step, size))
                .collect()
        };
        let (columns, rows) = (taps(across, self.width), taps(down, self.height()));
        let mut narrow = Vec::with_capacity(self.height() * across.len);
        for row in self.values.chunks_exact(self.width) {
            narrow.extend(
                columns
                    .iter()
                    .map(|taps| -> f64 { taps.iter().map(|&(n, weight)| row[n] * weight).sum() }),
            );
        }
        let mut values = Vec::with_capacity(down.len * across.len);
        for taps in &rows {
            values.extend((0..across.len).map(|column| -> f64 {
                let at = |n: usize| narrow[n * across.len + column];
                taps.iter().map(|&(n, weight)| at(n) * weight).sum()
            }));
        }
        Self {
            width: across.len,
            values: values
                .iter()
                .map(|value: &f64| value.clamp(0.0, 255.0))
                .collect(),
        }
    }

    /// Decibels between this and what was made, without `border` samples on each side.
    pub fn psnr(&self, made: &[u8], border: usize) -> f64 {
        let (mut sum, mut count) = (0.0, 0.0);
        for y in border..self.height() - border {
            for x in border..self.width - border {
                let n = y * self.width + x;
                sum += (f64::from(made[n]) - self.values[n]).powi(2);
                count += 1.0;
            }
        }
        10.0 * (255.0 * 255.0 / (sum / count)).log10()
    }

    /// Structural similarity as Wang et al. define it: a Gaussian window of 11 samples, sigma 1.5; the mean of all
    /// places where the window fits.
    pub fn ssim(&self, made: &[u8]) -> f64 {
        let made: Vec<f64> = made.iter().map(|&value| f64::from(value)).collect();
        let product =
            |a: &[f64], b: &[f64]| -> Vec<f64> { a.iter().zip(b).map(|(a, b)| a * b).collect() };
        let blurred = |values: &[f64]| blurred(values, self.width);
        let (mx, my) = (blurred(&self.values), blurred(&made));
        let xx = blurred(&product(&self.values, &self.values));
        let yy = blurred(&product(&made, &made));
        let xy = blurred(&product(&self.values, &made));
        let (c1, c2) = ((0.01_f64 * 255.0).powi(2), (0.03_f64 * 255.0).powi(2));
        let total: f64 = (0..mx.len())
            .map(|n| {
                let (x, y) = (mx[n], my[n]);
                let (vx, vy, both) = (xx[n] - x * x, yy[n] - y * y, xy[n] - x * y);
                (2.0 * x * y + c1) * (2.0 * both + c2) / ((x * x + y * y + c1) * (vx + vy + c2))
            })
            .sum();
        total / mx.len() as f64
    }
}

/// Blurred by the window, where it fits.
fn blurred(values: &[f64], width: usize) -> Vec<f64> {
    const TAPS: usize = 11;
    let raw: [f64; TAPS] = std::array::from_fn(|n| (-(n as f64 - 5.0).powi(2) / 4.5).exp());
    let sum: f64 = raw.iter().sum();
    let window = raw.map(|weight| weight / sum);
    let narrow: Vec<Vec<f64>> = values
        .chunks_exact(width)
        .map(|row| {
            row.windows(TAPS)
                .map(|part| {
                    part.iter()
                        .zip(window)
                        .map(|(value, weight)| value * weight)
                        .sum()
                })
                .collect()
        })
        .collect();
    narrow
        .windows(TAPS)
        .flat_map(|rows| {
            (0..width + 1 - TAPS).map(|x| -> f64 {
                rows.iter()
                    .zip(window)
                    .map(|(row, weight)| row[x] * weight)
                    .sum()
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_the_same_and_a_step_off_is_known() {
        let plane = Exact {
            width: 40,
            values: (0..40 * 30).map(|n| f64::from(n % 200 + 20)).collect(),
        };
        let same: Vec<u8> = plane.values.iter().map(|&value| value as u8).collect();
        assert!(plane.psnr(&same, 2).is_infinite() && (plane.ssim(&same) - 1.0).abs() < 1e-9);
        let off: Vec<u8> = same.iter().map(|value| value + 1).collect();
        // One step off everywhere: 20 log10(255).
        assert!((plane.psnr(&off, 2) - 48.13).abs() < 0.01);
        assert!(plane.ssim(&off) > 0.999);
        let noisy: Vec<u8> = same
            .iter()
            .enumerate()
            .map(|(n, v)| v + (n % 7) as u8 * 3)
            .collect();
        assert!(plane.ssim(&noisy) < plane.ssim(&off));
    }

    #[test]
    fn in_place_nothing_changes_and_half_a_sample_is_between() {
        let plane = Exact {
            width: 20,
            values: (0..20 * 20)
                .map(|n| f64::from(n % 20) * 4.0 + 50.0)
                .collect(),
        };
        let at = |first, step, len| Steps { first, step, len };
        let here = plane.resampled(at(0.5, 1.0, 20), at(0.5, 1.0, 20));
        assert!(
            here.values
                .iter()
                .zip(&plane.values)
                .all(|(a, b)| (a - b).abs() < 1e-9)
        );
        let between = plane.resampled(at(8.0, 1.0, 4), at(8.0, 1.0, 1));
        // A ramp: half way between its neighbours, but for the kernel's ripple.
        for (n, value) in between.values.iter().enumerate() {
            assert!((value - (80.0 + n as f64 * 4.0)).abs() < 0.1, "{value}");
        }
    }
}
