//! The job request in its canonical form: aliases resolved, defaults filled in, URLs repaired,
//! every rule of the contract kept. It is made by [`parse`] alone.

mod parse;
pub mod schema;

pub use parse::{RequestFault, parse};

use photofinish_model::plan::ItemWork;
use photofinish_model::{OnItemError, Operation, Priority};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A request body is at most this many bytes.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Items of one img2vid job.
pub const ITEMS_MAX: usize = 1000;
/// `metadata` as JSON is at most this many bytes.
pub const METADATA_BYTES_MAX: usize = 16 * 1024;
/// The item id of the one output of `caption` and `addaudio`.
pub const VIDEO_ITEM: &str = "video";

/// A job as a client asked for it, made canonical.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRequest {
    /// What to do, with the fields of that operation.
    #[serde(flatten)]
    pub task: Task,
    /// An extra receiver for this job alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_url: Option<String>,
    /// How urgently.
    #[serde(default)]
    pub priority: Priority,
    /// Seconds from the acceptance of the run to its deadline, 1 to 86400.
    pub deadline_s: u32,
    /// The client's own data, echoed in every status and event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Value>>,
}

/// The operation and its own fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "operation", rename_all = "lowercase")]
pub enum Task {
    /// Images to Ken Burns clips.
    Img2vid(Img2vid),
    /// Captions burnt into a video.
    Caption(Caption),
    /// A video fitted to an audio track.
    Addaudio(Addaudio),
}

/// The fields of `img2vid`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Img2vid {
    /// Frames per second, 1 to 120.
    pub frame_rate: f64,
    /// Pixels, even, 64 to 3840.
    pub width: u32,
    /// Pixels, even, 64 to 3840.
    pub height: u32,
    /// How a picture of another shape is fitted.
    pub fit: Fit,
    /// What a failed item means.
    pub on_item_error: OnItemError,
    /// The items, in order.
    pub images: Vec<Image>,
}

/// One picture of an `img2vid` job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// Unique in the job.
    pub id: String,
    /// Where the picture is.
    pub image_url: String,
    /// Seconds, 0.1 to 600.
    pub duration_s: f64,
    /// The camera's way over the picture (the job's, unless the image has its own).
    pub motion: Motion,
}

/// How a picture of another shape is fitted into the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    /// Fill the frame, crop what is over.
    #[default]
    Cover,
    /// Show everything, with bars.
    Contain,
    /// Distort to the frame's shape, as the old system did.
    Stretch,
}

/// The camera's way over a picture.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Motion {
    /// 1.0 to 1.324 about the centre.
    #[default]
    ZoomIn,
    /// 1.324 to 1.0 about the centre.
    ZoomOut,
    /// The view moves to the left.
    PanLeft,
    /// The view moves to the right.
    PanRight,
    /// The view moves up.
    PanUp,
    /// The view moves down.
    PanDown,
    /// No motion.
    Still,
    /// From one view to another, in a straight line.
    Path {
        /// The first frame's view.
        from: View,
        /// The last frame's view.
        to: View,
    },
}

/// What the camera sees at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// 1 to 4.
    pub zoom: f64,
    /// The centre of the view, 0 to 1 from the left.
    pub x: f64,
    /// The centre of the view, 0 to 1 from the top.
    pub y: f64,
}

/// The fields of `caption`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Caption {
    /// The video.
    pub url_video: String,
    /// The captions, SubRip.
    pub url_srt: String,
    /// How they look.
    #[serde(default)]
    pub style: CaptionStyle,
}

/// How captions look; every field has a default of the renderer's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct CaptionStyle {
    /// The font family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub font: Option<String>,
    /// Percent of the video's height, default 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<f64>,
    /// `#rrggbb` or `#rrggbbaa`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub color: Option<String>,
    /// `#rrggbb` or `#rrggbbaa`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outline_color: Option<String>,
    /// Percent of the text's size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outline_width: Option<f64>,
    /// `#rrggbb` or `#rrggbbaa`: a box behind the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub background: Option<String>,
    /// Bold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bold: Option<bool>,
    /// Italic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub italic: Option<bool>,
    /// All in capitals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uppercase: Option<bool>,
    /// Where the text stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// Percent of the video's height between text and edge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
}

/// The nine places of captions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Position {
    TopLeft,
    TopCenter,
    TopRight,
    MiddleLeft,
    MiddleCenter,
    MiddleRight,
    BottomLeft,
    #[default]
    BottomCenter,
    BottomRight,
}

/// The fields of `addaudio`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Addaudio {
    /// The video.
    pub url_video: String,
    /// The audio it is fitted to.
    pub url_audio: String,
    /// How its time is changed.
    #[serde(default)]
    pub timing: Timing,
}

/// How a video's time is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Timing {
    /// New timestamps where that gives a sound file, else a new encoding.
    #[default]
    Auto,
    /// Always a new encoding.
    Reencode,
}

/// Frames of a clip: `round(duration × rate)`, at least one. Decided here and used everywhere.
pub fn frame_count(duration_s: f64, frame_rate: f64) -> u32 {
    (duration_s * frame_rate).round().max(1.0) as u32
}

impl JobRequest {
    /// The canonical name of the operation.
    pub fn operation(&self) -> Operation {
        match self.task {
            Task::Img2vid(_) => Operation::Img2vid,
            Task::Caption(_) => Operation::Caption,
            Task::Addaudio(_) => Operation::Addaudio,
        }
    }

    /// What an item that fails for good means for the job.
    pub fn on_item_error(&self) -> OnItemError {
        match &self.task {
            Task::Img2vid(task) => task.on_item_error,
            Task::Caption(_) | Task::Addaudio(_) => OnItemError::Fail,
        }
    }

    /// The work in each item, in order. What is in a video nobody knows before it is fetched.
    pub fn works(&self) -> Vec<ItemWork> {
        match &self.task {
            Task::Img2vid(task) => (0..)
                .zip(&task.images)
                .map(|(index, image)| ItemWork {
                    index,
                    frames: frame_count(image.duration_s, task.frame_rate),
                    frame_pixels: task.width.saturating_mul(task.height),
                })
                .collect(),
            Task::Caption(_) | Task::Addaudio(_) => vec![ItemWork {
                index: 0,
                frames: 0,
                frame_pixels: 0,
            }],
        }
    }

    /// The items' ids in order; one, `video`, for `caption` and `addaudio`.
    pub fn item_ids(&self) -> Vec<String> {
        match &self.task {
            Task::Img2vid(task) => task.images.iter().map(|image| image.id.clone()).collect(),
            Task::Caption(_) | Task::Addaudio(_) => vec![VIDEO_ITEM.to_owned()],
        }
    }
}
