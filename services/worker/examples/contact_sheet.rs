//! One picture that shows what the worker makes: every motion, every fit, captions in six scripts.
//!
//! Everything on it is a frame of a file that `photofinish-worker run` made. Written to `target/contact-sheet.png`.
#![expect(clippy::print_stdout, reason = "a program for people")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use image::{Rgb, RgbImage, imageops};
use photofinish_kit::{SAMPLES, binary, root};
use serde_json::{Value, json};

/// Pixels of a cell.
const CELL: (u32, u32) = (384, 216);
const COLUMNS: usize = 6;
const GAP: u32 = 8;
/// Frames of each clip.
const FRAMES: u32 = 13;

/// A frame of a file and what it is called.
struct Cell {
    file: PathBuf,
    frame: u32,
    label: String,
}

fn main() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let dir = dir.path();
    let mut cells = motions(dir)?;
    cells.extend(fits(dir)?);
    cells.extend(captions(dir)?);
    let (step_x, step_y) = (CELL.0 + GAP, CELL.1 + GAP);
    let rows = cells.len().div_ceil(COLUMNS) as u32;
    let size = (step_x * COLUMNS as u32 + GAP, step_y * rows + GAP);
    let mut sheet = RgbImage::from_pixel(size.0, size.1, Rgb([40, 40, 48]));
    for (n, cell) in cells.iter().enumerate() {
        let picture = shown(dir, cell)?;
        let (x, y) = ((n % COLUMNS) as u32, (n / COLUMNS) as u32);
        let at = (x * step_x + GAP, y * step_y + GAP);
        imageops::replace(&mut sheet, &picture, at.0.into(), at.1.into());
    }
    let path = root().join("target/contact-sheet.png");
    sheet.save(&path)?;
    println!("{}", path.display());
    Ok(())
}

/// A picture on which every distortion is seen: squares, circles about the middle and a corner of its own colour.
fn scene(width: u32, height: u32) -> RgbImage {
    let middle = (f64::from(width) / 2.0, f64::from(height) / 2.0);
    RgbImage::from_fn(width, height, |x, y| {
        let (dx, dy) = (f64::from(x) - middle.0, f64::from(y) - middle.1);
        let ring = (dx.hypot(dy) / 60.0) as u32;
        let square = (x / 60 + y / 60) % 2 == 0;
        let sky = (f64::from(y) / f64::from(height) * 120.0) as u8;
        match (x < width / 4 && y < height / 4, ring) {
            (true, _) => Rgb([220, 70, 50]),
            (_, 1) => Rgb([250, 220, 80]),
            (_, 3) => Rgb([250, 250, 250]),
            _ if square => Rgb([30, 60 + sky, 150]),
            _ => Rgb([50, 90 + sky, 190]),
        }
    })
}

/// Runs the worker on a job; the files that it made, in the order of the items.
fn run(dir: &Path, name: &str, job: &Value) -> anyhow::Result<Vec<PathBuf>> {
    let (input, out) = (dir.join(format!("{name}.json")), dir.join(name));
    std::fs::write(&input, job.to_string())?;
    let status = Command::new(binary("photofinish-worker")?)
        .arg("run")
        .arg("--input")
        .arg(&input)
        .arg("--out")
        .arg(&out)
        .stdout(Stdio::null())
        .status()?;
    anyhow::ensure!(status.success(), "the job {name} failed");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&out)? {
        files.push(entry?.path());
    }
    files.sort();
    Ok(files)
}

fn motions(dir: &Path) -> anyhow::Result<Vec<Cell>> {
    scene(1280, 720).save(dir.join("wide.png"))?;
    let path =
        json!({"from": {"zoom": 1.0, "x": 0.5, "y": 0.5}, "to": {"zoom": 4.0, "x": 0.2, "y": 0.2}});
    let motions = [
        ("zoom_in", json!("zoom_in")),
        ("zoom_out", json!("zoom_out")),
        ("pan_left", json!("pan_left")),
        ("pan_right", json!("pan_right")),
        ("pan_up", json!("pan_up")),
        ("pan_down", json!("pan_down")),
        ("still", json!("still")),
        ("path", path),
    ];
    let images: Vec<Value> = motions
        .iter()
        .map(|(name, motion)| {
            json!({"id": name, "image_url": "wide.png", "duracao": 1.0, "motion": motion})
        })
        .collect();
    let job = clip_job("cover", &json!(images));
    let files = run(dir, "motions", &job)?;
    let mut cells = Vec::new();
    for (file, (name, _)) in files.iter().zip(&motions) {
        for (frame, when) in [(0, "first"), (FRAMES / 2, "middle"), (FRAMES - 1, "last")] {
            cells.push(Cell {
                file: file.clone(),
                frame,
                label: format!("{name} {when}"),
            });
        }
    }
    Ok(cells)
}

fn fits(dir: &Path) -> anyhow::Result<Vec<Cell>> {
    scene(600, 800).save(dir.join("tall.png"))?;
    scene(1600, 500).save(dir.join("broad.png"))?;
    let mut cells = Vec::new();
    for fit in ["cover", "contain", "stretch"] {
        let images = json!([
            {"image_url": "tall.png", "duracao": 1.0},
            {"image_url": "broad.png", "duracao": 1.0},
        ]);
        for (file, shape) in run(dir, fit, &clip_job(fit, &images))?
            .into_iter()
            .zip(["tall", "broad"])
        {
            cells.push(Cell {
                file,
                frame: 0,
                label: format!("{fit} {shape}"),
            });
        }
    }
    Ok(cells)
}

fn clip_job(fit: &str, images: &Value) -> Value {
    json!({"operation": "img2vid", "frame_rate": FRAMES, "width": CELL.0, "height": CELL.1, "fit": fit, "images": images})
}

fn captions(dir: &Path) -> anyhow::Result<Vec<Cell>> {
    let video = dir.join("video.mp4");
    let source = format!(
        "gradients=s={}x{}:d=1:r={FRAMES}:c0=0x203050:c1=0x506070",
        CELL.0, CELL.1
    );
    ffmpeg(&[
        "-f",
        "lavfi",
        "-i",
        &source,
        "-pix_fmt",
        "yuv420p",
        &text(&video)?,
    ])?;
    let mut cells = Vec::new();
    for (script, sample) in SAMPLES {
        let srt = format!("1\n00:00:00,000 --> 00:00:01,000\n{sample}\n");
        std::fs::write(dir.join("captions.srt"), srt)?;
        let job = json!({"operation": "caption", "url_video": "video.mp4", "url_srt": "captions.srt", "style": {"size": 13}});
        let name = format!("caption-{script}");
        let file = run(dir, &name, &job)?.pop().context("a captioned video")?;
        cells.push(Cell {
            file,
            frame: FRAMES / 2,
            label: script.to_owned(),
        });
    }
    Ok(cells)
}

/// The cell as a picture, its label in the corner.
fn shown(dir: &Path, cell: &Cell) -> anyhow::Result<RgbImage> {
    let frame = dir.join("frame.png");
    let filter = format!(
        "select='eq(n,{})',drawtext=text='{}':x=6:y=6:fontsize=15:fontcolor=white:box=1:boxcolor=black@0.6:boxborderw=4",
        cell.frame, cell.label
    );
    ffmpeg(&[
        "-i",
        &text(&cell.file)?,
        "-vf",
        &filter,
        "-frames:v",
        "1",
        &text(&frame)?,
    ])?;
    Ok(image::open(&frame)?.into_rgb8())
}

fn ffmpeg(args: &[&str]) -> anyhow::Result<()> {
    let status = Command::new("ffmpeg")
        .args(["-nostdin", "-loglevel", "error", "-y"])
        .args(args)
        .status()?;
    anyhow::ensure!(status.success(), "ffmpeg failed");
    Ok(())
}

fn text(path: &Path) -> anyhow::Result<String> {
    Ok(path.to_str().context("a path that is text")?.to_owned())
}
