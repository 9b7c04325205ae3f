//! `watch`: a job to its end.
//!
//! Guarantee: follows the job's events where the service has them (resumed after a break), else asks twice a second.
//! What is shown last is what the service answers at the end. A service that is away for less than [`PATIENCE`] is
//! waited for. Ctrl-C ends the watching, not the job.

mod progress;

use crate::client::{Client, Events};
use crate::error::CliError;
use crate::output::Output;
use crate::render;
use photofinish_contract::event::WebhookBody;
use photofinish_contract::job::Job;
use photofinish_model::JobStatus;
use progress::Progress;
use serde_json::Value;
use std::time::{Duration, Instant};

/// Between two questions, where there are no events.
const POLL: Duration = Duration::from_millis(500);
/// How long a service may be away.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Rows that an event can tell: where there are as many, there may be more.
const CHANGED_MAX: usize = 50;

/// Whether the job was seen before: one that was accepted a moment ago may not be found yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// It must be there.
    Yes,
    /// It was accepted just now.
    NotYet,
    /// This run of it was accepted just now: an older one is not its end.
    Run(u64),
}

/// Follows the job, shows how far it is, and ends with its final status: anything but `completed` is an error.
pub(crate) async fn watch(
    client: &Client,
    id: &str,
    known: Known,
    output: &mut Output,
) -> Result<(), CliError> {
    output.follow();
    let mut progress = Progress::new(output);
    let followed = tokio::select! {
        followed = follow(client, id, known, &mut progress, output) => followed,
        _ = tokio::signal::ctrl_c() => Err(CliError::Interrupted { id: id.to_owned() }),
    };
    progress.clear();
    let value = followed?;
    let look = output.look();
    output.answer(&value, |value| render::job(value, look))?;
    ended(&read(&value)?)
}

/// The job at its end.
async fn follow(
    client: &Client,
    id: &str,
    known: Known,
    progress: &mut Progress,
    output: &mut Output,
) -> Result<Value, CliError> {
    let mut changes = Changes::default();
    loop {
        let value = asked(client, id, known).await?;
        let job = read(&value)?;
        if job.status.is_final() && is_of(&job, known) {
            return Ok(value);
        }
        progress.rows(job.outputs.as_deref().unwrap_or_default());
        learn_parts(client, progress, &job).await;
        show(progress, &job, output)?;
        let mut latest = job;
        while let Some(body) = changes.next(client, id).await {
            if body.event.is_final() {
                break;
            }
            // A stream that was just opened tells the whole story again.
            if is_older(&body.data, &latest) {
                continue;
            }
            let changed = body.changed.as_deref().unwrap_or_default();
            progress.rows(changed);
            learn_parts(client, progress, &body.data).await;
            show(progress, &body.data, output)?;
            latest.clone_from(&body.data);
            if changed.len() >= CHANGED_MAX {
                break;
            }
        }
    }
}

/// Shows a bar for each part as soon as the service has planned them; until then, and where it cannot tell, there is one
/// for the job.
async fn learn_parts(client: &Client, progress: &mut Progress, job: &Job) {
    if !progress.wants_parts(job) {
        return;
    }
    let told = client.get(&["jobs", job.id.as_str(), "plan"], &[]).await;
    let plan = told.ok().and_then(|plan| serde_json::from_value(plan).ok());
    if let Some(plan) = plan {
        progress.split(plan);
    }
}

/// Where news come from.
#[derive(Debug, Default)]
enum Changes {
    /// Not asked for yet, or broken off after this event.
    #[default]
    Unknown,
    Broken(Option<String>),
    /// A stream, and the last event that was seen.
    Open(Box<Events>, Option<String>),
    /// The service has no events: it is asked.
    Polled,
}

impl Changes {
    /// The next event; none when the job has to be asked for instead.
    async fn next(&mut self, client: &Client, id: &str) -> Option<WebhookBody> {
        match std::mem::take(self) {
            Self::Unknown => {
                *self = Self::opened(client, id, None).await;
                None
            }
            Self::Broken(last) => {
                tokio::time::sleep(POLL).await;
                *self = Self::opened(client, id, last).await;
                None
            }
            Self::Open(mut events, last) => {
                let Some(event) = events.next().await else {
                    *self = Self::Broken(last);
                    return None;
                };
                *self = Self::Open(events, Some(event.id));
                // One that cannot be read is news all the same.
                serde_json::from_str(&event.data).ok()
            }
            Self::Polled => {
                tokio::time::sleep(POLL).await;
                *self = Self::Polled;
                None
            }
        }
    }

    async fn opened(client: &Client, id: &str, last: Option<String>) -> Self {
        match Events::open(client, id, last.as_deref()).await {
            Ok(Some(events)) => Self::Open(Box::new(events), last),
            Ok(None) => Self::Polled,
            Err(_) => Self::Broken(last),
        }
    }
}

/// The job as the service has it; a service that is away is waited for.
async fn asked(client: &Client, id: &str, known: Known) -> Result<Value, CliError> {
    let begun = Instant::now();
    loop {
        match client.get(&["jobs", id], &[]).await {
            Err(error) if passes(&error, known) && begun.elapsed() < PATIENCE => {
                tokio::time::sleep(POLL).await;
            }
            Err(CliError::Unreachable { .. }) if begun.elapsed() >= PATIENCE => {
                let (url, seconds) = (client.base().to_string(), PATIENCE.as_secs());
                return Err(CliError::Gone { url, seconds });
            }
            answered => return answered,
        }
    }
}

/// `Ok` for a completed job, else the error that tells how it ended.
pub(crate) fn ended(job: &Job) -> Result<(), CliError> {
    match job.status {
        JobStatus::Completed => Ok(()),
        JobStatus::Failed | JobStatus::Cancelled | JobStatus::Accepted | JobStatus::Running => {
            let detail = job
                .error
                .as_ref()
                .map(|fault| format!(": {}", fault.detail));
            Err(CliError::JobEnded {
                id: job.id.to_string(),
                status: job.status,
                detail,
            })
        }
    }
}

/// The answer as a job.
pub(crate) fn read(value: &Value) -> Result<Job, CliError> {
    serde_json::from_value(value.clone()).map_err(|error| CliError::Foreign {
        call: "the job".to_owned(),
        status: 200,
        text: error.to_string(),
    })
}

fn is_of(job: &Job, known: Known) -> bool {
    match known {
        Known::Yes | Known::NotYet => true,
        Known::Run(run) => u64::from(job.run) >= run,
    }
}

/// Whether an event tells of a time before the job was seen like this.
fn is_older(event: &Job, seen: &Job) -> bool {
    let settled = |job: &Job| job.progress.items_done + job.progress.items_failed;
    let begun = |job: &Job| job.status != JobStatus::Accepted;
    (event.run, begun(event), settled(event)) < (seen.run, begun(seen), settled(seen))
}

fn passes(error: &CliError, known: Known) -> bool {
    let missing = matches!(error, CliError::Problem(problem) if problem.status == 404);
    error.is_passing() || (missing && known != Known::Yes)
}

fn show(progress: &mut Progress, job: &Job, output: &mut Output) -> Result<(), CliError> {
    if let Some(line) = progress.show(job) {
        output.note(&line);
        let value = serde_json::to_value(Job {
            outputs: None,
            ..job.clone()
        });
        output.change(&value.unwrap_or_default())?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
