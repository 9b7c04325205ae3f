//! Inputs: downloaded from addresses that a stranger chose, into the job's private directory.
//!
//! Guarantee: nothing larger than its cap lies on disk for longer than its download; each way to
//! fail has its code and a sentence that says what to do, without the URL (it may hold a secret).

use std::path::Path;
use std::time::Duration;

use photofinish_model::Code;
use photofinish_outbound::{Class, Limits, Outbound, OutboundError};
use tokio_util::sync::CancellationToken;

use crate::error::Halt;

/// Attempts to get a first byte.
const TRIES_MAX: u32 = 3;
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// The longest `Retry-After` that is waited for; GPU time is too dear for more.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);

/// What inputs may cost.
#[derive(Debug, Clone)]
pub struct InputLimits {
    /// Bytes of a picture.
    pub image_bytes_max: u64,
    /// Bytes of a video.
    pub video_bytes_max: u64,
    /// Bytes of an audio file.
    pub audio_bytes_max: u64,
    /// Bytes of captions.
    pub captions_bytes_max: u64,
    /// One download.
    pub download_timeout: Duration,
}

/// What an input is, as the client reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A picture.
    Image,
    /// A video.
    Video,
    /// An audio file.
    Audio,
    /// A caption file.
    Captions,
}

impl Kind {
    fn noun(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Video => "video",
            Self::Audio => "audio file",
            Self::Captions => "caption file",
        }
    }

    fn bytes_max(self, limits: &InputLimits) -> u64 {
        match self {
            Self::Image => limits.image_bytes_max,
            Self::Video => limits.video_bytes_max,
            Self::Audio => limits.audio_bytes_max,
            Self::Captions => limits.captions_bytes_max,
        }
    }
}

/// Downloads `url` to `path`, or says why not.
pub async fn fetch(
    outbound: &Outbound,
    limits: &InputLimits,
    kind: Kind,
    url: &str,
    path: &Path,
    stop: &CancellationToken,
) -> Result<(), Halt> {
    let limits = Limits {
        body_max: kind.bytes_max(limits),
        total: limits.download_timeout,
        ..Limits::default()
    };
    for tried in 1.. {
        let result = tokio::select! {
            result = outbound.download(url, path, &limits) => result,
            () = stop.cancelled() => return Err(Halt::Stopped),
        };
        let Err(error) = result else { break };
        if error.class() == Class::Permanent || tried >= TRIES_MAX {
            tracing::info!(kind = kind.noun(), %error, tried, "input not fetched");
            return Err(fault(kind, &error));
        }
        tokio::select! {
            () = tokio::time::sleep(pause(&error, tried)) => {}
            () = stop.cancelled() => return Err(Halt::Stopped),
        }
    }
    Ok(())
}

fn pause(error: &OutboundError, tried: u32) -> Duration {
    match error {
        OutboundError::Status {
            retry_after: Some(wait),
            ..
        } => (*wait).min(RETRY_AFTER_MAX),
        OutboundError::Status { .. }
        | OutboundError::Refused(_)
        | OutboundError::Redirects { .. }
        | OutboundError::Connect(_)
        | OutboundError::Timeout(_)
        | OutboundError::Interrupted(_)
        | OutboundError::TooLarge { .. }
        | OutboundError::File(_) => TRY_AGAIN_AFTER * tried,
    }
}

fn fault(kind: Kind, error: &OutboundError) -> Halt {
    let noun = kind.noun();
    match error {
        OutboundError::Refused(why) => Halt::permanent(
            Code::InputRefused,
            format!("the {noun} was not fetched: {why}; give a public http or https address"),
        ),
        OutboundError::Redirects { .. } => Halt::permanent(
            Code::InputNotFound,
            format!("the {noun}'s address leads to {error}; give its final address"),
        ),
        OutboundError::TooLarge { max } => Halt::permanent(
            Code::InputTooLarge,
            format!("the {noun} is larger than {max} bytes; give a smaller one"),
        ),
        OutboundError::Status { status, .. } if error.class() == Class::Permanent => {
            Halt::permanent(
                Code::InputNotFound,
                format!(
                    "the server answered {status} for the {noun}; check that the address is right and open to everyone"
                ),
            )
        }
        OutboundError::Status { .. }
        | OutboundError::Connect(_)
        | OutboundError::Timeout(_)
        | OutboundError::Interrupted(_) => Halt::transient(
            Code::InputUnreachable,
            format!(
                "the {noun} could not be fetched ({error}); check its server and retry the job"
            ),
        ),
        OutboundError::File(_) => Halt::transient(
            Code::InternalError,
            format!("the worker could not keep the {noun}; the operator has the evidence"),
        ),
    }
}
