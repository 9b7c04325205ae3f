//! Every sort of picture that people have, each by known pixels at known places.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use image::RgbImage;
use photofinish_render::decode::{DecodeError, decode};

mod zoo_parts;
use zoo_parts::{
    Png, QUARTERS, exif, gif_frames, jpeg, near, numbered, quarters, shipped, shows, with_segment,
    zoo,
};

#[test]
fn jpegs_of_every_coding() {
    for name in [
        "baseline420",
        "baseline444",
        "progressive",
        "restarts",
        "rgb",
    ] {
        shows(&format!("{name}.jpg"), QUARTERS, 4);
    }
    shows("grey.jpg", [[20; 3], [90; 3], [160; 3], [240; 3]], 3);
}

#[test]
fn inks_with_and_without_adobes_marker() {
    // Cyan, magenta, yellow, black: (0 210 220 20), (200 0 180 60), (230 180 0 0), (0 0 0 200).
    let seen = [[235, 41, 32], [42, 195, 57], [25, 75, 255], [55, 55, 55]];
    shows("cmyk_adobe.jpg", seen, 3);
    shows("ycck_adobe.jpg", seen, 3);
    shows("ycck_progressive.jpg", seen, 3);
    shows("cmyk_plain.jpg", seen, 3);
}

/// Four pixels a row, two rows, of grey; what small depths leave over in a byte is padding.
fn greys(depth: png::BitDepth, rows: &[u8]) -> Vec<u8> {
    let png = Png::new(4, 2, png::ColorType::Grayscale, depth).bytes(rows);
    let picture = decode(&png).unwrap();
    picture.pixels().map(|pixel| pixel.0[1]).collect()
}

#[test]
fn grey_pngs_of_every_depth() {
    use png::BitDepth::{Eight, Four, One, Two};
    let one = greys(One, &[0b0110_0000, 0b1001_0000]);
    assert_eq!(one, [0, 255, 255, 0, 255, 0, 0, 255]);
    let two = greys(Two, &[0b0001_1011, 0b1110_0100]);
    assert_eq!(two, [0, 85, 170, 255, 255, 170, 85, 0]);
    let four = greys(Four, &[0x01, 0x7F, 0xFE, 0x80]);
    assert_eq!(four, [0, 17, 119, 255, 255, 238, 136, 0]);
    let values = [0, 1, 2, 3, 252, 253, 254, 255];
    assert_eq!(greys(Eight, &values), values);
}

/// A PNG of one pixel: what is seen of it.
fn one(kind: (png::ColorType, png::BitDepth), clear: Option<&[u8]>, pixel: &[u8]) -> [u8; 3] {
    let mut png = Png::new(1, 1, kind.0, kind.1);
    png.trns = clear.map(<[u8]>::to_vec);
    png.palette = vec![10, 20, 30, 200, 100, 50, 7, 8, 9];
    decode(&png.bytes(pixel)).unwrap().get_pixel(0, 0).0
}

#[test]
fn pngs_of_every_sort_of_colour() {
    use png::BitDepth::{Eight, Sixteen};
    use png::ColorType::{GrayscaleAlpha, Rgb, Rgba};
    assert_eq!(one((Rgb, Eight), None, &[1, 2, 3]), [1, 2, 3]);
    // 0x7FFF is 127.498 and 0x80FF 128.5 less a trifle: the nearest, not the high byte.
    let deep = [0x7F, 0xFF, 0x80, 0xFF, 0x01, 0x7F];
    assert_eq!(one((Rgb, Sixteen), None, &deep), [127, 128, 1]);
    let deep = [0x7F, 0xF0, 0x00, 0xFF, 0xFE, 0xFF];
    assert_eq!(one((Rgb, Sixteen), None, &deep), [127, 1, 254]);
    // Half of what they would be, on black.
    assert_eq!(one((GrayscaleAlpha, Eight), None, &[200, 128]), [100; 3]);
    let deep = [200, 200, 128, 128];
    assert_eq!(one((GrayscaleAlpha, Sixteen), None, &deep), [100; 3]);
    let half = [255, 128, 10, 128];
    assert_eq!(one((Rgba, Eight), None, &half), [128, 64, 5]);
    let deep = [255, 255, 128, 128, 10, 10, 128, 128];
    assert_eq!(one((Rgba, Sixteen), None, &deep), [128, 64, 5]);
}

#[test]
fn pngs_with_palettes_and_clear_colours() {
    use png::BitDepth::{Eight, Four, One, Two};
    use png::ColorType::{Grayscale, Indexed, Rgb};
    let some = Some(&[255, 51][..]);
    assert_eq!(one((Indexed, One), None, &[0b1000_0000]), [200, 100, 50]);
    assert_eq!(one((Indexed, Two), None, &[0b0100_0000]), [200, 100, 50]);
    assert_eq!(one((Indexed, Four), some, &[0x10]), [40, 20, 10]);
    assert_eq!(one((Indexed, Eight), some, &[2]), [7, 8, 9]);
    // One grey, one colour count as clear.
    let grey = Some(&[0, 90][..]);
    assert_eq!(one((Grayscale, Eight), grey, &[90]), [0; 3]);
    assert_eq!(one((Grayscale, Eight), grey, &[91]), [91; 3]);
    let colour = Some(&[0, 1, 0, 2, 0, 3][..]);
    assert_eq!(one((Rgb, Eight), colour, &[1, 2, 3]), [0; 3]);
    assert_eq!(one((Rgb, Eight), colour, &[1, 2, 4]), [1, 2, 4]);
}

#[test]
fn sixteen_bits_are_rounded_to_the_nearest_of_eight() {
    let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_be_bytes).collect();
    let png = Png::new(256, 256, png::ColorType::Grayscale, png::BitDepth::Sixteen).bytes(&all);
    let picture = decode(&png).unwrap();
    for (value, pixel) in picture.pixels().enumerate() {
        let nearest = (value as f64 / 257.0).round() as u8;
        assert_eq!(pixel.0, [nearest; 3], "{value}");
    }
}

#[test]
fn interlaced_pngs() {
    let plain = decode(&shipped("lossless.webp")).unwrap();
    assert!(decode(&shipped("interlaced.png")).unwrap() == plain);
    shows("interlaced.png", QUARTERS, 0);
    shows(
        "interlaced_alpha16.png",
        [QUARTERS[0], [20, 85, 30], [0; 3], QUARTERS[3]],
        1,
    );
    let mono = decode(&shipped("interlaced_mono.png")).unwrap();
    assert!(
        mono.pixels()
            .all(|pixel| pixel.0 == [0; 3] || pixel.0 == [255; 3])
    );
    assert_eq!(quarters(&mono)[3], [255; 3]);
}

#[test]
fn webps_of_every_sort() {
    shows("lossless.webp", QUARTERS, 0);
    shows("lossy.webp", QUARTERS, 4);
    // Alpha 255, 128, 0, 255, on black.
    let on_black = [QUARTERS[0], [20, 85, 30], [0; 3], QUARTERS[3]];
    shows("lossless_alpha.webp", on_black, 0);
    shows("lossy_alpha.webp", on_black, 4);
    shows("animated.webp", QUARTERS, 4);
    let turned = decode(&shipped("turned.webp")).unwrap();
    assert_eq!(turned.dimensions(), (48, 64));
    // What is stored below left is seen above left, and so on round.
    let [above, right, below, last] = QUARTERS;
    let seen = quarters(&turned);
    for (seen, wanted) in seen.into_iter().zip([below, above, last, right]) {
        assert!(near(seen, wanted, 4), "{seen:?} instead of {wanted:?}");
    }
}

#[test]
fn the_first_frame_of_an_animated_png() {
    let first = [9_u8, 8, 7].repeat(4);
    let second = [200_u8, 100, 0].repeat(4);
    let mut png = Png::new(2, 2, png::ColorType::Rgb, png::BitDepth::Eight);
    png.frames = 2;
    let picture = decode(&png.bytes(&[first, second].concat())).unwrap();
    assert!(picture.pixels().all(|pixel| pixel.0 == [9, 8, 7]));
}

#[test]
fn the_first_frame_of_a_gif_on_its_canvas() {
    // A canvas of 6 x 5, a frame of 3 x 2 at (2, 1); index 0 is clear.
    let gif = gif_frames((6, 5), (2, 1, 3, 2), Some(0), 2);
    let picture = decode(&gif).unwrap();
    assert_eq!(picture.dimensions(), (6, 5));
    for (x, y, pixel) in picture.enumerate_pixels() {
        let inside = (2..5).contains(&x) && (1..3).contains(&y);
        // The frame counts its pixels from 0; entry n of the palette is (n, 2 n, 3 n).
        let n = if inside {
            ((x - 2) + (y - 1) * 3) as u8
        } else {
            0
        };
        let colour = if n == 0 {
            [0; 3]
        } else {
            [n * 10, n * 20, n * 30]
        };
        assert_eq!(pixel.0, colour, "{x},{y}");
    }
    // Without a clear one, entry 0 is seen.
    let seen = decode(&gif_frames((3, 2), (0, 0, 3, 2), None, 1)).unwrap();
    assert_eq!(seen.get_pixel(0, 0).0, [99, 98, 97]);
    // A frame that reaches over the edge is cut.
    let over = decode(&gif_frames((4, 3), (2, 2, 3, 2), None, 1)).unwrap();
    assert_eq!(
        (over.get_pixel(2, 2).0, over.get_pixel(3, 2).0),
        ([99, 98, 97], [10, 20, 30])
    );
}

/// Where the pixel at (x, y) of the upright picture is stored, w x h as stored; from the EXIF
/// standard's words for what row 0 and column 0 are.
fn stored_at(orientation: u8, (x, y): (u32, u32), (w, h): (u32, u32)) -> (u32, u32) {
    match orientation {
        1 => (x, y),
        2 => (w - 1 - x, y),
        3 => (w - 1 - x, h - 1 - y),
        4 => (x, h - 1 - y),
        5 => (y, x),
        6 => (y, h - 1 - x),
        7 => (w - 1 - y, h - 1 - x),
        _ => (w - 1 - y, x),
    }
}

#[test]
fn all_eight_orientations_of_a_png() {
    // Small ones are turned by a copy, as is one of a prime number of rows; the others in place.
    for (w, h) in [(5, 3), (1, 7), (1201, 1000), (1000, 1216), (1250, 1009)] {
        let stored = numbered(w, h);
        for orientation in 1..=8 {
            let mut png = Png::new(w, h, png::ColorType::Rgb, png::BitDepth::Eight);
            png.exif = Some(exif(orientation));
            png.compression = png::Compression::NoCompression;
            let seen = decode(&png.bytes(stored.as_raw())).unwrap();
            let turned = orientation > 4;
            assert_eq!(seen.dimensions(), if turned { (h, w) } else { (w, h) });
            let right = seen.enumerate_pixels().all(|(x, y, pixel)| {
                let (sx, sy) = stored_at(orientation, (x, y), (w, h));
                pixel == stored.get_pixel(sx, sy)
            });
            assert!(right, "{w}x{h}, {orientation}");
        }
    }
}

#[test]
fn all_eight_orientations_of_a_jpeg() {
    let plain = shipped("baseline444.jpg");
    for orientation in 1..=8 {
        let block = [b"Exif\0\0", exif(orientation).as_slice()].concat();
        let seen = decode(&with_segment(&plain, 0xE1, &block)).unwrap();
        let (w, h) = seen.dimensions();
        for (x, y) in [(w / 4, h / 4), (3 * w / 4, h / 4), (w / 4, 3 * h / 4)] {
            let (sx, sy) = stored_at(orientation, (x, y), (64, 48));
            let quarter = QUARTERS[usize::from(sx >= 32) + 2 * usize::from(sy >= 24)];
            assert!(
                near(seen.get_pixel(x, y).0, quarter, 4),
                "{orientation}: {x},{y}"
            );
        }
    }
    // Nonsense in the block is no reason to refuse a picture.
    let nonsense = with_segment(&plain, 0xE1, b"Exif\0\0MM\0*\xFF\xFF\xFF\xFF");
    assert_eq!(decode(&nonsense).unwrap().dimensions(), (64, 48));
}

#[test]
fn what_is_cut_off_is_refused_wherever_it_is_cut() {
    let names = [
        "baseline420.jpg",
        "progressive.jpg",
        "cmyk_adobe.jpg",
        "interlaced.png",
        "lossy.webp",
        "lossless_alpha.webp",
        "lossy_alpha.webp",
        "animated.webp",
    ];
    let mut files: Vec<_> = names.map(|name| (name, shipped(name))).into();
    files.push((
        "own.png",
        Png::new(4, 2, png::ColorType::Rgb, png::BitDepth::Eight).bytes(&[9; 24]),
    ));
    let mut told_as_cut = 0;
    for (name, whole) in &files {
        assert!(decode(whole).is_ok(), "{name}");
        let trailed = [whole.as_slice(), b"\xFF\xD9 trailing garbage \0\0\0\0"].concat();
        assert!(decode(&trailed).is_ok(), "{name} with a trailer");
        for cut in 0..whole.len() {
            let error = decode(&whole[..cut]).expect_err(name);
            told_as_cut += u32::from(matches!(error, DecodeError::CutOff { .. }));
        }
    }
    let bytes: usize = files.iter().map(|file| file.1.len()).sum();
    // A few break where there is no telling: in the first bytes.
    assert!(
        f64::from(told_as_cut) > 0.9 * bytes as f64,
        "{told_as_cut} of {bytes}"
    );
}

#[test]
fn a_gif_needs_its_first_frame_whole_and_no_more() {
    let one = gif_frames((3, 2), (0, 0, 3, 2), None, 1);
    let many = gif_frames((3, 2), (0, 0, 3, 2), None, 5);
    assert!(decode(&many[..many.len() - 20]).is_ok());
    // The trailer, the end of the data's blocks and the code that ends them may be missing.
    for cut in 0..one.len() - 4 {
        assert!(
            decode(&one[..cut]).is_err(),
            "cut at {cut} of {}",
            one.len()
        );
    }
}

#[test]
fn no_bit_that_is_flipped_makes_a_decoder_panic() {
    let mut names: Vec<_> = std::fs::read_dir(zoo())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    names.sort();
    let mut random = 0x2545_F491_4F6C_DD1D_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let mut tried = 0;
    for name in &names {
        let name = name.to_str().unwrap();
        let whole = shipped(name);
        for _ in 0..60 {
            let mut bytes = whole.clone();
            for _ in 0..=next() % 3 {
                let at = next() as usize % bytes.len();
                bytes[at] ^= 1 << (next() % 8);
            }
            let seen = std::panic::catch_unwind(|| {
                if name.ends_with("avif") {
                    photofinish_render::decode::avif::Still::read(&bytes).map(drop)
                } else {
                    decode(&bytes).map(drop)
                }
            });
            assert!(seen.is_ok(), "{name}: {bytes:?}");
            tried += 1;
        }
    }
    assert!(tried > 1000, "{tried}");
}

#[test]
fn a_jpeg_of_the_test_itself_is_near_what_it_was_made_of() {
    // Not in steps of eight, so that the edges of blocks lie outside.
    let picture = RgbImage::from_fn(61, 35, |x, y| {
        image::Rgb([(x * 4) as u8, (y * 7) as u8, 128])
    });
    let seen = decode(&jpeg(&picture)).unwrap();
    assert_eq!(seen.dimensions(), (61, 35));
    for (a, b) in seen.pixels().zip(picture.pixels()) {
        assert!(near(a.0, b.0, 12), "{a:?} {b:?}");
    }
}
