//! The recipe of the old system, in our words: the picture is blown up to six times 1080p, whatever its shape, and
//! ffmpeg's `zoompan` walks over it from 1.0 to 1.324 about the centre, in whole pixels of the enlarged picture.

use std::process::Command;

use super::RATE;

fn ffmpeg() -> Command {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-hide_banner", "-loglevel", "error", "-y"]);
    command
}

/// The recipe without an encoder.
pub(crate) fn render(picture: &str, seconds: u32) -> Command {
    let frames = seconds * RATE;
    let filter = format!(
        "scale=11520:6480:flags=lanczos,zoompan=z='min(1.0+0.324*on/{frames},1.324)':d={frames}:\
         x='trunc(iw/2-(iw/zoom/2))':y='trunc(ih/2-(ih/zoom/2))':s=1920x1080:fps={RATE},format=nv12"
    );
    let rate = RATE.to_string();
    let mut command = ffmpeg();
    command
        .args(["-framerate", &rate, "-loop", "1", "-i", picture])
        .args(["-vf", &filter, "-filter_threads", "0"])
        .args(["-t", &seconds.to_string(), "-f", "null", "-"]);
    command
}

/// x264 as the worker calls it, fed 1080p frames.
pub(crate) fn encode(frames: &str) -> Command {
    let rate = RATE.to_string();
    let mut command = ffmpeg();
    command
        .args(["-f", "rawvideo", "-pix_fmt", "yuv420p"])
        .args([
            "-video_size",
            "1920x1080",
            "-framerate",
            &rate,
            "-i",
            frames,
        ])
        .args(["-c:v", "libx264", "-preset", "veryfast", "-crf", "23"])
        .args(["-maxrate", "10M", "-bufsize", "20M", "-threads", "2"])
        .args(["-f", "null", "-"]);
    command
}
