//! The messages between our own services. Small on purpose: ids, counts and decisions; what is
//! large lies in the bucket. Unknown fields are ignored, new ones have defaults.

use crate::announcement::{Announcement, ItemError};
use crate::event::EventType;
use crate::request::JobRequest;
use jiff::Timestamp;
use photofinish_model::delivery::DeliveryStatus;
use photofinish_model::estimate::Rate;
use photofinish_model::part::Part;
use photofinish_model::sequence;
use photofinish_model::webhook::Cause;
use photofinish_model::{
    AttemptRef, Fault, ItemIndex, JobId, Nonce, Operation, Priority, RunPodId, Tenant,
};
use serde::{Deserialize, Serialize};

/// What comes to the queue `dispatcher.plan`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "snake_case")]
pub enum PlanMessage {
    /// Ingest has admitted a job: run 1.
    JobAccepted(JobAccepted),
    /// Somebody or something wants a run to change.
    JobCommand(JobCommand),
}

/// A job that was admitted, with all that planning needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobAccepted {
    /// The job.
    pub job: JobId,
    /// Whose it is.
    pub tenant: Tenant,
    /// When it was admitted.
    pub accepted_at: Timestamp,
    /// SHA-256 of the body as a canonical JSON value.
    pub body_sha256: String,
    /// The request, or where it lies.
    pub request: RequestRef,
    /// What its work was estimated with when it was admitted: it is planned with the same, so that
    /// the client was told the truth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
}

/// A request, in the message or in the bucket: messages stay under 64 KiB.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestRef {
    /// The canonical request.
    Inline(Box<JobRequest>),
    /// `_job/request-{sha256}.json` holds the canonical request; checked on reading.
    Stored {
        /// SHA-256 of the object.
        sha256: String,
    },
}

/// A command names the run it means and is void when that run is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobCommand {
    /// The job.
    pub job: JobId,
    /// Whose it is.
    pub tenant: Tenant,
    /// The run that is meant; for `retry` the run that has ended.
    pub run: u32,
    /// What is wanted.
    pub command: Command,
}

/// What a command wants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// A person wants the run stopped.
    Cancel,
    /// A person wants a new run for what did not succeed.
    Retry {
        /// When it was asked for: the new run's deadline counts from here.
        accepted_at: Timestamp,
    },
    /// The run's deadline has passed.
    Deadline,
    /// A worker has items that fail in every attempt, and goes on with the others: a job that is
    /// to fail as a whole need not wait for them.
    ItemsFailed {
        /// The attempt.
        attempt: Box<AttemptRef>,
        /// What failed for good.
        errors: Vec<ItemError>,
    },
    /// A message of the run was parked: the run ends with this fault.
    Abandon {
        /// Why.
        fault: Fault,
    },
}

/// A part that waits for a slot (`dispatcher.submit.{priority}.{lane}`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartReady {
    /// The job.
    pub job: JobId,
    /// Whose it is.
    pub tenant: Tenant,
    /// The run, from 1.
    pub run: u32,
    /// The part, from 0.
    pub part: u16,
    /// The attempt that is to be submitted, from 1.
    pub attempt: u16,
    /// How urgently.
    pub priority: Priority,
    /// The part as it stood when this was published, for the case that Redis loses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Box<Part>>,
}

/// An attempt to be watched (`fetcher.watch`); it turns with its `watch` state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartSubmitted {
    /// Which attempt.
    pub attempt: AttemptRef,
    /// RunPod's endpoint.
    pub endpoint: String,
    /// RunPod's id; none when the answer to the submit never came.
    pub runpod_id: Option<RunPodId>,
    /// What is asked for (for events).
    pub operation: Operation,
    /// The places of the items that the attempt was given; their ids could be too long for a message.
    pub items: Vec<ItemIndex>,
    /// When it was posted.
    pub submitted_at: Timestamp,
    /// Seconds of execution after which RunPod ends it.
    pub budget_s: f64,
    /// An item that fails for good ends the job: it is told of at once.
    #[serde(default)]
    pub fails_at_once: bool,
    /// The part as it stood when this was published, for the case that Redis loses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Box<Part>>,
    /// What earlier turns have learnt.
    #[serde(default)]
    pub watch: WatchState,
}

/// What a watch carries from turn to turn.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct WatchState {
    /// RunPod's worker, once one has begun.
    #[serde(default)]
    pub worker_id: Option<String>,
    /// That worker's process.
    #[serde(default)]
    pub boot: Option<String>,
    /// When the attempt was first seen to run.
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    /// Outputs that came by rescue.
    #[serde(default)]
    pub rescued: u32,
    /// Its worker's signals come, so polls may be rare.
    #[serde(default)]
    pub signalled: bool,
    /// Items that the worker was at when it was last heard.
    #[serde(default)]
    pub rendering: Vec<ItemIndex>,
    /// The dispatcher was told of items that fail in every attempt.
    #[serde(default)]
    pub told_failed: bool,
    /// Another worker than RunPod's spoke for the attempt, so nobody knows what it has pushed.
    #[serde(default)]
    pub others: bool,
}

/// An attempt that is over (`dispatcher.outcome`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartFinished {
    /// Which attempt.
    pub attempt: AttemptRef,
    /// RunPod's endpoint.
    pub endpoint: String,
    /// How it ended.
    pub end: AttemptEnd,
    /// Items that failed on the worker.
    pub errors: Vec<ItemError>,
    /// What it cost.
    pub usage: AttemptUsage,
    /// RunPod's worker, if one was seen.
    #[serde(default)]
    pub worker_id: Option<String>,
    /// The places of the items that the attempt was given; empty: not known.
    #[serde(default)]
    pub items: Vec<ItemIndex>,
    /// Items that the worker was at when it was last heard.
    #[serde(default)]
    pub suspects: Vec<ItemIndex>,
    /// The part as it stood when the attempt was submitted, for the case that Redis loses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Box<Part>>,
    /// Its worker's last word was that it began no push, and no other worker spoke; false also
    /// when it is not known.
    #[serde(default)]
    pub nothing_pushed: bool,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum AttemptEnd {
    /// The worker returned a result.
    Completed,
    /// RunPod or the worker called it failed.
    Failed {
        /// What was said.
        reason: String,
    },
    /// RunPod does not know it any more, or ran it twice.
    Lost {
        /// What was seen.
        reason: String,
    },
    /// It waited in RunPod's queue for too long and was taken back: spends no attempt.
    NeverStarted,
    /// The answer to its submit never came, and neither did it: spends no attempt.
    Unknown,
    /// Its run is over.
    RunOver,
}

/// What one attempt cost.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct AttemptUsage {
    /// Execution seconds as RunPod reports them, else as the worker or we saw them.
    pub gpu_seconds: f64,
    /// Seconds the worker waited to be fetched from.
    pub linger_s: f64,
    /// Outputs that came by rescue.
    pub rescued: u32,
}

/// Something the outside may hear of ([`NotifierMessage`]); bodies are built by the notifier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobEvent {
    /// The job.
    pub job: JobId,
    /// Whose it is.
    pub tenant: Tenant,
    /// The run.
    pub run: u32,
    /// What happened.
    pub event: EventType,
    /// Its place among the job's events (`model::sequence`).
    pub sequence: u64,
    /// When it happened.
    pub at: Timestamp,
    /// For `job.progress`: the items that changed, at most 50.
    #[serde(default)]
    pub changed: Vec<ItemIndex>,
}

/// What comes to the queue `notifier.events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum NotifierMessage {
    /// Something is wanted of a webhook endpoint.
    Webhook(WebhookCommand),
    /// Something happened to a job.
    Job(JobEvent),
}

/// What is wanted of a webhook endpoint; `at` tells one wish from another, and a wish that comes again is the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "webhook", rename_all = "snake_case")]
pub enum WebhookCommand {
    /// Send it a test.
    Test {
        /// Whose it is.
        tenant: Tenant,
        /// `whe_…`
        endpoint: String,
        /// When it was asked for.
        at: Timestamp,
    },
    /// Disable it and tell so; void when it was enabled after `at`.
    Disable {
        /// Whose it is.
        tenant: Tenant,
        /// `whe_…`
        endpoint: String,
        /// When that was decided.
        at: Timestamp,
        /// Why.
        cause: Cause,
    },
    /// Send its deliveries again.
    Replay(ReplayWanted),
}

/// Which deliveries of a webhook endpoint are to be sent again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayWanted {
    /// Whose it is.
    pub tenant: Tenant,
    /// `whe_…`
    pub endpoint: String,
    /// Those made at or after this.
    pub since: Timestamp,
    /// And before this.
    pub until: Timestamp,
    /// And of this status.
    pub status: DeliveryStatus,
    /// When it was asked for.
    pub at: Timestamp,
    /// Where the next turn goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// Something that happened to a webhook endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointEvent {
    /// Whose it is.
    pub tenant: Tenant,
    /// `whe_…`
    pub endpoint: String,
    /// `endpoint.test` or `endpoint.disabled`.
    pub event: EventType,
    /// When it happened.
    pub at: Timestamp,
    /// Why it was disabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
}

/// Any event that a receiver can be told of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum AnyEvent {
    /// Of a job.
    Job(JobEvent),
    /// Of a webhook endpoint.
    Endpoint(EndpointEvent),
}

impl AnyEvent {
    /// The event's id: `evt_` and a hash of what it tells.
    pub fn id(&self) -> String {
        match self {
            Self::Job(event) => {
                let kind = event.event.as_str();
                sequence::event_id(&event.job, event.run, kind, event.sequence)
            }
            Self::Endpoint(event) => {
                let (kind, at) = (event.event.as_str(), event.at.as_millisecond());
                sequence::endpoint_event_id(&event.endpoint, kind, at)
            }
        }
    }

    /// Its type.
    pub fn kind(&self) -> EventType {
        match self {
            Self::Job(event) => event.event,
            Self::Endpoint(event) => event.event,
        }
    }

    /// Whose it is.
    pub fn tenant(&self) -> &Tenant {
        match self {
            Self::Job(event) => &event.tenant,
            Self::Endpoint(event) => &event.tenant,
        }
    }

    /// When it happened.
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Job(event) => event.at,
            Self::Endpoint(event) => event.at,
        }
    }

    /// The job, if it is of one.
    pub fn job(&self) -> Option<&JobId> {
        match self {
            Self::Job(event) => Some(&event.job),
            Self::Endpoint(_) => None,
        }
    }
}

/// A delivery that is due (`notifier.deliver`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryDue {
    /// `dlv_…`, a hash of event and receiver.
    pub delivery: String,
    /// The event.
    pub event: AnyEvent,
    /// Who is to get it.
    pub receiver: Receiver,
    /// Tries made so far.
    pub tries: u16,
    /// When a replay was asked for: it begins a new round, and messages of older ones are void.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<Timestamp>,
}

/// Who gets a webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "receiver", rename_all = "snake_case")]
pub enum Receiver {
    /// A webhook endpoint of the tenant: `whe_…`.
    Endpoint {
        /// Its id.
        id: String,
    },
    /// The job's own `webhook_url`, signed with the tenant's own secret.
    JobUrl {
        /// The URL.
        url: String,
    },
}

/// What ingest heard from outside about an attempt (`photofinish.signals`); losing one is harmless.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Signal {
    /// Which attempt.
    pub attempt: AttemptRef,
    /// What was said.
    pub heard: Heard,
}

/// What a signal says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Heard {
    /// The worker's announcement.
    Announcement(Box<Announcement>),
    /// RunPod says that the attempt is over: poll now.
    Completed,
}

impl PartReady {
    /// The name of the part, without its attempt.
    pub fn part_key(&self) -> String {
        format!("{}/{}/{}", self.job, self.run, self.part)
    }

    /// The attempt under a fencing token.
    pub fn with_nonce(&self, nonce: Nonce) -> AttemptRef {
        AttemptRef {
            tenant: self.tenant.clone(),
            job: self.job.clone(),
            run: self.run,
            part: self.part,
            attempt: self.attempt,
            nonce,
        }
    }
}
