//! Pictures to render, and how near the frames are to what they should be.

use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use photofinish_contract::request::{Fit, Motion};
use photofinish_kit::exact::{self, Steps};
use photofinish_kit::measure::{Figure, Goal};
use photofinish_kit::{detailed, dots, png};
use photofinish_render::camera;
use photofinish_render::pump::Shot;
use photofinish_render::stage::Stage;

const FRAMES: u32 = 60;
const SIZE: (usize, usize) = (1920, 1080);

/// A detailed picture as a 4:2:0 JPEG of high quality; its path.
pub(crate) fn jpeg(dir: &Path, name: &str, width: u32, height: u32) -> anyhow::Result<String> {
    let source = dir.join("source.png");
    std::fs::write(&source, png(&detailed(width, height)))?;
    let path = dir.join(name);
    let status = Command::new("ffmpeg")
        .args(["-nostdin", "-loglevel", "error", "-y", "-i"])
        .arg(&source)
        .args(["-pix_fmt", "yuvj420p", "-q:v", "2"])
        .arg(&path)
        .status()?;
    anyhow::ensure!(status.success(), "ffmpeg could not make {name}");
    let path = path.to_str().context("a directory with a plain name")?;
    Ok(path.to_owned())
}

fn shot(picture: &image::RgbImage) -> Shot {
    let (width, height) = (SIZE.0 as u32, SIZE.1 as u32);
    Shot {
        stage: Stage::set(picture, width, height, Fit::Cover, camera::ZOOM_END),
        motion: Motion::ZoomIn,
        frames: FRAMES,
    }
}

/// The worst of seven frames, against an exact resample of the same picture.
pub(crate) fn quality() -> [Figure; 3] {
    let (w, h) = SIZE;
    let picture = detailed(w as u32, h as u32);
    let shot = shot(&picture);
    let [luma, blue, red] = exact::planes(&picture);
    let (mut ssim, mut luma_db, mut chroma_db) = (1.0_f64, f64::INFINITY, f64::INFINITY);
    for n in [1, 10, 20, 30, 40, 50, 59] {
        let rect = camera::rectangle(&shot.motion, n, FRAMES, shot.stage.base);
        let frame = shot.frame(n);
        let (across, down) = (rect.width / w as f64, rect.height / h as f64);
        let steps = |first, step, len| Steps { first, step, len };
        let exact_luma = luma.resampled(
            steps(rect.left + across / 2.0, across, w),
            steps(rect.top + down / 2.0, down, h),
        );
        let (y, uv) = frame.split_at(w * h);
        luma_db = luma_db.min(exact_luma.psnr(y, 8));
        ssim = ssim.min(exact_luma.ssim(y));
        for (plane, made) in [&blue, &red].into_iter().zip(uv.chunks(w * h / 4)) {
            let exact = plane.resampled(
                steps(rect.left + across / 2.0, 2.0 * across, w / 2),
                steps(rect.top + down, 2.0 * down, h / 2),
            );
            chroma_db = chroma_db.min(exact.psnr(made, 8));
        }
    }
    let figure = |name, value, unit, goal| Figure {
        name,
        value,
        unit,
        goal: Goal::AtLeast(goal),
        against: "an exact f64 Lanczos-3 resample, the worst of seven frames".to_owned(),
    };
    [
        figure("ken_burns_luma_ssim", ssim, "", 0.999),
        figure("ken_burns_luma_psnr_db", luma_db, "dB", 55.0),
        figure("ken_burns_chroma_psnr_db", chroma_db, "dB", 52.0),
    ]
}

/// How far dots are from where the camera's way puts them.
pub(crate) fn jitter() -> [Figure; 2] {
    let (w, h) = SIZE;
    let (width, height) = (w as u32, h as u32);
    let shot = shot(&dots::dotted(width, height));
    let (mut square, mut worst, mut count) = (0.0, 0.0_f64, 0.0);
    for n in 0..FRAMES {
        let rect = camera::rectangle(&shot.motion, n, FRAMES, shot.stage.base);
        let frame = shot.frame(n);
        for (x, y) in dots::dots(width, height) {
            let ideal = (
                (x - rect.left) / rect.width * w as f64,
                (y - rect.top) / rect.height * h as f64,
            );
            let (left, top) = dots::centre(&frame, w, ideal, 16);
            let off = (left - ideal.0).hypot(top - ideal.1);
            (square, worst, count) = (square + off * off, worst.max(off), count + 1.0);
        }
    }
    let figure = |name, value, goal| Figure {
        name,
        value,
        unit: "px",
        goal: Goal::AtMost(goal),
        against: format!("the camera's way, {count} places of 35 dots"),
    };
    [
        figure("ken_burns_jitter_rms_px", f64::sqrt(square / count), 0.02),
        figure("ken_burns_jitter_max_px", worst, 0.06),
    ]
}
