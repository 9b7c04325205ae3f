//! What a worker leaves behind that is killed: nothing that runs.

use std::process::{Command, Stdio};
use std::time::Duration;

use photofinish_kit::wait_until;
use serde_json::json;

use crate::videos::{made, video};

const PROGRAM: &str = env!("CARGO_BIN_EXE_photofinish-worker");
const SOON: Duration = Duration::from_secs(60);

/// Whether an ffmpeg runs that writes into `dir`.
fn ffmpeg_runs(dir: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|process| std::fs::read(process.path().join("cmdline")).ok())
        .any(|line| {
            let line = String::from_utf8_lossy(&line).into_owned();
            line.starts_with("ffmpeg\0") && line.contains(dir)
        })
}

#[tokio::test]
async fn a_worker_that_is_killed_takes_its_encoder_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    video(at, "v.mp4");
    // Half an hour: encoding it takes longer than the test waits for its end.
    made(at, "-f lavfi -i anullsrc=r=8000:cl=mono:d=1800 a.m4a");
    let job = json!({
        "operation": "addaudio", "url_video": "v.mp4", "url_audio": "a.m4a", "timing": "reencode"
    });
    std::fs::write(at.join("job.json"), job.to_string()).unwrap();
    let mut worker = Command::new(PROGRAM)
        .args(["run", "--input", "job.json", "--out", "out"])
        .current_dir(at)
        .env("TMPDIR", at)
        .env("PHOTOFINISH__ENCODER__CHOICE", "x264")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let here = at.to_str().unwrap();
    wait_until(SOON, "an encoder", || async { ffmpeg_runs(here) })
        .await
        .unwrap();
    worker.kill().unwrap();
    worker.wait().unwrap();
    wait_until(Duration::from_secs(5), "its end", || async {
        !ffmpeg_runs(here)
    })
    .await
    .unwrap();
}
