//! Our side as a process of its own: a picture in, raw frames out, as the worker does it for a clip.

use std::io::{self, Write as _};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use photofinish_contract::request::{Fit, Motion};
use photofinish_render::pump::{Shot, pump};
use photofinish_render::stage::Stage;
use photofinish_render::{camera, decode};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{RATE, timed};

/// What a child says of itself when it is ready.
pub(crate) struct Report {
    /// From the first frame to the last.
    pub(crate) filming_s: f64,
    /// The most memory that it had at once.
    pub(crate) peak_mib: f64,
}

/// A child that renders so many seconds of a picture into `sink`: `null` or `stdout`.
pub(crate) fn command(
    picture: &str,
    seconds: u32,
    threads: usize,
    sink: &str,
) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["render", picture, &(seconds * RATE).to_string()])
        .args([&threads.to_string(), sink])
        .stderr(Stdio::null());
    Ok(command)
}

/// Runs a child that renders into nothing and reads its report.
pub(crate) fn report(command: &mut Command) -> anyhow::Result<Report> {
    let said = command.stderr(Stdio::piped()).output()?;
    let said: Value = serde_json::from_slice(&said.stderr).context("read a child's report")?;
    let number = |name: &str| said[name].as_f64().with_context(|| format!("no {name}"));
    Ok(Report {
        filming_s: number("filming_s")?,
        peak_mib: number("peak_mib")?,
    })
}

/// The child's work; its report goes to standard error.
pub(crate) fn render(args: &[String]) -> anyhow::Result<()> {
    let [picture, frames, threads, sink] = args else {
        anyhow::bail!("render PICTURE FRAMES THREADS null|stdout");
    };
    let picture = decode::decode(&std::fs::read(picture)?)?;
    let stage = Stage::set(&picture, 1920, 1080, Fit::Cover, camera::ZOOM_END);
    drop(picture);
    let shot = Shot {
        stage,
        motion: Motion::ZoomIn,
        frames: frames.parse()?,
    };
    let threads = threads.parse()?;
    let go = CancellationToken::new();
    let (pumped, filming) = timed(|| match sink.as_str() {
        "stdout" => {
            let mut out = std::fs::File::from(rustix::io::dup(io::stdout())?);
            // As the worker does with its pipe to the encoder.
            let _refused = rustix::pipe::fcntl_setpipe_size(&out, 1024 * 1024);
            pump(&shot, threads, &mut out, &go)
        }
        _ => pump(&shot, threads, &mut io::sink(), &go),
    });
    pumped?;
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: f64 = peak
        .and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
        .context("no VmHWM")?;
    let report = json!({"filming_s": filming.as_secs_f64(), "peak_mib": kib / 1024.0});
    writeln!(io::stderr(), "{report}")?;
    Ok(())
}
