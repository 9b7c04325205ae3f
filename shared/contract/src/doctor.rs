//! What a deployment is told of itself: `GET /v1/admin/doctor`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Everything that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Diagnosis {
    /// Each thing, in the order in which it was looked at.
    pub checks: Vec<Check>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// How it stands.
    pub state: State,
    /// What is there.
    pub found: String,
    /// What to do, unless all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// How a thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// All is well.
    Ok,
    /// It cannot be asked from here: a person has to look.
    Unknown,
    /// Jobs finish, but something is left over or comes late.
    Warning,
    /// Jobs fail or are lost.
    Wrong,
}

impl State {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Wrong => "wrong",
        }
    }
}

impl Check {
    /// A thing that is as it should be.
    pub fn ok(name: &str, found: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            state: State::Ok,
            found: found.into(),
            advice: None,
        }
    }

    /// A thing that is not, and what to do.
    pub fn not(
        name: &str,
        state: State,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            state,
            found: found.into(),
            advice: Some(advice.into()),
        }
    }
}

impl Diagnosis {
    /// True when something is wrong; what is not known or only a warning is not.
    pub fn is_wrong(&self) -> bool {
        self.checks.iter().any(|check| check.state == State::Wrong)
    }
}
