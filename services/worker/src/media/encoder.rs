//! The encoder plan: which H.264 encoder this machine has, found by a trial, and its arguments.
//!
//! Guarantee: a plan is only made of an encoder that has just encoded something here.

use std::path::Path;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::ffmpeg::{self, Args, FfmpegError};

const TRIAL_LIMIT: Duration = Duration::from_secs(20);

/// An H.264 encoder that we know how to drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoder {
    /// NVIDIA's, on the GPU.
    Nvenc,
    /// x264, on the CPU.
    X264,
}

impl Encoder {
    /// ffmpeg's name of it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nvenc => "h264_nvenc",
            Self::X264 => "libx264",
        }
    }

    /// Its arguments; `threads` is for encoders on the CPU.
    pub fn args(self, threads: usize) -> Args {
        match self {
            Self::Nvenc => Args::words(
                "-c:v h264_nvenc -preset p4 -tune hq -rc vbr -cq 23 -b:v 0 -maxrate 10M -bufsize 20M",
            ),
            Self::X264 => {
                Args::words("-c:v libx264 -preset veryfast -crf 23 -maxrate 10M -bufsize 20M")
                    .arg("-threads")
                    .arg(threads.to_string())
            }
        }
    }
}

/// Which encoder to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// The GPU's if it works, else the CPU's.
    Auto,
    /// The GPU's, or none.
    Nvenc,
    /// The CPU's.
    X264,
}

/// Tries encoders in the order of preference and says which one it will be.
pub async fn find(program: &str, choice: Choice) -> Result<Encoder, FfmpegError> {
    let candidates: &[Encoder] = match choice {
        Choice::Auto => &[Encoder::Nvenc, Encoder::X264],
        Choice::Nvenc => &[Encoder::Nvenc],
        Choice::X264 => &[Encoder::X264],
    };
    let mut last = None;
    for &encoder in candidates {
        match trial(program, encoder).await {
            Ok(()) => {
                announce(encoder);
                return Ok(encoder);
            }
            Err(error) => {
                tracing::info!(encoder = encoder.as_str(), %error, "encoder does not work here");
                last = Some(error);
            }
        }
    }
    Err(last.unwrap_or(FfmpegError::Stopped))
}

fn announce(encoder: Encoder) {
    metrics::gauge!("photofinish_worker_encoder_info", "encoder" => encoder.as_str()).set(1.0);
    match encoder {
        Encoder::Nvenc => tracing::info!(encoder = encoder.as_str(), "encoding on the GPU"),
        Encoder::X264 => tracing::warn!(
            encoder = encoder.as_str(),
            "ENCODING ON THE CPU: no NVENC answered, a rented GPU would be wasted here"
        ),
    }
}

async fn trial(program: &str, encoder: Encoder) -> Result<(), FfmpegError> {
    let args = Args::words("-hide_banner -nostdin -loglevel error")
        .and("-f lavfi -i color=gray:s=256x256:r=30:d=0.1 -pix_fmt yuv420p")
        .with(&encoder.args(1))
        .and("-f null -");
    ffmpeg::run(
        program,
        Path::new("/"),
        &args,
        TRIAL_LIMIT,
        &CancellationToken::new(),
    )
    .await
}
