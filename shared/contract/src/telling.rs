//! Events as they are told: which there are of a job, and what their bodies say.
//!
//! The guarantee: the same in webhooks, on AMQP and in event streams, because all three are made here. Everything is
//! pure: whoever tells reads the job and signs the URLs.

use crate::event::{EventType, WebhookBody};
use crate::job::{Job, OUTPUTS_IN_EVENT_MAX, OutputRow, ViewSettings};
use crate::messages::JobEvent;
use jiff::Timestamp;
use photofinish_model::sequence::{Moment, event_id, sequence};
use photofinish_model::{ItemRow, ItemState, JobSnapshot, JobStatus, Usage};

/// Changed items that one event names at most.
pub const CHANGED_MAX: usize = 50;

/// The id of an event.
pub fn id(event: &JobEvent) -> String {
    event_id(&event.job, event.run, event.event.as_str(), event.sequence)
}

/// The events of a run that its job's own record tells of: that it was accepted, that it began, how it ended.
pub fn known(job: &JobSnapshot) -> Vec<JobEvent> {
    let event = |event, moment, at| JobEvent {
        job: job.job.clone(),
        tenant: job.tenant.clone(),
        run: job.run,
        event,
        sequence: sequence(job.run, moment),
        at,
        changed: Vec::new(),
    };
    let accepted = event(EventType::JobAccepted, Moment::Accepted, job.created_at);
    let started = job
        .started_at
        .map(|at| event(EventType::JobStarted, Moment::Started, at));
    let ended = EventType::for_final(job.status)
        .zip(job.finished_at)
        .map(|(kind, at)| event(kind, Moment::Final, at));
    [Some(accepted), started, ended]
        .into_iter()
        .flatten()
        .collect()
}

/// The job as it was when the event happened, as far as the event says it: an event that is told late does not tell
/// of what came after it.
pub fn as_of(event: EventType, mut job: JobSnapshot) -> JobSnapshot {
    let status = match event {
        EventType::JobAccepted => JobStatus::Accepted,
        EventType::JobStarted | EventType::JobProgress => JobStatus::Running,
        EventType::JobCompleted
        | EventType::JobFailed
        | EventType::JobCancelled
        | EventType::EndpointTest
        | EventType::EndpointDisabled => return job,
    };
    job.status = status;
    job.finished_at = None;
    job.error = None;
    if status == JobStatus::Accepted {
        job.started_at = None;
        job.usage = Usage::default();
        for row in &mut job.items {
            let carried = match &row.state {
                ItemState::Stored(output) => output.run < job.run,
                ItemState::Pending
                | ItemState::Rendering
                | ItemState::Ready
                | ItemState::Failed(_) => false,
            };
            if !carried {
                row.state = ItemState::Pending;
            }
        }
    }
    job
}

/// The rows whose outputs an event shows, so that their URLs can be signed before its body is made. `job` is as of
/// the event.
pub fn shown<'a>(event: &JobEvent, job: &'a JobSnapshot) -> Vec<&'a ItemRow> {
    match event.event {
        EventType::JobProgress => event
            .changed
            .iter()
            .filter_map(|index| job.items.get(usize::from(*index)))
            .take(CHANGED_MAX)
            .collect(),
        EventType::JobCompleted | EventType::JobFailed | EventType::JobCancelled
            if job.items.len() <= OUTPUTS_IN_EVENT_MAX =>
        {
            job.items.iter().collect()
        }
        EventType::JobCompleted
        | EventType::JobFailed
        | EventType::JobCancelled
        | EventType::JobAccepted
        | EventType::JobStarted
        | EventType::EndpointTest
        | EventType::EndpointDisabled => Vec::new(),
    }
}

/// The job as an event carries it. `job` is as of the event; `sign` gives a presigned URL and its end for a key.
pub fn view(
    event: EventType,
    job: &JobSnapshot,
    settings: ViewSettings<'_>,
    sign: impl Fn(&str) -> Option<(String, Timestamp)>,
) -> Job {
    if event.is_final() && job.items.len() <= OUTPUTS_IN_EVENT_MAX {
        Job::with_outputs(job, settings, sign)
    } else {
        Job::without_outputs(job, settings)
    }
}

/// The body of a webhook, and of an event in a stream. `job` is as of the event.
pub fn body(
    event: &JobEvent,
    job: &JobSnapshot,
    settings: ViewSettings<'_>,
    sign: impl Fn(&str) -> Option<(String, Timestamp)>,
) -> WebhookBody {
    let changed = (event.event == EventType::JobProgress).then(|| {
        let rows = shown(event, job).into_iter();
        rows.map(|row| OutputRow::of(row, &sign)).collect()
    });
    WebhookBody {
        event: event.event,
        timestamp: event.at,
        sequence: event.sequence,
        data: view(event.event, job, settings, sign),
        changed,
    }
}
