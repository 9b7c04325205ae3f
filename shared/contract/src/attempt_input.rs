//! What the dispatcher gives a worker: the `input` of a RunPod job.

use crate::request::{CaptionStyle, Fit, Motion, Timing};
use photofinish_model::{AttemptRef, ItemIndex};
use serde::{Deserialize, Serialize};

/// The form of this input; a worker refuses one that it does not know.
pub const ATTEMPT_INPUT_VERSION: u16 = 1;

/// The work of one attempt, and how its outputs leave the worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttemptInput {
    /// [`ATTEMPT_INPUT_VERSION`]; also tells our jobs from strangers'.
    pub photofinish: u16,
    /// Which attempt this is.
    pub attempt: AttemptRef,
    /// What to render.
    pub work: Work,
    /// The bearer token of the worker's output server for this attempt.
    pub output_token: String,
    /// Where announcements are posted as they come, if the deployment has a public address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal_url: Option<String>,
    /// Seconds from take until RunPod ends the job, by the monotonic clock.
    pub budget_s: f64,
    /// Seconds that the worker waits to be fetched from, after the later of the last output ready
    /// and the last byte served.
    pub linger_s: f64,
    /// Seconds after the first announcement within which somebody must have come with the token,
    /// or the worker pushes what is ready and does not linger.
    pub first_contact_s: f64,
    /// Seconds before the end of the budget at which rendering stops and what is ready is pushed.
    pub rescue_reserve_s: f64,
    /// Where each output is pushed to when nobody fetched it; a presigned PUT for each item.
    pub rescue: Vec<RescueTarget>,
    /// A presigned PUT for the report: the newest announcement, put again after each push.
    pub report_put_url: String,
    /// W3C trace context of the submit: the job's trace goes on in the worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// See `traceparent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracestate: Option<String>,
}

/// A presigned PUT for one item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RescueTarget {
    /// The item's place in the request.
    pub index: ItemIndex,
    /// The presigned URL; the PUT carries no headers but Content-Length.
    pub put_url: String,
}

/// What to render, with everything resolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "operation", rename_all = "lowercase")]
pub enum Work {
    /// One clip for each picture.
    Img2vid {
        /// Frames per second.
        frame_rate: f64,
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
        /// How pictures of another shape are fitted.
        fit: Fit,
        /// The pictures of this part.
        items: Vec<PictureItem>,
    },
    /// One video with captions; item `video`, index 0.
    Caption {
        /// The video.
        url_video: String,
        /// The captions.
        url_srt: String,
        /// How they look.
        style: CaptionStyle,
    },
    /// One video fitted to an audio track; item `video`, index 0.
    Addaudio {
        /// The video.
        url_video: String,
        /// The audio.
        url_audio: String,
        /// How the video's time is changed.
        timing: Timing,
    },
}

/// One picture of a part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PictureItem {
    /// The item's place in the request.
    pub index: ItemIndex,
    /// The client's id.
    pub item: String,
    /// Where the picture is.
    pub image_url: String,
    /// Frames of the clip.
    pub frames: u32,
    /// The camera's way.
    pub motion: Motion,
}
