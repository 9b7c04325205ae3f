//! Deleting the endpoint, when its queue is empty or at once.

use std::time::{Duration, Instant};

use photofinish_runpod::client::Health;
use serde_json::json;

use super::site::Site;
use crate::args::DeleteArgs;
use crate::commands::ask;
use crate::endpoint_error::EndpointError;
use crate::error::CliError;
use crate::output::Output;
use crate::verdict::Verdict;

/// Asks for its name, waits for its jobs, and deletes it. RunPod cancels what is left.
pub(crate) async fn delete(
    site: &Site,
    args: &DeleteArgs,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    let endpoint = site.endpoint().await?;
    let (id, name) = (&endpoint.id, &endpoint.spec.name);
    if let Some(typed) = &args.confirm {
        check(name, typed)?;
    }
    let health = match site.data.health(id).await {
        Ok(health) => Some(health),
        // Whatever is there is to be given up: not knowing what is no hindrance.
        Err(error) if args.now => {
            output.note(&format!("{name} ({id}): its jobs are not known: {error}"));
            None
        }
        Err(error) => return Err(error.into()),
    };
    if let Some(health) = &health {
        output.note(&format!("{name} ({id}): {}", left(health)));
    }
    if args.confirm.is_none() {
        let question = format!("Type {name} to delete it with its queue:");
        check(name, &ask::name(&question, "--confirm NAME")?)?;
    }
    let cancelled = if args.now {
        health.map(|health| health.in_flight())
    } else {
        drain(site, id, args, output).await?;
        Some(0)
    };
    // Looked up again after an answer that was lost: deleting twice is harmless.
    match site.management.delete_endpoint(id).await {
        Err(error) if error.is_unknown() => site.management.delete_endpoint(id).await?,
        other => other?,
    }
    let answer = json!({"id": id, "name": name, "deleted": true, "jobs_cancelled": cancelled});
    output.answer(&answer, |_| match cancelled {
        Some(0) => format!("{name} ({id}) is deleted\n"),
        Some(count) => format!("{name} ({id}) is deleted; {count} job(s) were cancelled\n"),
        None => format!("{name} ({id}) is deleted; RunPod cancels what was left of its jobs\n"),
    })?;
    Ok(Verdict::Well)
}

fn check(name: &str, typed: &str) -> Result<(), EndpointError> {
    if typed == name {
        return Ok(());
    }
    let (name, typed) = (name.to_owned(), typed.to_owned());
    Err(EndpointError::WrongName { name, typed })
}

/// Waits until no job is queued or running. It does not keep others from submitting more.
async fn drain(site: &Site, id: &str, args: &DeleteArgs, output: &Output) -> Result<(), CliError> {
    let until = Instant::now() + Duration::from_secs(args.timeout_s);
    let mut last = String::new();
    loop {
        let told = match site.data.health(id).await {
            Ok(health) if health.in_flight() == 0 => return Ok(()),
            Ok(health) => left(&health),
            Err(error) if error.is_transient() => format!("{error}; asking again"),
            Err(error) => return Err(error.into()),
        };
        if told != last {
            output.note(&format!("waiting: {told}"));
            last = told;
        }
        if Instant::now() >= until {
            return Err(EndpointError::NotDrained {
                seconds: args.timeout_s,
                state: last,
            }
            .into());
        }
        tokio::time::sleep(Duration::from_millis(args.poll_ms)).await;
    }
}

fn left(health: &Health) -> String {
    match health.in_flight() {
        0 => "no job is queued or running".to_owned(),
        _ => format!(
            "{} job(s) queued, {} running",
            health.jobs.in_queue, health.jobs.in_progress
        ),
    }
}
