//! RGB to BT.709 limited range, one component at a time.
//!
//! Guarantee: greys have no colour; black is 16, white is 235, within one step of rounding everything else.

use image::RgbImage;

use crate::kernel::{COMPONENT_BITS, Component, Simd};
use crate::resample::Rows;

const KR: f64 = 0.2126;
const KB: f64 = 0.0722;
const U: f64 = 0.5 / (1.0 - KB);
const V: f64 = 0.5 / (1.0 - KR);

/// Luma.
pub const LUMA: Component = component(KR, KB, 219.0, 16 - 128, 219.0);
/// Blue difference.
pub const BLUE: Component = component(-KR * U, 0.5, 224.0, 0, 0.0);
/// Red difference.
pub const RED: Component = component(0.5, -KB * V, 224.0, 0, 0.0);

/// Green gets what is left, so that white comes out as exactly `white` steps.
const fn component(r: f64, b: f64, span: f64, offset: i32, white: f64) -> Component {
    const UNIT: f64 = (1 << COMPONENT_BITS) as f64;
    const fn fixed(weight: f64) -> i16 {
        let scaled = weight * UNIT / 255.0;
        (if scaled < 0.0 {
            scaled - 0.5
        } else {
            scaled + 0.5
        }) as i16
    }
    let (red, blue) = (fixed(r * span), fixed(b * span));
    Component {
        weights: [red, fixed(white) - red - blue, blue],
        offset: (offset << COMPONENT_BITS) + (1 << (COMPONENT_BITS - 1)),
    }
}

impl Component {
    /// The sample that black has.
    pub const fn black(self) -> u8 {
        (self.offset >> COMPONENT_BITS) as u8
    }
}

/// A picture in a black scene, seen as rows of one component.
#[derive(Debug)]
pub struct Scene<'a> {
    /// The picture.
    pub picture: &'a RgbImage,
    /// Pixels of the scene, at least those of the picture.
    pub size: (usize, usize),
    /// Where the picture begins in it.
    pub offset: (usize, usize),
}

impl Scene<'_> {
    /// The scene in one component.
    pub fn component(&self, simd: Simd, component: Component) -> SceneRows<'_> {
        let black = component.black();
        SceneRows {
            scene: self,
            simd,
            component,
            row: vec![black; self.size.0 + crate::axis::SLACK],
            black: vec![black; self.size.0 + crate::axis::SLACK],
        }
    }
}

/// Rows of one component of a scene, made when they are asked for.
#[derive(Debug)]
pub struct SceneRows<'a> {
    scene: &'a Scene<'a>,
    simd: Simd,
    component: Component,
    row: Vec<u8>,
    black: Vec<u8>,
}

impl Rows for SceneRows<'_> {
    fn row(&mut self, n: usize) -> &[u8] {
        let (width, height) = self.scene.picture.dimensions();
        let (x, y) = self.scene.offset;
        let Some(n) = n.checked_sub(y).filter(|&n| n < height as usize) else {
            return &self.black;
        };
        let bytes = width as usize * 3;
        let rgb = &self.scene.picture.as_raw()[n * bytes..][..bytes];
        let out = &mut self.row[x..x + width as usize];
        self.simd.component(rgb, &self.component, out);
        &self.row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coded(component: &Component, rgb: [u8; 3]) -> u8 {
        let mut out = [0];
        Simd::Scalar.component(&rgb, component, &mut out);
        out[0] ^ 0x80
    }

    #[test]
    fn greys_have_no_colour_and_the_ends_are_exact() {
        for grey in 0..=255 {
            let rgb = [grey; 3];
            assert_eq!((coded(&BLUE, rgb), coded(&RED, rgb)), (128, 128));
            let exact = 16.0 + f64::from(grey) * 219.0 / 255.0;
            assert!((f64::from(coded(&LUMA, rgb)) - exact).abs() <= 0.51);
        }
        assert_eq!((coded(&LUMA, [0; 3]), coded(&LUMA, [255; 3])), (16, 235));
    }

    #[test]
    fn colours_are_bt709() {
        // Luma, blue and red difference of the primaries, as the standard gives them.
        for (rgb, yuv) in [
            ([255, 0, 0], [63, 102, 240]),
            ([0, 255, 0], [173, 42, 26]),
            ([0, 0, 255], [32, 240, 118]),
        ] {
            assert_eq!([LUMA, BLUE, RED].map(|c| coded(&c, rgb)), yuv, "{rgb:?}");
        }
    }
}
