//! The renderer against the old system's recipe, an exact resample, and the encoder alone; both sides in turn, in this
//! run.
//!
//! The recipe (`recipe.rs`) gets a 4:2:0 JPEG: with any other picture ffmpeg takes it through RGB, which costs it five
//! times as much. Processor time is what the kernel counted for a whole child process, its start included; the ratios
//! are of medians.
#![expect(clippy::print_stderr, reason = "a benchmark says how far it is")]

mod child;
mod pictures;
mod recipe;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::resource::{UsageWho, getrusage};
use photofinish_kit::measure::{Figure, Goal, record};

/// Frames a second of all clips.
const RATE: u32 = 30;
const ROUNDS: usize = 5;
const LONG_ROUNDS: usize = 3;

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).map(String::as_str) == Some("render") {
        return child::render(&args[2..]);
    }
    let dir = tempfile::tempdir()?;
    let hd = pictures::jpeg(dir.path(), "hd.jpg", 1920, 1080)?;
    let large = pictures::jpeg(dir.path(), "large.jpg", 4000, 3000)?;
    let mut figures = Vec::new();
    for (name, goal, picture, seconds, rounds) in [
        ("ken_burns_render_2s_cpu_ratio", 12.0, &hd, 2, ROUNDS),
        ("ken_burns_render_10s_cpu_ratio", 16.0, &hd, 10, LONG_ROUNDS),
        ("ken_burns_12mp_cpu_ratio", 8.0, &large, 2, ROUNDS),
    ] {
        eprintln!("{name}");
        let (mut theirs, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            theirs.push(cpu_of(&mut [recipe::render(picture, seconds)])?);
            ours.push(cpu_of(&mut [child::command(picture, seconds, 1, "null")?])?);
        }
        figures.push(ratio(name, goal, &theirs, &ours, "the recipe"));
    }
    figures.push(against_the_encoder(dir.path(), &hd)?);
    figures.extend(pictures::quality());
    figures.extend(pictures::jitter());
    for (name, goal, picture) in [
        ("ken_burns_peak_mib_1080p", 80.0, &hd),
        ("ken_burns_peak_mib_12mp", 120.0, &large),
    ] {
        let report = child::report(&mut child::command(picture, 2, 2, "null")?)?;
        figures.push(Figure {
            name,
            value: report.peak_mib,
            unit: "MiB",
            goal: Goal::AtMost(goal),
            against: "whole process, two threads, encoder apart".to_owned(),
        });
    }
    figures.push(scaling(&hd)?);
    record(&figures)
}

/// Processor seconds of children that are started one after the other and run at the same time; each but the last
/// writes into the next.
fn cpu_of(commands: &mut [Command]) -> anyhow::Result<f64> {
    let before = children_cpu()?;
    let mut children: Vec<std::process::Child> = Vec::new();
    let last = commands.len() - 1;
    for (n, command) in commands.iter_mut().enumerate() {
        if let Some(out) = children.last_mut().and_then(|child| child.stdout.take()) {
            command.stdin(out);
        }
        command.stdout(if n == last {
            Stdio::null()
        } else {
            Stdio::piped()
        });
        children.push(command.spawn().context("start a side")?);
        // The child has its own end of the pipe; ours would keep it open.
        command.stdin(Stdio::null());
    }
    for mut child in children {
        anyhow::ensure!(child.wait()?.success(), "a side failed");
    }
    Ok(children_cpu()? - before)
}

fn children_cpu() -> anyhow::Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let seconds =
        |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1_000_000.0;
    Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
}

fn median(of: &[f64]) -> f64 {
    let mut sorted = of.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn ratio(name: &'static str, goal: f64, theirs: &[f64], ours: &[f64], who: &str) -> Figure {
    let (theirs, ours) = (median(theirs), median(ours));
    Figure {
        name,
        value: theirs / ours,
        unit: "x",
        goal: Goal::AtLeast(goal),
        against: format!("{who}: {theirs:.3} CPU s, ours {ours:.3}"),
    }
}

/// A clip of ten seconds rendered and encoded, against the encoding of its ready frames.
fn against_the_encoder(dir: &std::path::Path, picture: &str) -> anyhow::Result<Figure> {
    const SECONDS: u32 = 10;
    eprintln!("ken_burns_x264_vs_encoder_alone_cpu");
    let frames = dir.join("frames.yuv");
    let frames = frames.to_str().context("a directory with a plain name")?;
    let file = std::fs::File::create(frames)?;
    let status = child::command(picture, SECONDS, 2, "stdout")?
        .stdout(file)
        .status()?;
    anyhow::ensure!(status.success(), "frames could not be made");
    let (mut alone, mut whole) = (Vec::new(), Vec::new());
    for _ in 0..LONG_ROUNDS {
        alone.push(cpu_of(&mut [recipe::encode(frames)])?);
        let render = child::command(picture, SECONDS, 1, "stdout")?;
        whole.push(cpu_of(&mut [render, recipe::encode("pipe:0")])?);
    }
    let (alone, whole) = (median(&alone), median(&whole));
    Ok(Figure {
        name: "ken_burns_x264_vs_encoder_alone_cpu",
        value: whole / alone,
        unit: "x",
        goal: Goal::AtMost(1.08),
        against: format!(
            "x264 veryfast fed ready frames from a file: {alone:.2} CPU s, with rendering {whole:.2}; {SECONDS} s clip"
        ),
    })
}

/// How much sooner two threads are ready than one.
fn scaling(picture: &str) -> anyhow::Result<Figure> {
    eprintln!("ken_burns_thread_scaling_2");
    let (mut one, mut two) = (Vec::new(), Vec::new());
    for _ in 0..3 * ROUNDS {
        for (threads, walls) in [(1, &mut one), (2, &mut two)] {
            let report = child::report(&mut child::command(picture, 10, threads, "null")?)?;
            walls.push(report.filming_s);
        }
    }
    // The best of each: in wall time, what else runs on the machine only adds.
    let best = |walls: &[f64]| walls.iter().copied().fold(f64::INFINITY, f64::min);
    let (one, two) = (best(&one), best(&two));
    Ok(Figure {
        name: "ken_burns_thread_scaling_2",
        value: one / two,
        unit: "x",
        goal: Goal::AtLeast(1.7),
        against: format!("one thread {one:.3} s, two {two:.3} s, 300 frames"),
    })
}

/// How long something took.
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begun = Instant::now();
    (work(), begun.elapsed())
}
