//! Embedded colour profiles, against the formulas of the colour spaces themselves.

use moxcms::{ColorProfile, DataColorSpace, ToneReprCurve};
use photofinish_render::decode::decode;

use super::{Png, jpeg, near, shipped, with_segment};

/// Linear light of an sRGB or P3 value.
fn linear(value: u8) -> f64 {
    let v = f64::from(value) / 255.0;
    if v <= 0.04045 {
        v / 12.92
    } else {
        ((v + 0.055) / 1.055).powf(2.4)
    }
}

fn coded(light: f64) -> u8 {
    let v = light.clamp(0.0, 1.0);
    let v = if v <= 0.003_130_8 {
        v * 12.92
    } else {
        1.055 * v.powf(1.0 / 2.4) - 0.055
    };
    (v * 255.0).round() as u8
}

/// To linear sRGB, as CSS Color 4 writes the matrices down.
const P3: [[f64; 3]; 3] = [
    [1.224_940, -0.224_940, 0.0],
    [-0.042_057, 1.042_057, 0.0],
    [-0.019_638, -0.078_636, 1.098_274],
];
const ADOBE: [[f64; 3]; 3] = [
    [1.398_356, -0.398_356, 0.0],
    [0.0, 1.0, 0.0],
    [0.0, -0.042_930, 1.042_930],
];

fn through(matrix: [[f64; 3]; 3], light: [f64; 3]) -> [u8; 3] {
    matrix.map(|row| coded(row.iter().zip(light).map(|(a, b)| a * b).sum()))
}

/// Colours that are inside sRGB in all of these spaces, and one that is not.
const COLOURS: [[u8; 3]; 5] = [
    [200, 120, 90],
    [90, 160, 100],
    [60, 80, 190],
    [128, 128, 128],
    [20, 250, 10],
];

fn png_with(profile: Option<Vec<u8>>) -> Vec<[u8; 3]> {
    let mut png = Png::new(5, 1, png::ColorType::Rgb, png::BitDepth::Eight);
    png.profile = profile;
    let picture = decode(&png.bytes(COLOURS.as_flattened())).unwrap();
    picture.pixels().map(|pixel| pixel.0).collect()
}

fn in_jpeg(jpeg: &[u8], profile: &[u8]) -> Vec<u8> {
    with_segment(jpeg, 0xE2, &[b"ICC_PROFILE\0\x01\x01", profile].concat())
}

#[test]
fn display_p3_of_phones_becomes_srgb() {
    let profile = ColorProfile::new_display_p3().encode().unwrap();
    for (seen, colour) in png_with(Some(profile.clone())).into_iter().zip(COLOURS) {
        let expected = through(P3, colour.map(linear));
        assert!(
            near(seen, expected, 2),
            "{colour:?}: {seen:?}, not {expected:?}"
        );
    }
    // Ignored, the difference is one that is seen: a red shirt is 28 duller.
    let dull = [200, 40, 40];
    let picture = image::RgbImage::from_pixel(16, 16, image::Rgb(dull));
    let file = jpeg(&picture);
    let plain = decode(&file).unwrap().get_pixel(8, 8).0;
    let seen = decode(&in_jpeg(&file, &profile)).unwrap().get_pixel(8, 8).0;
    assert!(near(plain, dull, 3), "{plain:?}");
    let expected = through(P3, plain.map(linear));
    assert!(
        near(seen, expected, 2) && seen[0] > plain[0] + 10,
        "{seen:?}, not {expected:?}"
    );
}

#[test]
fn adobe_rgb_becomes_srgb() {
    let profile = ColorProfile::new_adobe_rgb().encode().unwrap();
    for (seen, colour) in png_with(Some(profile)).into_iter().zip(COLOURS) {
        let light = colour.map(|v| (f64::from(v) / 255.0).powf(563.0 / 256.0));
        let expected = through(ADOBE, light);
        assert!(
            near(seen, expected, 2),
            "{colour:?}: {seen:?}, not {expected:?}"
        );
    }
}

#[test]
fn a_profile_that_says_srgb_or_nothing_changes_nothing() {
    let untouched = COLOURS.to_vec();
    assert_eq!(png_with(None), untouched);
    assert_eq!(
        png_with(Some(ColorProfile::new_srgb().encode().unwrap())),
        untouched
    );
    // Broken, empty, cut off, of another space: still a picture.
    let p3 = ColorProfile::new_display_p3().encode().unwrap();
    let grey = ColorProfile::new_gray_with_gamma(1.0).encode().unwrap();
    for profile in [
        b"no profile".to_vec(),
        p3[..100].to_vec(),
        p3[..p3.len() - 40].to_vec(),
        grey,
    ] {
        assert_eq!(png_with(Some(profile)), untouched);
    }
}

#[test]
fn a_grey_picture_with_a_profile_of_its_own() {
    let profile = ColorProfile::new_gray_with_gamma(1.0).encode().unwrap();
    // Linear light of 55 of 255 is 128 as sRGB.
    let wanted = coded(55.0 / 255.0);
    let mut png = Png::new(1, 1, png::ColorType::GrayscaleAlpha, png::BitDepth::Eight);
    png.profile = Some(profile.clone());
    assert!(near(
        decode(&png.bytes(&[55, 255])).unwrap().get_pixel(0, 0).0,
        [wanted; 3],
        2
    ));
    let half = (f64::from(wanted) / 2.0) as u8;
    assert!(near(
        decode(&png.bytes(&[55, 128])).unwrap().get_pixel(0, 0).0,
        [half; 3],
        2
    ));
    // The quarters are 20, 90, 160 and 240.
    let seen = decode(&in_jpeg(&shipped("grey.jpg"), &profile)).unwrap();
    let wanted = coded(90.0 / 255.0);
    assert!(
        near(seen.get_pixel(48, 12).0, [wanted; 3], 4),
        "{:?}",
        seen.get_pixel(48, 12)
    );
}

#[test]
fn alpha_counts_after_the_profile() {
    let mut png = Png::new(1, 1, png::ColorType::Rgba, png::BitDepth::Eight);
    png.profile = Some(ColorProfile::new_display_p3().encode().unwrap());
    let seen = decode(&png.bytes(&[200, 120, 90, 128]))
        .unwrap()
        .get_pixel(0, 0)
        .0;
    let whole = through(P3, [200, 120, 90].map(linear));
    let expected = whole.map(|v| ((u32::from(v) * 128 + 127) / 255) as u8);
    assert!(near(seen, expected, 2), "{seen:?}, not {expected:?}");
}

/// A CMYK profile of four inks that each take their light in a way of their own: two steps a side
/// of its cube, to Lab.
fn ink_profile(lab: impl Fn([bool; 4]) -> [f64; 3]) -> Vec<u8> {
    let mut table = b"mft1\0\0\0\0\x04\x03\x02\0".to_vec();
    for n in 0..9 {
        table.extend(if n % 4 == 0 { 65_536_i32 } else { 0 }.to_be_bytes());
    }
    let identity: Vec<u8> = (0..=255).collect();
    table.extend(identity.repeat(4));
    for corner in 0..16 {
        let [l, a, b] = lab([8, 4, 2, 1].map(|bit| corner & bit != 0));
        table.extend(
            [(l * 2.55).round(), (a + 128.0).round(), (b + 128.0).round()].map(|v| v as u8),
        );
    }
    table.extend(identity.repeat(3));
    let mut profile = vec![0; 128];
    profile[8..12].copy_from_slice(&[2, 0x40, 0, 0]);
    profile[12..24].copy_from_slice(b"prtrCMYKLab ");
    profile[36..40].copy_from_slice(b"acsp");
    // D50, as all profiles.
    for (at, value) in [(68, 0xF6D6_u32), (72, 0x1_0000), (76, 0xD32D)] {
        profile[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }
    profile.extend([0, 0, 0, 1]);
    profile.extend(b"A2B0");
    profile.extend(144_u32.to_be_bytes());
    profile.extend((table.len() as u32).to_be_bytes());
    profile.extend(table);
    let length = (profile.len() as u32).to_be_bytes();
    profile[..4].copy_from_slice(&length);
    profile
}

#[test]
fn inks_with_a_profile_look_as_it_says() {
    // Paper is white, black is black; the other inks leave a grey of L 50, whatever their number.
    let profile = ink_profile(|[c, m, y, k]| match (k, c || m || y) {
        (true, _) => [0.0, 0.0, 0.0],
        (false, true) => [50.0, 0.0, 0.0],
        (false, false) => [100.0, 0.0, 0.0],
    });
    for name in ["cmyk_adobe.jpg", "ycck_adobe.jpg", "cmyk_plain.jpg"] {
        let seen = decode(&in_jpeg(&shipped(name), &profile)).unwrap();
        // Below right: black 200 of 255, nothing else, so that L is 21.6: 53 as sRGB.
        assert!(
            near(seen.get_pixel(48, 36).0, [53; 3], 4),
            "{name}: {:?}",
            seen.get_pixel(48, 36)
        );
        // Below left: 230 of 255 cyan, 180 magenta: all but gone to L 50, 119, and no blue at all.
        let [r, g, b] = seen.get_pixel(16, 36).0;
        assert!(
            r.abs_diff(b) < 4 && g.abs_diff(b) < 4 && (115..130).contains(&r),
            "{name}: {r} {g} {b}"
        );
    }
}

#[test]
fn a_profile_in_webp_counts() {
    // An extended file: its profile stands before the picture.
    let plain = shipped("lossless.webp");
    let profile = ColorProfile::new_display_p3().encode().unwrap();
    let mut file = b"RIFF\0\0\0\0WEBPVP8X\x0A\0\0\0\x20\0\0\0\x3F\0\0\x2F\0\0".to_vec();
    file.extend(b"ICCP");
    file.extend((profile.len() as u32).to_le_bytes());
    file.extend(&profile);
    file.extend(vec![0; profile.len() % 2]);
    file.extend(&plain[12..]);
    let length = (file.len() as u32 - 8).to_le_bytes();
    file[4..8].copy_from_slice(&length);
    let seen = decode(&file).unwrap().get_pixel(16, 12).0;
    let expected = through(P3, [220, 40, 30].map(linear));
    assert!(near(seen, expected, 2), "{seen:?}, not {expected:?}");
}

#[test]
fn the_profiles_of_these_tests_are_what_they_say() {
    let p3 =
        ColorProfile::new_from_slice(&ColorProfile::new_display_p3().encode().unwrap()).unwrap();
    assert_eq!(p3.color_space, DataColorSpace::Rgb);
    assert!(matches!(
        p3.red_trc,
        Some(ToneReprCurve::Parametric(_) | ToneReprCurve::Lut(_))
    ));
}
