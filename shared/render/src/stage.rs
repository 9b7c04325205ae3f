//! The stage: a picture made ready to be filmed, as planes of BT.709 limited-range YUV.
//!
//! Guarantee: the camera at zoom 1 sees [`Stage::base`] and fills the frame with it, whatever the
//! fit; a source much larger than can be seen is reduced once; chroma is kept at what half-size
//! chroma at the closest zoom can show.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeError, ResizeOptions, Resizer};
use image::RgbImage;
use photofinish_contract::request::Fit;

use crate::camera::Rect;

/// A source is reduced when it has this many times the pixels a side that can be seen.
const REDUCE_ABOVE: f64 = 1.1;
/// Columns repeated left of the chroma planes, so that the shift of left-sited chroma (at most two
/// pixels, at zoom 4) never leaves the plane.
const CHROMA_PAD_PX: u32 = 4;

/// One 8-bit plane.
#[derive(Debug, Clone)]
pub struct Plane {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Row after row.
    pub data: Vec<u8>,
}

impl Plane {
    fn view(&self) -> Result<ImageRef<'_>, RenderError> {
        Ok(ImageRef::new(
            self.width,
            self.height,
            &self.data,
            PixelType::U8,
        )?)
    }
}

/// A plane could not be resampled: a bug, reported as a fault of the item.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The buffer does not have the size of its plane.
    #[error("a plane's buffer has the wrong size")]
    Buffer(#[from] fast_image_resize::ImageBufferError),
    /// The crop box or the pixel type is wrong.
    #[error("resample a plane")]
    Resize(#[from] ResizeError),
}

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
}

fn lanczos() -> ResizeOptions {
    ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Lanczos3))
}

impl Stage {
    /// Sets the stage for frames of `width` x `height` and a camera that comes as close as
    /// `zoom_max`.
    pub fn set(
        picture: RgbImage,
        width: u32,
        height: u32,
        fit: Fit,
        zoom_max: f64,
    ) -> Result<Self, RenderError> {
        let seen = (f64::from(width) * zoom_max, f64::from(height) * zoom_max);
        let (picture, base) = match fit {
            Fit::Cover | Fit::Stretch => reduce_crop(picture, width, height, fit, seen)?,
            Fit::Contain => pad(&reduce_whole(picture, width, height, seen)?, width, height),
        };
        let (w, h) = picture.dimensions();
        let [luma, u, v] = to_yuv(&picture);
        drop(picture);
        let size = (
            shrunk(w, base.width, seen.0 / 2.0),
            shrunk(h, base.height, seen.1 / 2.0),
        );
        let chroma = [pad_left(&shrink(u, size)?), pad_left(&shrink(v, size)?)];
        Ok(Self {
            luma,
            chroma,
            base,
            width,
            height,
        })
    }

    /// Bytes of one frame: planar 4:2:0.
    pub fn frame_bytes(&self) -> usize {
        self.width as usize * self.height as usize * 3 / 2
    }

    /// Films `rect` (in luma pixels) into `frame`, [`Stage::frame_bytes`] long.
    pub fn film(
        &self,
        resizer: &mut Resizer,
        rect: Rect,
        frame: &mut [u8],
    ) -> Result<(), RenderError> {
        let area = self.width as usize * self.height as usize;
        let (y, uv) = frame.split_at_mut(area);
        resample(resizer, &self.luma, rect, y, (self.width, self.height))?;
        // H.264 chroma is sited at the left luma sample of its pair: half a frame pixel further left
        // than the middle of the pair.
        let shift = 0.5 * rect.width / f64::from(self.width);
        let (u, v) = uv.split_at_mut(area / 4);
        for (plane, out) in self.chroma.iter().zip([u, v]) {
            let x = f64::from(plane.width - CHROMA_PAD_PX) / f64::from(self.luma.width);
            let y = f64::from(plane.height) / f64::from(self.luma.height);
            let sited = Rect {
                left: (rect.left - shift) * x + f64::from(CHROMA_PAD_PX),
                top: rect.top * y,
                width: rect.width * x,
                height: rect.height * y,
            };
            resample(
                resizer,
                plane,
                sited,
                out,
                (self.width / 2, self.height / 2),
            )?;
        }
        Ok(())
    }
}

fn resample(
    resizer: &mut Resizer,
    plane: &Plane,
    rect: Rect,
    out: &mut [u8],
    (width, height): (u32, u32),
) -> Result<(), RenderError> {
    let mut target = Image::from_slice_u8(width, height, out, PixelType::U8)?;
    // Rounding may put an edge a millionth of a pixel outside.
    let left = rect.left.clamp(0.0, f64::from(plane.width));
    let top = rect.top.clamp(0.0, f64::from(plane.height));
    let options = lanczos().crop(
        left,
        top,
        rect.width.min(f64::from(plane.width) - left),
        rect.height.min(f64::from(plane.height) - top),
    );
    resizer.resize(&plane.view()?, &mut target, &options)?;
    Ok(())
}

/// The part of a picture that fills the frame at zoom 1.
fn filling(w: f64, h: f64, width: u32, height: u32, fit: Fit) -> Rect {
    let aspect = f64::from(width) / f64::from(height);
    let (bw, bh) = match fit {
        Fit::Stretch => (w, h),
        Fit::Cover => (w.min(h * aspect), h.min(w / aspect)),
        Fit::Contain => (w.max(h * aspect), h.max(w / aspect)),
    };
    Rect {
        left: (w - bw) / 2.0,
        top: (h - bh) / 2.0,
        width: bw,
        height: bh,
    }
}

/// Cuts out what fills the frame and reduces it, each axis for itself, if it is much too large.
fn reduce_crop(
    picture: RgbImage,
    width: u32,
    height: u32,
    fit: Fit,
    seen: (f64, f64),
) -> Result<(RgbImage, Rect), RenderError> {
    let (w, h) = picture.dimensions();
    let base = filling(f64::from(w), f64::from(h), width, height, fit);
    // Per axis: new size, cut from, cut length, and where the base lies afterwards.
    let axis = |size: u32, from: f64, length: f64, seen: f64| {
        if length > seen * REDUCE_ABOVE {
            let new = seen.ceil();
            (new as u32, from, length, 0.0, new)
        } else {
            (size, 0.0, f64::from(size), from, length)
        }
    };
    let (nw, x, cut_w, left, bw) = axis(w, base.left, base.width, seen.0);
    let (nh, y, cut_h, top, bh) = axis(h, base.top, base.height, seen.1);
    let after = Rect {
        left,
        top,
        width: bw,
        height: bh,
    };
    if (nw, nh) == (w, h) {
        return Ok((picture, after));
    }
    Ok((
        resize_rgb(&picture, (nw, nh), &lanczos().crop(x, y, cut_w, cut_h))?,
        after,
    ))
}

/// Reduces a picture that will be shown whole.
fn reduce_whole(
    picture: RgbImage,
    width: u32,
    height: u32,
    seen: (f64, f64),
) -> Result<RgbImage, RenderError> {
    let (w, h) = picture.dimensions();
    let base = filling(f64::from(w), f64::from(h), width, height, Fit::Contain);
    let factor = base.width / seen.0;
    if factor <= REDUCE_ABOVE {
        return Ok(picture);
    }
    let smaller = |side: u32| (f64::from(side) / factor).round().max(1.0) as u32;
    resize_rgb(&picture, (smaller(w), smaller(h)), &lanczos())
}

fn resize_rgb(
    picture: &RgbImage,
    (width, height): (u32, u32),
    options: &ResizeOptions,
) -> Result<RgbImage, RenderError> {
    let (w, h) = picture.dimensions();
    let source = ImageRef::new(w, h, picture.as_raw(), PixelType::U8x3)?;
    let mut target = Image::new(width, height, PixelType::U8x3);
    Resizer::new().resize(&source, &mut target, options)?;
    Ok(RgbImage::from_raw(width, height, target.into_vec()).expect("made with these sides"))
}

/// Black bars around a picture, as part of the scene.
fn pad(picture: &RgbImage, width: u32, height: u32) -> (RgbImage, Rect) {
    let (w, h) = picture.dimensions();
    let wanted = filling(f64::from(w), f64::from(h), width, height, Fit::Contain);
    // Two pixels more than needed, so that the centred base fits whatever the rounding.
    let axis = |side: u32, base: f64| {
        if base <= f64::from(side) + 1e-9 {
            return (side, 0, 0.0);
        }
        let canvas = base.ceil() as u32 + 2;
        let offset = (canvas - side) / 2;
        (
            canvas,
            offset,
            f64::from(offset) + f64::from(side) / 2.0 - base / 2.0,
        )
    };
    let (cw, x, left) = axis(w, wanted.width);
    let (ch, y, top) = axis(h, wanted.height);
    let mut canvas = RgbImage::new(cw, ch);
    image::imageops::replace(&mut canvas, picture, i64::from(x), i64::from(y));
    (
        canvas,
        Rect {
            left,
            top,
            width: wanted.width,
            height: wanted.height,
        },
    )
}

/// RGB to planes: BT.709, limited range, in 16-bit fixed point.
fn to_yuv(picture: &RgbImage) -> [Plane; 3] {
    const ONE: f64 = 65_536.0;
    // Per output: weights of R, G, B as coded values, and the offset with half a step for rounding.
    const fn row(r: f64, g: f64, b: f64, span: f64, offset: f64) -> [i32; 4] {
        let unit = span / 255.0 * ONE;
        [
            (r * unit) as i32,
            (g * unit) as i32,
            (b * unit) as i32,
            ((offset + 0.5) * ONE) as i32,
        ]
    }
    const KR: f64 = 0.2126;
    const KB: f64 = 0.0722;
    const KG: f64 = 1.0 - KR - KB;
    const U: f64 = 0.5 / (1.0 - KB);
    const V: f64 = 0.5 / (1.0 - KR);
    const ROWS: [[i32; 4]; 3] = [
        row(KR, KG, KB, 219.0, 16.0),
        row(-KR * U, -KG * U, 0.5, 224.0, 128.0),
        row(0.5, -KG * V, -KB * V, 224.0, 128.0),
    ];
    let (width, height) = picture.dimensions();
    ROWS.map(|[r, g, b, offset]| {
        let data = picture
            .as_raw()
            .chunks_exact(3)
            .map(|p| {
                let sum = r * i32::from(p[0]) + g * i32::from(p[1]) + b * i32::from(p[2]);
                ((sum + offset) >> 16) as u8
            })
            .collect();
        Plane {
            width,
            height,
            data,
        }
    })
}

/// How long a chroma side may be kept when `base` of it is shown on at most `seen` pixels.
fn shrunk(side: u32, base: f64, seen: f64) -> u32 {
    let ratio = (seen / base).min(1.0);
    (f64::from(side) * ratio).ceil().max(1.0) as u32
}

fn shrink(plane: Plane, (width, height): (u32, u32)) -> Result<Plane, RenderError> {
    if (plane.width, plane.height) == (width, height) {
        return Ok(plane);
    }
    let mut target = Image::new(width, height, PixelType::U8);
    Resizer::new().resize(&plane.view()?, &mut target, &lanczos())?;
    Ok(Plane {
        width,
        height,
        data: target.into_vec(),
    })
}

fn pad_left(plane: &Plane) -> Plane {
    let width = plane.width + CHROMA_PAD_PX;
    let mut data = Vec::with_capacity(width as usize * plane.height as usize);
    for row in plane.data.chunks_exact(plane.width as usize) {
        data.extend(std::iter::repeat_n(row[0], CHROMA_PAD_PX as usize));
        data.extend_from_slice(row);
    }
    Plane {
        width,
        height: plane.height,
        data,
    }
}
