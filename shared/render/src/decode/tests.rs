use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder as _, ImageFormat};

use super::*;

fn png(picture: &DynamicImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    picture
        .write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png)
        .unwrap();
    bytes
}

/// Left half red, right half blue.
fn halves(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, _| {
        image::Rgb(if x < width / 2 {
            [255, 0, 0]
        } else {
            [0, 0, 255]
        })
    })
}

fn jpeg(picture: &RgbImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (w, h) = picture.dimensions();
    JpegEncoder::new_with_quality(&mut bytes, 95)
        .write_image(picture.as_raw(), w, h, ExtendedColorType::Rgb8)
        .unwrap();
    bytes
}

/// A JPEG with an EXIF block that says `orientation`.
fn oriented(orientation: u8) -> Vec<u8> {
    let plain = jpeg(&halves(64, 32));
    let tiff: [u8; 26] = [
        b'M',
        b'M',
        0,
        42,
        0,
        0,
        0,
        8,
        0,
        1,
        0x01,
        0x12,
        0,
        3,
        0,
        0,
        0,
        1,
        0,
        orientation,
        0,
        0,
        0,
        0,
        0,
        0,
    ];
    let mut bytes = plain[..2].to_vec();
    let length = u16::try_from(2 + 6 + tiff.len()).unwrap();
    bytes.extend([0xFF, 0xE1]);
    bytes.extend(length.to_be_bytes());
    bytes.extend(b"Exif\0\0");
    bytes.extend(tiff);
    bytes.extend(&plain[2..]);
    bytes
}

fn is(pixel: image::Rgb<u8>, colour: [u8; 3]) -> bool {
    pixel.0.iter().zip(colour).all(|(&a, b)| a.abs_diff(b) < 24)
}

#[test]
fn exif_orientation_is_applied() {
    let upright = decode(&oriented(1)).unwrap();
    assert_eq!(upright.dimensions(), (64, 32));
    // 6: the camera was turned, what is stored left is above.
    let turned = decode(&oriented(6)).unwrap();
    assert_eq!(turned.dimensions(), (32, 64));
    assert!(
        is(*turned.get_pixel(16, 5), [255, 0, 0]) && is(*turned.get_pixel(16, 60), [0, 0, 255])
    );
    let flipped = decode(&oriented(3)).unwrap();
    assert!(is(*flipped.get_pixel(5, 16), [0, 0, 255]));
}

#[test]
fn alpha_lies_on_black_and_grey_and_deep_pictures_are_read() {
    let half = image::RgbaImage::from_pixel(8, 8, image::Rgba([255, 128, 0, 128]));
    let seen = decode(&png(&half.into())).unwrap();
    assert_eq!(seen.get_pixel(3, 3).0, [128, 64, 0]);
    let grey = image::GrayImage::from_pixel(8, 8, image::Luma([77]));
    assert_eq!(
        decode(&png(&grey.into())).unwrap().get_pixel(0, 0).0,
        [77; 3]
    );
    let deep = image::ImageBuffer::from_pixel(8, 8, image::Rgb([65535_u16, 32896, 0]));
    assert_eq!(
        decode(&png(&deep.into())).unwrap().get_pixel(0, 0).0,
        [255, 128, 0]
    );
}

#[test]
fn what_is_cut_off_is_refused_wherever_it_is_cut() {
    let whole = jpeg(&halves(64, 64));
    assert!(decode(&whole).is_ok());
    let with_trailer = [&whole[..], b"trailing"].concat();
    assert!(decode(&with_trailer).is_ok());
    for cut in [3, whole.len() / 2, whole.len() - 100, whole.len() - 2] {
        assert!(decode(&whole[..cut]).is_err(), "cut at {cut}");
    }
    let picture = png(&halves(64, 64).into());
    assert!(matches!(
        decode(&picture[..picture.len() / 2]),
        Err(DecodeError::Damaged { format: "PNG", .. })
    ));
}

#[test]
fn bombs_are_refused_before_they_are_decoded() {
    // A header alone: the dimensions are enough.
    let mut bomb = png(&DynamicImage::new_luma8(1, 1));
    bomb[16..20].copy_from_slice(&20_000_u32.to_be_bytes());
    assert!(decode(&bomb).is_err());
    let big = png(&DynamicImage::new_luma8(12_000, 9_000));
    assert!(matches!(
        decode(&big),
        Err(DecodeError::TooLarge {
            width: 12_000,
            height: 9_000
        })
    ));
}

#[test]
fn other_files_are_no_pictures() {
    for bytes in [
        &b""[..],
        b"<html>",
        b"#EXTM3U\n",
        b"\0\0\0\x20ftypisom",
        b"%PDF-1.4",
    ] {
        assert!(
            matches!(decode(bytes), Err(DecodeError::Unknown)),
            "{bytes:?}"
        );
    }
}
