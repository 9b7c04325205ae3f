//! The stage: a picture made ready to be filmed, as planes of BT.709 limited-range YUV.
//!
//! Guarantee: the camera at zoom 1 sees [`Stage::base`] and fills the frame with it, whatever the
//! fit; a source much larger than can be seen is reduced once; chroma is kept at what half-size
//! chroma at the closest zoom can show.

use std::ops::Range;

use image::RgbImage;
use photofinish_contract::request::Fit;

use crate::axis::LOBES;
use crate::camera::Rect;
use crate::convert::{BLUE, LUMA, RED, Scene};
use crate::kernel::{Component, Simd};
use crate::resample::{Lens, Plane, Resampler};

/// A source is reduced when it has more than this many times the pixels a side that can be seen.
const REDUCE_ABOVE: f64 = 1.1;
/// Bytes of a band: few enough that they are still in the processor's cache when they are written out, and enough rows
/// that those above the first one, which a band that does not follow another needs again, weigh little.
const BAND_BYTES_MAX: usize = 256 * 1024;
/// Turns samples into picture bytes.
const TO_PICTURE: u8 = 0x80;

/// A picture ready to be filmed.
#[derive(Debug, Clone)]
pub struct Stage {
    luma: Plane,
    chroma: [Plane; 2],
    /// What zoom 1 shows, in luma pixels.
    pub base: Rect,
    /// Pixels of the frame.
    pub width: u32,
    /// Pixels of the frame.
    pub height: u32,
    simd: Simd,
}

/// Where a camera looks in one frame; any number of cameras may film it at once.
#[derive(Debug, Clone, Default)]
pub struct Aim {
    luma: Lens,
    chroma: Lens,
}

/// One who films: what is needed besides the stage and the aim, kept from frame to frame.
#[derive(Debug)]
pub struct Camera {
    luma: Resampler,
    chroma: Resampler,
    /// The plane that was filmed last, and the row that follows; nothing after a cut.
    after: Option<(usize, usize)>,
}

/// Some rows of one plane of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Band {
    plane: usize,
    width: usize,
    rows: Range<usize>,
}

/// How one axis of the scene becomes one of a plane.
#[derive(Debug, Clone, Copy)]
struct Kept {
    /// What of the scene is kept, in its pixels.
    from: f64,
    length: f64,
    /// As how many samples.
    samples: usize,
    /// Where the base lies then, in samples.
    base: f64,
    base_length: f64,
}

impl Stage {
    /// Sets the stage for frames of `width` x `height` and a camera that comes as close as
    /// `zoom_max`, with the processor's best instructions.
    pub fn set(picture: &RgbImage, width: u32, height: u32, fit: Fit, zoom_max: f64) -> Self {
        Self::set_with(Simd::best(), picture, width, height, fit, zoom_max)
    }

    /// [`Stage::set`] with the given instructions.
    ///
    /// # Panics
    /// If this processor does not have them.
    pub fn set_with(
        simd: Simd,
        picture: &RgbImage,
        width: u32,
        height: u32,
        fit: Fit,
        zoom_max: f64,
    ) -> Self {
        // What makes calls of vector instructions sound: there is no other way in.
        assert!(
            Simd::all().contains(&simd),
            "this processor has no {simd:?}"
        );
        let (scene, base) = scene(picture, width, height, fit);
        let seen = (f64::from(width) * zoom_max, f64::from(height) * zoom_max);
        let x = kept(scene.size.0, base.left, base.width, seen.0);
        let y = kept(scene.size.1, base.top, base.height, seen.1);
        let mut resampler = Resampler::new(simd);
        let mut plane = |component: Component, x: Kept, y: Kept| {
            let mut rows = scene.component(simd, component);
            let (from, to) = (scene.size, (x.samples, y.samples));
            if from == to {
                return Plane::copy(&mut rows, to);
            }
            let rect = Rect {
                left: x.from,
                top: y.from,
                width: x.length,
                height: y.length,
            };
            // Bars can be thousands of times the picture: they are not worth a single sum.
            let (w, h) = picture.dimensions();
            let lit = (x.lit(scene.offset.0, w), y.lit(scene.offset.1, h));
            let bar = component.black();
            Plane::resampled(&mut resampler, &mut rows, (from, bar), rect, (to, lit))
        };
        let luma = plane(LUMA, x, y);
        let halved = (x.halved(seen.0), y.halved(seen.1));
        let chroma = [BLUE, RED].map(|component| plane(component, halved.0, halved.1));
        Self {
            luma,
            chroma,
            base: Rect {
                left: x.base,
                top: y.base,
                width: x.base_length,
                height: y.base_length,
            },
            width,
            height,
            simd,
        }
    }

    /// Bytes of one frame: planar 4:2:0.
    pub fn frame_bytes(&self) -> usize {
        self.width as usize * self.height as usize * 3 / 2
    }

    /// The bands of a frame, in the order of its bytes.
    pub fn bands(&self) -> Vec<Band> {
        let (width, height) = (self.width as usize, self.height as usize);
        let planes = [
            (width, height),
            (width / 2, height / 2),
            (width / 2, height / 2),
        ];
        let mut bands = Vec::new();
        for (plane, (width, height)) in planes.into_iter().enumerate() {
            let rows = (BAND_BYTES_MAX / width).max(1);
            bands.extend((0..height).step_by(rows).map(|start| Band {
                plane,
                width,
                rows: start..(start + rows).min(height),
            }));
        }
        bands
    }

    /// One who can film this stage, or any other.
    pub fn camera(&self) -> Camera {
        Camera {
            luma: Resampler::new(self.simd),
            chroma: Resampler::new(self.simd),
            after: None,
        }
    }
}

impl Band {
    /// Its bytes.
    pub fn bytes(&self) -> usize {
        self.rows.len() * self.width
    }
}

impl Aim {
    /// Looks at `rect` (in luma pixels) of a stage.
    pub fn set(&mut self, stage: &Stage, rect: Rect) {
        let (width, height) = (stage.width as usize, stage.height as usize);
        let luma = (stage.luma.width, stage.luma.height);
        self.luma.set(rect, luma, (width, height));
        let chroma = (stage.chroma[0].width, stage.chroma[0].height);
        let across = chroma.0 as f64 / luma.0 as f64;
        let down = chroma.1 as f64 / luma.1 as f64;
        // H.264 chroma is sited at the left luma sample of its pair: half a frame pixel further left
        // than the middle of the pair.
        let shift = 0.5 * rect.width / width as f64;
        let sited = Rect {
            left: (rect.left - shift) * across,
            top: rect.top * down,
            width: rect.width * across,
            height: rect.height * down,
        };
        self.chroma.set(sited, chroma, (width / 2, height / 2));
    }
}

impl Camera {
    /// The next band is not the one that follows the last one in the same frame.
    pub fn cut(&mut self) {
        self.after = None;
    }

    /// Films one band into `out`, [`Band::bytes`] long. A band that follows the one before costs least; one of another
    /// frame comes after a [cut](Self::cut).
    pub fn film(&mut self, stage: &Stage, aim: &Aim, band: &Band, out: &mut [u8]) {
        let (resampler, lens, plane) = match band.plane {
            0 => (&mut self.luma, &aim.luma, &stage.luma),
            n => (&mut self.chroma, &aim.chroma, &stage.chroma[n - 1]),
        };
        if self.after != Some((band.plane, band.rows.start)) {
            resampler.begin(lens);
        }
        let form = (band.width, TO_PICTURE);
        resampler.write((lens, &mut &*plane), band.rows.clone(), out, form);
        self.after = Some((band.plane, band.rows.end));
    }
}

impl Kept {
    /// The same for chroma, of which half as many samples are `seen` at most.
    fn halved(self, seen: f64) -> Self {
        let ratio = (seen / 2.0 / self.base_length).min(1.0);
        let samples = (self.samples as f64 * ratio).ceil().max(1.0);
        Self {
            samples: samples as usize,
            ..self
        }
    }

    /// The samples that anything of the picture falls on, which begins at `offset` of the scene and is `side` long;
    /// the others are bars.
    fn lit(self, offset: usize, side: u32) -> Range<usize> {
        let step = self.length / self.samples as f64;
        let reach = LOBES * step.max(1.0) + 1.0;
        let sample = |at: f64| (at - self.from) / step;
        // Below zero is zero.
        let start = sample(offset as f64 - reach) as usize;
        let end = sample(offset as f64 + f64::from(side) + reach).ceil() as usize;
        start..end.min(self.samples)
    }
}

fn kept(size: usize, base: f64, base_length: f64, seen: f64) -> Kept {
    if base_length > seen * REDUCE_ABOVE {
        let samples = seen.ceil();
        return Kept {
            from: base,
            length: base_length,
            samples: samples as usize,
            base: 0.0,
            base_length: samples,
        };
    }
    Kept {
        from: 0.0,
        length: size as f64,
        samples: size,
        base,
        base_length,
    }
}

/// The picture, in bars if it is to be contained, and the part of the scene that fills the frame at zoom 1.
fn scene(picture: &RgbImage, width: u32, height: u32, fit: Fit) -> (Scene<'_>, Rect) {
    let (w, h) = picture.dimensions();
    let aspect = f64::from(width) / f64::from(height);
    let (real_w, real_h) = (f64::from(w), f64::from(h));
    let (base_w, base_h) = match fit {
        Fit::Stretch => (real_w, real_h),
        Fit::Cover => (real_w.min(real_h * aspect), real_h.min(real_w / aspect)),
        Fit::Contain => (real_w.max(real_h * aspect), real_h.max(real_w / aspect)),
    };
    let (scene_w, x, left) = bars(w, base_w);
    let (scene_h, y, top) = bars(h, base_h);
    let scene = Scene {
        picture,
        size: (scene_w, scene_h),
        offset: (x, y),
    };
    let base = Rect {
        left,
        top,
        width: base_w,
        height: base_h,
    };
    (scene, base)
}

/// One axis: pixels of the scene, where the picture begins in it, and where the base does.
fn bars(side: u32, base: f64) -> (usize, usize, f64) {
    let real = f64::from(side);
    if base <= real + 1e-9 {
        return (side as usize, 0, (real - base).max(0.0) / 2.0);
    }
    // Two pixels more than needed, so that the centred base fits whatever the rounding.
    let scene = base.ceil() as usize + 2;
    let offset = (scene - side as usize) / 2;
    (scene, offset, offset as f64 + real / 2.0 - base / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An upright line of one pixel in a frame sixty times as broad as high.
    #[test]
    fn bars_cost_nothing_however_broad_they_are() {
        let picture = RgbImage::from_pixel(1, 16_384, image::Rgb([255; 3]));
        let (scene, base) = scene(&picture, 3840, 64, Fit::Contain);
        assert_eq!((scene.size.0, base.width as u32), (983_042, 983_040));
        let x = kept(scene.size.0, base.left, base.width, 5085.0);
        let y = kept(scene.size.1, base.top, base.height, 85.0);
        assert_eq!(y.lit(scene.offset.1, 16_384), 0..85);
        let lit = x.lit(scene.offset.0, 1);
        assert!(lit.contains(&2542) && lit.len() < 10, "{lit:?}");
        // What is not in bars is lit throughout, also where only a part of it is kept.
        let cover = kept(4000, 1000.0, 2000.0, 500.0);
        assert_eq!(cover.lit(0, 4000), 0..500);
        assert_eq!(kept(300, 0.0, 300.0, 500.0).lit(0, 300), 0..300);
    }
}
