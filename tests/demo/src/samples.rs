//! The sample inputs: pictures with real detail, a video with sound, captions, an audio track.
//!
//! Pictures are computed, each from its number alone: a sky with a gradient and clouds, ridges of fractal noise, a
//! sign with text-like strokes. Video and audio come from ffmpeg's own test sources.

use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context as _;
use image::codecs::jpeg::JpegEncoder;
use image::{Rgb, RgbImage};
use tokio::task::JoinSet;

/// Pictures of the split job.
pub const PICTURES: u32 = 60;
/// Pictures are so large, in pixels.
pub const PICTURE_SIZE: (u32, u32) = (960, 540);
/// Size of the sample video, in pixels.
pub const VIDEO_SIZE: (u32, u32) = (640, 360);
/// Frames of the sample video.
pub const VIDEO_FRAMES: u64 = 96;
/// Length of the sample video, in seconds.
pub const VIDEO_SECONDS: f64 = 4.0;
/// Length of the sample audio track, in seconds, before its encoder's padding.
pub const AUDIO_SECONDS: f64 = 5.2;

const JPEG_QUALITY: u8 = 88;
const THREADS: u32 = 4;
const RIDGES: u32 = 4;

const SRT: &str = "1\n00:00:00,200 --> 00:00:01,300\nA picture is worth a thousand frames.\n\n\
2\n00:00:01,400 --> 00:00:02,600\n<i>Every one of them</i> is carried home\nbefore the machine goes dark.\n\n\
3\n00:00:02,700 --> 00:00:03,900\nPhotofinish: won by a nose.\n";

/// Where the samples lie.
#[derive(Debug, Clone)]
pub struct Samples {
    /// `pictures/00.jpg` and so on, `video.mp4`, `captions.srt`, `audio.m4a`.
    pub dir: PathBuf,
}

impl Samples {
    /// Makes them under a directory, with so many pictures.
    pub async fn make(dir: &Path, pictures: u32) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir.join("pictures")).context("make the directory of samples")?;
        std::fs::write(dir.join("captions.srt"), SRT).context("write the captions")?;
        let mut painters = JoinSet::new();
        for first in 0..THREADS {
            let dir = dir.join("pictures");
            painters.spawn_blocking(move || {
                (first..pictures)
                    .step_by(THREADS as usize)
                    .try_for_each(|n| save(&dir, n))
            });
        }
        tokio::try_join!(video(dir), audio(dir))?;
        while let Some(saved) = painters.join_next().await {
            saved.context("paint the pictures")??;
        }
        Ok(Self {
            dir: dir.to_path_buf(),
        })
    }

    /// The sample audio track.
    pub fn audio(&self) -> PathBuf {
        self.dir.join("audio.m4a")
    }
}

/// The file name of a picture.
pub fn picture_name(number: u32) -> String {
    format!("{number:02}.jpg")
}

fn save(dir: &Path, number: u32) -> anyhow::Result<()> {
    let path = dir.join(picture_name(number));
    let file = std::fs::File::create(&path).context("create a picture")?;
    JpegEncoder::new_with_quality(BufWriter::new(file), JPEG_QUALITY)
        .encode_image(&paint(number))
        .with_context(|| format!("encode {}", path.display()))
}

async fn video(dir: &Path) -> anyhow::Result<()> {
    let (width, height) = VIDEO_SIZE;
    let rate = VIDEO_FRAMES as f64 / VIDEO_SECONDS;
    let picture = format!("testsrc2=size={width}x{height}:rate={rate}:duration={VIDEO_SECONDS}");
    let tone = format!("sine=frequency=440:duration={VIDEO_SECONDS}");
    let inputs = ["-f", "lavfi", "-i", &picture, "-f", "lavfi", "-i", &tone];
    let codecs = [
        "-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-c:a", "aac",
    ];
    ffmpeg(&inputs, &codecs, &dir.join("video.mp4")).await
}

async fn audio(dir: &Path) -> anyhow::Result<()> {
    let tone = format!("sine=frequency=330:beep_factor=4:duration={AUDIO_SECONDS}");
    ffmpeg(
        &["-f", "lavfi", "-i", &tone],
        &["-c:a", "aac"],
        &dir.join("audio.m4a"),
    )
    .await
}

async fn ffmpeg(inputs: &[&str], codecs: &[&str], output: &Path) -> anyhow::Result<()> {
    let ran = tokio::process::Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-y"])
        .args(inputs)
        .args(codecs)
        .args(["-movflags", "+faststart"])
        .arg(output)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("run ffmpeg: install it with `sudo apt-get install -y ffmpeg`")?;
    let said = String::from_utf8_lossy(&ran.stderr);
    anyhow::ensure!(
        ran.status.success(),
        "ffmpeg could not make {}: {said}",
        output.display()
    );
    Ok(())
}

/// A landscape, the same for the same number.
pub fn paint(number: u32) -> RgbImage {
    let (width, height) = PICTURE_SIZE;
    let hue = number as f32 / PICTURES as f32;
    let (sky_top, sky_low) = (palette(hue, 0.35), palette(hue + 0.12, 0.95));
    let ridges: Vec<_> = (0..RIDGES)
        .map(|depth| Ridge::new(number, depth, hue))
        .collect();
    let mut picture = RgbImage::new(width, height);
    for x in 0..width {
        let crests: Vec<_> = ridges.iter().map(|ridge| ridge.crest(x)).collect();
        for y in 0..height {
            // The nearest ridge that reaches up to here hides what is behind it.
            let nearest = (0..ridges.len()).rev().find(|depth| crests[*depth] <= y);
            let colour = if let Some(depth) = nearest {
                ridges[depth].ground(x, y, y - crests[depth])
            } else {
                let down = y as f32 / height as f32;
                let cloud = fractal(number, x as f32 / 190.0, y as f32 / 70.0, 5);
                let cloud = ((cloud - 0.5) * 3.0).clamp(0.0, 1.0) * (1.0 - down);
                mix(mix(sky_top, sky_low, down), [1.0, 1.0, 1.0], cloud * 0.8)
            };
            picture.put_pixel(x, y, to_rgb(colour));
        }
    }
    paint_sign(&mut picture, number);
    picture
}

/// A range of hills, the nearer the lower and the darker.
struct Ridge {
    seed: u32,
    base: f32,
    span: f32,
    colour: [f32; 3],
}

impl Ridge {
    fn new(number: u32, depth: u32, hue: f32) -> Self {
        let (near, depth_f) = ((depth + 1) as f32 / RIDGES as f32, depth as f32);
        Self {
            seed: number * 31 + depth * 7 + 1,
            base: 0.42 + 0.14 * depth_f,
            span: 210.0 - 30.0 * depth_f,
            colour: palette(hue + 0.5 + 0.06 * depth_f, 0.75 - 0.5 * near),
        }
    }

    /// Where it begins in a column, in pixels from the top.
    fn crest(&self, x: u32) -> u32 {
        let height = PICTURE_SIZE.1 as f32;
        let noise = fractal(self.seed, x as f32 / self.span, 0.0, 6);
        ((self.base + (noise - 0.5) * 0.34) * height).clamp(0.0, height) as u32
    }

    /// Grain and strata: detail down to single pixels.
    fn ground(&self, x: u32, y: u32, below_crest: u32) -> [f32; 3] {
        let grain = fractal(self.seed + 3, x as f32 / 9.0, y as f32 / 5.0, 4);
        let strata = (below_crest as f32 / 7.0 + grain * 6.0).sin() * 0.06;
        self.colour
            .map(|channel| channel * (0.7 + grain * 0.6 + strata))
    }
}

/// A board with rows of strokes: hard edges, as text has them.
fn paint_sign(picture: &mut RgbImage, number: u32) {
    let (width, height) = picture.dimensions();
    let (board_w, board_h) = (260, 130);
    let left = 30 + hash(number, 1, 2) % (width - board_w - 60);
    let top = height - board_h - 30 - hash(number, 3, 4) % 60;
    for y in 0..board_h {
        for x in 0..board_w {
            let edge = x < 4 || y < 4 || x >= board_w - 4 || y >= board_h - 4;
            let (row, column) = (y / 18, x / 9);
            let inside = x > 14 && x < board_w - 14 && y > 10 && y < board_h - 10;
            let letter = hash(number + row * 97, column, 5);
            let (dx, dy) = (x % 9, y % 18);
            let bar = (dx < 2 && letter & 1 != 0)
                || (dx > 4 && dx < 7 && letter & 2 != 0)
                || (dy < 2 && letter & 4 != 0)
                || (dy > 5 && dy < 8 && letter & 8 != 0)
                || (dy > 10 && dy < 13 && letter & 16 != 0);
            let stroke = inside && dx < 7 && dy < 13 && bar && !letter.is_multiple_of(7);
            let tone = if edge || stroke { 28 } else { 236 };
            picture.put_pixel(left + x, top + y, Rgb([tone, tone, tone.saturating_sub(6)]));
        }
    }
}

fn palette(hue: f32, light: f32) -> [f32; 3] {
    [0.0, 0.33, 0.67].map(|phase| {
        let wave = (std::f32::consts::TAU * (hue + phase)).cos();
        (light * (0.72 + 0.28 * wave)).clamp(0.0, 1.0)
    })
}

fn mix(a: [f32; 3], b: [f32; 3], share: f32) -> [f32; 3] {
    [0, 1, 2].map(|channel| a[channel] + (b[channel] - a[channel]) * share)
}

fn to_rgb(colour: [f32; 3]) -> Rgb<u8> {
    Rgb(colour.map(|channel| (channel.clamp(0.0, 1.0) * 255.0).round() as u8))
}

/// Fractal value noise in 0..1.
fn fractal(seed: u32, x: f32, y: f32, octaves: u32) -> f32 {
    let (mut sum, mut weight, mut total) = (0.0, 1.0, 0.0);
    let mut scale = 1.0;
    for octave in 0..octaves {
        sum += weight * noise(seed.wrapping_add(octave * 131), x * scale, y * scale);
        total += weight;
        weight *= 0.5;
        scale *= 2.0;
    }
    sum / total
}

fn noise(seed: u32, x: f32, y: f32) -> f32 {
    let (left, top) = (x.floor(), y.floor());
    let smooth = |t: f32| t * t * (3.0 - 2.0 * t);
    let (u, v) = (smooth(x - left), smooth(y - top));
    let (column, row) = (left as u32, top as u32);
    let corner = |dx, dy| hash(seed, column + dx, row + dy) as f32 / u32::MAX as f32;
    let upper = corner(0, 0) + (corner(1, 0) - corner(0, 0)) * u;
    let lower = corner(0, 1) + (corner(1, 1) - corner(0, 1)) * u;
    upper + (lower - upper) * v
}

fn hash(seed: u32, x: u32, y: u32) -> u32 {
    let mut h = seed.wrapping_mul(0x9e37_79b1) ^ x.wrapping_mul(0x85eb_ca6b);
    h = (h ^ (h >> 15)).wrapping_mul(0xc2b2_ae35) ^ y.wrapping_mul(0x27d4_eb2f);
    h = (h ^ (h >> 13)).wrapping_mul(0x1656_67b1);
    h ^ (h >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_differ_and_repeat() {
        assert_eq!(paint(3), paint(3));
        assert_ne!(paint(3), paint(4));
        // Real detail: neighbouring pixels of the ground differ.
        let picture = paint(7);
        let (width, height) = picture.dimensions();
        let changes = (1..width)
            .filter(|x| picture.get_pixel(*x, height - 5) != picture.get_pixel(x - 1, height - 5))
            .count();
        assert!(changes > width as usize / 2, "{changes}");
    }
}
