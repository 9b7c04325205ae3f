//! What can be asked for, and how urgently.

use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// The operation of a job, under its canonical name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// Burn captions into a video.
    Caption,
    /// Turn images into Ken Burns clips.
    Img2vid,
    /// Fit a video to an audio track.
    Addaudio,
}

impl Operation {
    /// The canonical name, as in routing keys.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Caption => "caption",
            Self::Img2vid => "img2vid",
            Self::Addaudio => "addaudio",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which waiting part goes first.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    Default,
    ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Before everything else.
    High,
    /// The default.
    #[default]
    Normal,
    /// When nothing else waits.
    Low,
}

impl Priority {
    /// All priorities, most urgent first.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    /// The name, as in queue names.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
