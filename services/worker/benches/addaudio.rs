//! addaudio by new timestamps against addaudio by a new encoding: the whole program both times, in turn, on a clip of
//! 30 s, 1080p, 30 frames a second, and audio a quarter longer.
//!
//! The pictures must come out of `auto` bit for bit as they went in, and its ends within a millisecond.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::Context as _;
use photofinish_kit::binary;
use photofinish_kit::measure::{Figure, Goal, record};
use serde_json::json;

const ROUNDS: usize = 5;
/// A new encoding takes so long that one more says nothing more.
const REENCODE_ROUNDS: usize = 2;
/// Seconds that the ends of picture and sound may be apart.
const APART_MAX: f64 = 0.001;

fn main() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let dir = dir.path();
    tool(
        dir,
        "ffmpeg",
        "-nostdin -v error -y -f lavfi -i testsrc2=s=1920x1080:r=30:d=30 -c:v libx264 -preset veryfast -pix_fmt yuv420p video.mp4",
    )?;
    tool(
        dir,
        "ffmpeg",
        "-nostdin -v error -y -f lavfi -i sine=f=330:d=37.5 -c:a aac audio.m4a",
    )?;
    let (mut kept, mut encoded) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        kept.push(run(dir, "auto")?);
        if round < REENCODE_ROUNDS {
            encoded.push(run(dir, "reencode")?);
        }
    }
    let pictures = |file: &str| {
        tool(
            dir,
            "ffmpeg",
            &format!("-nostdin -v error -i {file} -map 0:v -fps_mode passthrough -f md5 -"),
        )
    };
    let same = pictures("video.mp4")? == pictures("auto/0000-video.mp4")?;
    anyhow::ensure!(same, "the pictures are not those of before");
    let end = |stream: &str| -> anyhow::Result<f64> {
        let said = tool(
            dir,
            "ffprobe",
            &format!(
                "-v error -select_streams {stream} -show_entries stream=duration -of csv=p=0 auto/0000-video.mp4"
            ),
        )?;
        said.trim().parse().context("a duration")
    };
    let apart = (end("v")? - end("a")?).abs();
    anyhow::ensure!(apart <= APART_MAX, "the ends are {apart} s apart");
    kept.sort_by(f64::total_cmp);
    encoded.sort_by(f64::total_cmp);
    // The best of each: what else runs on the machine only adds.
    let (ours, theirs) = (kept[0], encoded[0]);
    record(&[Figure {
        name: "addaudio_copy_wall_ratio",
        value: theirs / ours,
        unit: "x",
        goal: Goal::AtLeast(50.0),
        against: format!(
            "a new encoding: {theirs:.2} s, by timestamps {ours:.3} s, whole program; ends {:.2} ms apart",
            apart * 1000.0
        ),
    }])
}

/// Seconds that the program takes for the job.
fn run(dir: &Path, timing: &str) -> anyhow::Result<f64> {
    let job = json!({"operation": "addaudio", "url_video": "video.mp4", "url_audio": "audio.m4a", "timing": timing});
    let input = dir.join(format!("{timing}.json"));
    std::fs::write(&input, job.to_string())?;
    let mut command = Command::new(binary("photofinish-worker")?);
    command.arg("run").arg("--input").arg(&input);
    command.arg("--out").arg(dir.join(timing));
    let begun = Instant::now();
    let status = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    anyhow::ensure!(status.success(), "{timing} failed");
    Ok(begun.elapsed().as_secs_f64())
}

fn tool(dir: &Path, program: &str, words: &str) -> anyhow::Result<String> {
    let done = Command::new(program)
        .args(words.split(' '))
        .current_dir(dir)
        .output()?;
    let said = String::from_utf8_lossy(&done.stderr);
    anyhow::ensure!(done.status.success(), "{program} {words}: {said}");
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}
