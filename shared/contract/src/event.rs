//! Events as the outside reads them: webhook bodies and CloudEvents.

use crate::job::{Job, OutputRow};
use jiff::Timestamp;
use photofinish_model::{JobStatus, Operation, Tenant};
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

macro_rules! event_types {
    // `tt` and not `literal`, which utoipa could not read.
    ($($(#[$doc:meta])* $variant:ident => $text:tt),+ $(,)?) => {
        /// The types of events.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
        pub enum EventType { $($(#[$doc])* #[serde(rename = $text)] $variant,)+ }

        impl EventType {
            /// Every type there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The type on the wire.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
    };
}

event_types! {
    /// A run was accepted.
    JobAccepted => "job.accepted",
    /// Its first worker began.
    JobStarted => "job.started",
    /// Items were settled; opt-in.
    JobProgress => "job.progress",
    /// The run ended well.
    JobCompleted => "job.completed",
    /// The run ended by a fault.
    JobFailed => "job.failed",
    /// The run ended by a person.
    JobCancelled => "job.cancelled",
    /// A test that a person asked for.
    EndpointTest => "endpoint.test",
    /// A webhook endpoint was disabled.
    EndpointDisabled => "endpoint.disabled",
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl EventType {
    /// The event that a final status is told by; none for the other two.
    pub fn for_final(status: JobStatus) -> Option<Self> {
        match status {
            JobStatus::Completed => Some(Self::JobCompleted),
            JobStatus::Failed => Some(Self::JobFailed),
            JobStatus::Cancelled => Some(Self::JobCancelled),
            JobStatus::Accepted | JobStatus::Running => None,
        }
    }

    /// True for the three that end a run.
    pub fn is_final(self) -> bool {
        match self {
            Self::JobCompleted | Self::JobFailed | Self::JobCancelled => true,
            Self::JobAccepted
            | Self::JobStarted
            | Self::JobProgress
            | Self::EndpointTest
            | Self::EndpointDisabled => false,
        }
    }

    /// The last word of the type, as in routing keys.
    pub fn last_word(self) -> &'static str {
        self.as_str().rsplit('.').next().unwrap_or_default()
    }

    /// The routing key on `photofinish.events`: `<tenant>.job.<operation>.<event>`.
    pub fn routing_key(self, tenant: &Tenant, operation: Operation) -> String {
        format!("{tenant}.job.{operation}.{}", self.last_word())
    }
}

/// The body of a webhook.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WebhookBody {
    /// The event's type.
    #[serde(rename = "type")]
    pub event: EventType,
    /// When it happened.
    pub timestamp: Timestamp,
    /// Grows with each event of a job.
    pub sequence: u64,
    /// The job.
    pub data: Job,
    /// For `job.progress`: the rows that changed, at most 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<Vec<OutputRow>>,
}

/// The same as a CloudEvents 1.0 structured message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CloudEvent {
    /// `1.0`.
    pub specversion: String,
    /// The event's id.
    pub id: String,
    /// `/photofinish/{tenant}`.
    pub source: String,
    /// The event's type.
    #[serde(rename = "type")]
    pub event: EventType,
    /// The job's id.
    pub subject: String,
    /// When it happened.
    pub time: Timestamp,
    /// Grows with each event of a job.
    pub sequence: String,
    /// `application/json`.
    pub datacontenttype: String,
    /// The job.
    pub data: CloudEventData,
}

/// The data of a [`CloudEvent`]: the job. An array is no CloudEvents attribute, so what stands beside the job in a
/// webhook stands in it here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CloudEventData {
    /// The job.
    #[serde(flatten)]
    pub job: Job,
    /// For `job.progress`: the rows that changed, at most 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<Vec<OutputRow>>,
}
