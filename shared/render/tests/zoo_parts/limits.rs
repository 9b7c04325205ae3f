//! Bombs, and what decoding may cost.

use std::time::Duration;

use image::RgbImage;
use photofinish_render::decode::{AREA_PX_MAX, DecodeError, decode};

use super::{Png, gif_frames, jpeg, shipped};

/// Processor time that a refusal before pixels may take, or one small frame.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Processor time of this thread, which no busy machine can stretch.
struct Work {
    begun: Duration,
}

impl Work {
    fn on_processor() -> Duration {
        let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        Duration::from_nanos(stat.split_whitespace().next().unwrap().parse().unwrap())
    }

    fn now() -> Self {
        Self {
            begun: Self::on_processor(),
        }
    }

    fn elapsed(&self) -> Duration {
        Self::on_processor().saturating_sub(self.begun)
    }
}

fn refused_at_once(bytes: &[u8]) -> DecodeError {
    let begun = Work::now();
    let before = Memory::now();
    let error = decode(bytes).expect_err("a bomb");
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    assert!(before.more_kib() < 20_000, "{} KiB", before.more_kib());
    error
}

/// What the process has held at most since: each test has a process of its own.
struct Memory {
    held_kib: u64,
}

impl Memory {
    fn status(name: &str) -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    fn now() -> Self {
        // Sets the peak back to what is held.
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        Self {
            held_kib: Self::status("VmRSS"),
        }
    }

    fn more_kib(&self) -> u64 {
        Self::status("VmHWM").saturating_sub(self.held_kib)
    }
}

#[test]
fn what_says_that_it_is_huge_is_refused_at_once() {
    let mut png = Png::new(1, 1, png::ColorType::Rgb, png::BitDepth::Eight).bytes(&[1, 2, 3]);
    let mut gif = gif_frames((3, 2), (0, 0, 3, 2), None, 1);
    let mut jpeg = jpeg(&RgbImage::new(16, 16));
    let sof = jpeg.windows(2).position(|w| w == [0xFF, 0xC0]).unwrap();
    for (width, height) in [
        (30_000_u16, 30_000_u16),
        (20_000, 1),
        (1, 20_000),
        (12_000, 12_000),
        (10_001, 10_000),
    ] {
        let (w, h) = (u32::from(width), u32::from(height));
        png[16..20].copy_from_slice(&w.to_be_bytes());
        png[20..24].copy_from_slice(&h.to_be_bytes());
        let sum = crc(&png[12..29]).to_be_bytes();
        png[29..33].copy_from_slice(&sum);
        jpeg[sof + 5..sof + 7].copy_from_slice(&height.to_be_bytes());
        jpeg[sof + 7..sof + 9].copy_from_slice(&width.to_be_bytes());
        gif[6..8].copy_from_slice(&width.to_le_bytes());
        gif[8..10].copy_from_slice(&height.to_le_bytes());
        for file in [&png, &jpeg, &gif] {
            let error = refused_at_once(file);
            let said = matches!(error, DecodeError::TooLarge { width, height } if (width, height) == (w, h));
            assert!(said, "{error}");
            assert!(error.to_string().contains(&format!("{w}x{h}")));
        }
    }
    // A frame of a GIF that is larger than its canvas counts as well.
    let mut frame = gif_frames((3, 2), (0, 0, 3, 2), None, 1);
    let at = frame
        .windows(9)
        .position(|w| w == [0x2C, 0, 0, 0, 0, 3, 0, 2, 0])
        .unwrap();
    frame[at + 5..at + 9].copy_from_slice(&[0xFF, 0xFF, 0xFF, 0xFF]);
    assert!(matches!(
        refused_at_once(&frame),
        DecodeError::TooLarge { .. }
    ));
}

/// CRC-32, as PNG has it.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| {
            (sum >> 1) ^ (0xEDB8_8320 & (sum & 1).wrapping_neg())
        })
    })
}

#[test]
fn a_bomb_within_the_limits_takes_three_bytes_a_pixel() {
    // 30 Mpx of one colour: a small file. Deep and with alpha, it would be 240 MB.
    let (width, height) = (10_000, 3_000);
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgba);
    encoder.set_depth(png::BitDepth::Sixteen);
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header().unwrap();
    let mut rows = writer.stream_writer().unwrap();
    let row = [0x80, 0x80, 0x40, 0x40, 0, 0, 0xFF, 0xFF].repeat(width as usize);
    for _ in 0..height {
        std::io::Write::write_all(&mut rows, &row).unwrap();
    }
    rows.finish().unwrap();
    writer.finish().unwrap();
    assert!(
        u64::from(width * height) <= AREA_PX_MAX && file.len() < 4_000_000,
        "{}",
        file.len()
    );
    let before = Memory::now();
    let picture = decode(&file).unwrap();
    assert_eq!(picture.get_pixel(width - 1, height - 1).0, [128, 64, 0]);
    let needed = u64::from(width * height) * 3 / 1024;
    assert!(
        before.more_kib() < needed + 4_096,
        "{} KiB, {needed} needed",
        before.more_kib()
    );
}

#[test]
fn of_thousands_of_frames_one_is_decoded() {
    let one = gif_frames((64, 64), (0, 0, 64, 64), None, 1);
    let two = gif_frames((64, 64), (0, 0, 64, 64), None, 2);
    // What the second frame added, as often as wanted, but for the trailer at the end.
    let more = &two[one.len() - 1..two.len() - 1];
    let gif = [&one[..one.len() - 1], &more.repeat(50_000)].concat();
    let begun = Work::now();
    let before = Memory::now();
    assert_eq!(decode(&gif).unwrap().dimensions(), (64, 64));
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    assert!(before.more_kib() < 20_000, "{} KiB", before.more_kib());

    // Of a WebP the headers of all its frames are walked over, and no more.
    let webp = shipped("animated.webp");
    let at = webp.windows(4).position(|w| w == b"ANMF").unwrap();
    let size = u32::from_le_bytes(*webp[at + 4..].first_chunk().unwrap()) as usize + 8;
    let frame = &webp[at..at + size];
    let mut file = webp[..at].to_vec();
    file.extend(frame.repeat(50_000));
    let length = (file.len() as u32 - 8).to_le_bytes();
    file[4..8].copy_from_slice(&length);
    let begun = Work::now();
    assert_eq!(decode(&file).unwrap().dimensions(), (64, 48));
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
}

#[test]
fn a_jpeg_of_a_thousand_scans_is_refused_at_once() {
    let file = shipped("progressive.jpg");
    let last = (0..file.len() - 1)
        .rev()
        .find(|&at| file[at..at + 2] == [0xFF, 0xDA])
        .unwrap();
    let scan = &file[last..file.len() - 2];
    let bomb = [&file[..last], &scan.repeat(1000), b"\xFF\xD9"].concat();
    let error = refused_at_once(&bomb);
    assert!(matches!(error, DecodeError::Rare { .. }), "{error}");
}

#[test]
fn a_profile_that_unfolds_without_end_costs_little() {
    let mut png = Png::new(1, 1, png::ColorType::Rgb, png::BitDepth::Eight);
    png.profile = Some(vec![0; 60_000_000]);
    let file = png.bytes(&[1, 2, 3]);
    drop(png);
    let before = Memory::now();
    // With the profile refused or ignored: both are sound.
    if let Ok(picture) = decode(&file) {
        assert_eq!(picture.get_pixel(0, 0).0, [1, 2, 3]);
    }
    assert!(before.more_kib() < 30_000, "{} KiB", before.more_kib());
}

/// What is decoded holds three bytes a pixel; the decoder itself may need this much more.
fn takes_little_more_than_its_result(file: &[u8], more_kib: u64) {
    let before = Memory::now();
    let picture = decode(file).unwrap();
    let needed = picture.as_raw().len() as u64 / 1024;
    let taken = before.more_kib();
    assert!(taken < needed + more_kib, "{taken} KiB for {needed}");
}

#[test]
fn twelve_megapixels_take_no_second_copy() {
    let picture = super::numbered(4000, 3000);
    let plain = jpeg(&picture);
    takes_little_more_than_its_result(&plain, 4_096);
    // Turned by a quarter, as phones held upright write them.
    let block = [b"Exif\0\0", super::exif(6).as_slice()].concat();
    takes_little_more_than_its_result(&super::with_segment(&plain, 0xE1, &block), 4_096);
    let mut png = Png::new(4000, 3000, png::ColorType::Rgb, png::BitDepth::Eight);
    takes_little_more_than_its_result(&png.bytes(picture.as_raw()), 2_048);
    png = Png::new(4000, 3000, png::ColorType::Rgba, png::BitDepth::Eight);
    let clear: Vec<u8> = picture
        .pixels()
        .flat_map(|p| [p.0[0], p.0[1], p.0[2], 200])
        .collect();
    takes_little_more_than_its_result(&png.bytes(&clear), 2_048);
}
