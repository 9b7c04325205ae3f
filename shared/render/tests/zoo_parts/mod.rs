//! Pictures that the tests make themselves.

use std::path::PathBuf;

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder as _, RgbImage};
use photofinish_render::decode::decode;

mod avif;
mod colour;
mod limits;

/// The colours of the shipped pictures: above left, above right, below left, below right.
pub const QUARTERS: [[u8; 3]; 4] = [[220, 40, 30], [40, 170, 60], [30, 60, 200], [230, 210, 70]];

/// Where the shipped ones lie.
pub fn zoo() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/zoo")
}

/// A shipped picture.
pub fn shipped(name: &str) -> Vec<u8> {
    std::fs::read(zoo().join(name)).unwrap()
}

/// Whether no channel differs by more.
pub fn near(a: [u8; 3], b: [u8; 3], tolerance: u8) -> bool {
    a.iter().zip(b).all(|(&a, b)| a.abs_diff(b) <= tolerance)
}

/// The middles of the quarters.
pub fn quarters(picture: &RgbImage) -> [[u8; 3]; 4] {
    let (w, h) = picture.dimensions();
    [(1, 1), (3, 1), (1, 3), (3, 3)].map(|(x, y)| picture.get_pixel(w * x / 4, h * y / 4).0)
}

/// A shipped picture has these colours in its quarters.
pub fn shows(name: &str, expected: [[u8; 3]; 4], tolerance: u8) {
    let picture = decode(&shipped(name)).unwrap();
    assert_eq!(picture.dimensions(), (64, 48), "{name}");
    let seen = quarters(&picture);
    let good = seen
        .iter()
        .zip(expected)
        .all(|(&a, b)| near(a, b, tolerance));
    assert!(good, "{name}: {seen:?} instead of {expected:?}");
}

/// A PNG to be written.
pub struct Png {
    size: (u32, u32),
    colour: png::ColorType,
    depth: png::BitDepth,
    /// Used for indexed ones.
    pub palette: Vec<u8>,
    /// Transparency.
    pub trns: Option<Vec<u8>>,
    /// As a TIFF block.
    pub exif: Option<Vec<u8>>,
    /// An ICC profile.
    pub profile: Option<Vec<u8>>,
    /// More than one makes an animation.
    pub frames: u32,
    pub compression: png::Compression,
}

impl Png {
    pub fn new(width: u32, height: u32, colour: png::ColorType, depth: png::BitDepth) -> Self {
        Self {
            size: (width, height),
            colour,
            depth,
            palette: Vec::new(),
            trns: None,
            exif: None,
            profile: None,
            frames: 1,
            compression: png::Compression::Fast,
        }
    }

    /// The file, with these samples, frame after frame.
    pub fn bytes(&self, samples: &[u8]) -> Vec<u8> {
        let mut info = png::Info::with_size(self.size.0, self.size.1);
        info.color_type = self.colour;
        info.bit_depth = self.depth;
        info.trns = self.trns.clone().map(Into::into);
        info.exif_metadata = self.exif.clone().map(Into::into);
        info.icc_profile = self.profile.clone().map(Into::into);
        if self.colour == png::ColorType::Indexed {
            info.palette = Some(self.palette.clone().into());
        }
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::with_info(&mut bytes, info).unwrap();
        if self.frames > 1 {
            encoder.set_animated(self.frames, 0).unwrap();
        }
        encoder.set_compression(self.compression);
        let mut writer = encoder.write_header().unwrap();
        for frame in samples.chunks(samples.len() / self.frames as usize) {
            writer.write_image_data(frame).unwrap();
        }
        writer.finish().unwrap();
        bytes
    }
}

/// A TIFF block that says an orientation.
pub fn exif(orientation: u8) -> Vec<u8> {
    let mut tiff = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    tiff.extend([orientation, 0, 0, 0, 0, 0, 0]);
    tiff
}

/// A JPEG with one more segment, right behind its first marker.
pub fn with_segment(jpeg: &[u8], marker: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = jpeg[..2].to_vec();
    bytes.extend([0xFF, marker]);
    bytes.extend(u16::try_from(payload.len() + 2).unwrap().to_be_bytes());
    bytes.extend(payload);
    bytes.extend(&jpeg[2..]);
    bytes
}

/// A JPEG of good quality.
pub fn jpeg(picture: &RgbImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (w, h) = picture.dimensions();
    JpegEncoder::new_with_quality(&mut bytes, 95)
        .write_image(picture.as_raw(), w, h, ExtendedColorType::Rgb8)
        .unwrap();
    bytes
}

/// A picture whose pixels all differ.
pub fn numbered(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let n = (y * width + x).to_be_bytes();
        image::Rgb([n[1], n[2], n[3]])
    })
}

/// A GIF of so many frames, each (left, top, width, height) on its canvas; pixels count from 0,
/// entry n of the palette is (10 n, 20 n, 30 n), entry 0 (99, 98, 97).
pub fn gif_frames(
    canvas: (u16, u16),
    (left, top, width, height): (u16, u16, u16, u16),
    transparent: Option<u8>,
    count: u32,
) -> Vec<u8> {
    let mut palette = vec![99, 98, 97];
    palette.extend((1..8).flat_map(|n| [n * 10, n * 20, n * 30]));
    let mut bytes = Vec::new();
    let mut encoder = gif::Encoder::new(&mut bytes, canvas.0, canvas.1, &palette).unwrap();
    let frame = gif::Frame {
        left,
        top,
        width,
        height,
        transparent,
        buffer: (0..width * height).map(|n| (n % 8) as u8).collect(),
        ..gif::Frame::default()
    };
    for _ in 0..count {
        encoder.write_frame(&frame).unwrap();
    }
    drop(encoder);
    bytes
}
