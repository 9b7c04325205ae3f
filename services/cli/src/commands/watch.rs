//! Following a job to its end.
//!
//! Guarantee: polls every half second until the job's run is over; a service that is away for less than
//! [`PATIENCE`] is waited for.

use crate::client::Client;
use crate::error::CliError;
use crate::output::Output;
use crate::render;
use indicatif::{ProgressBar, ProgressStyle};
use photofinish_contract::job::Job;
use photofinish_model::JobStatus;
use serde_json::Value;
use std::time::{Duration, Instant};

/// Between two polls.
const POLL: Duration = Duration::from_millis(500);
/// How long a service may be away.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Whether the job was seen before: one that was accepted a moment ago may not be found yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// It must be there.
    Yes,
    /// It was accepted just now.
    NotYet,
}

/// Follows the job, shows how far it is, and ends with its final status: anything but `completed` is an error.
pub(crate) async fn watch(
    client: &Client,
    id: &str,
    known: Known,
    output: &mut Output,
) -> Result<(), CliError> {
    let bar = bar(output);
    let mut answered = Instant::now();
    let mut last = String::new();
    let (value, job) = loop {
        match client.get(&["jobs", id], &[]).await {
            Ok(value) => {
                answered = Instant::now();
                let job = read(&value)?;
                show(&bar, &job, &mut last, output);
                if job.status.is_final() {
                    break (value, job);
                }
            }
            Err(error) if passes(&error, known) && answered.elapsed() < PATIENCE => {}
            Err(CliError::Unreachable { .. }) if answered.elapsed() >= PATIENCE => {
                let (url, seconds) = (client.base().to_string(), PATIENCE.as_secs());
                return Err(CliError::Gone { url, seconds });
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(POLL).await;
    };
    bar.finish_and_clear();
    output.answer(&value, render::job)?;
    ended(&job)
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

fn passes(error: &CliError, known: Known) -> bool {
    let missing = matches!(error, CliError::Problem(problem) if problem.status == 404);
    error.is_passing() || (missing && known == Known::NotYet)
}

fn bar(output: &Output) -> ProgressBar {
    if !output.bars {
        return ProgressBar::hidden();
    }
    let template = "{elapsed} [{wide_bar}] {pos}/{len} {msg}";
    let style = ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ");
    ProgressBar::new(0).with_style(style)
}

fn show(bar: &ProgressBar, job: &Job, last: &mut String, output: &Output) {
    let progress = &job.progress;
    bar.set_length(u64::from(progress.items_total));
    bar.set_position(u64::from(progress.items_done + progress.items_failed));
    bar.set_message(job.status.as_str());
    let line = format!("{}: {}", job.status.as_str(), render::items(job));
    if line != *last {
        output.note(&line);
        *last = line;
    }
}
