//! Pictures for renderers to work on.

/// A picture with edges, gradients and texture.
pub fn detailed(width: u32, height: u32) -> image::RgbImage {
    image::RgbImage::from_fn(width, height, |x, y| {
        let (u, v) = (f64::from(x), f64::from(y));
        let wave = |f: f64, a: f64| ((u * f).sin() * (v * f * 0.7 + a).cos() + 1.0) * 60.0;
        let block = if (x / 23 + y / 17) % 2 == 0 {
            90.0
        } else {
            20.0
        };
        let pixel = |a: f64| (wave(0.31, a) + wave(0.05, a) + block * 0.15).clamp(0.0, 255.0) as u8;
        image::Rgb([pixel(0.0), pixel(1.3), pixel(2.9)])
    })
}

/// A picture as a PNG file.
pub fn png(picture: &image::RgbImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut cursor = std::io::Cursor::new(&mut bytes);
    let written = picture.write_to(&mut cursor, image::ImageFormat::Png);
    written.expect("memory takes every write");
    bytes
}
