//! Jobs, one call each.

use crate::args::{ListArgs, SubmitArgs};
use crate::client::Client;
use crate::commands::watch::{self, Known};
use crate::error::CliError;
use crate::output::Output;
use crate::render;
use serde_json::Value;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Submits a request; with `--watch` follows the job to its end.
pub(crate) async fn submit(
    client: &Client,
    args: &SubmitArgs,
    output: &mut Output,
) -> Result<(), CliError> {
    let body = request(&args.file)?;
    let key = args.idempotency_key.as_deref();
    let answer = client.post(&["jobs"], &[], Some(body), key).await?;
    if !args.watch {
        return output.answer(&answer, render::job);
    }
    let id = answer["id"].as_str().unwrap_or_default();
    output.note(&format!("{id} accepted"));
    watch::watch(client, id, Known::NotYet, output).await
}

/// Says what a request would cost.
pub(crate) async fn estimate(
    client: &Client,
    file: &Path,
    output: &mut Output,
) -> Result<(), CliError> {
    let dry = [("dry_run".to_owned(), "true".to_owned())];
    let answer = client
        .post(&["jobs"], &dry, Some(request(file)?), None)
        .await?;
    output.answer(&answer, render::pairs)
}

/// Shows a job.
pub(crate) async fn get(client: &Client, id: &str, output: &mut Output) -> Result<(), CliError> {
    let answer = client.get(&["jobs", id], &[]).await?;
    output.answer(&answer, render::job)
}

/// Lists jobs.
pub(crate) async fn list(
    client: &Client,
    filter: &ListArgs,
    output: &mut Output,
) -> Result<(), CliError> {
    let limit = filter.limit.map(|limit| limit.to_string());
    let mut query = query([
        ("status", filter.status.as_ref()),
        ("operation", filter.operation.as_ref()),
        ("created_after", filter.created_after.as_ref()),
        ("created_before", filter.created_before.as_ref()),
        ("limit", limit.as_ref()),
        ("cursor", filter.cursor.as_ref()),
    ]);
    query.extend(
        filter
            .metadata
            .iter()
            .map(|(key, value)| (format!("metadata.{key}"), value.clone())),
    );
    let answer = client.get(&["jobs"], &query).await?;
    output.answer(&answer, render::jobs)
}

/// Asks for a job to be stopped.
pub(crate) async fn cancel(client: &Client, id: &str, output: &mut Output) -> Result<(), CliError> {
    let answer = client.delete(&["jobs", id]).await?;
    output.answer(&answer, |answer| {
        job_or(answer, &format!("{id} is being cancelled\n"))
    })
}

/// Asks for a new run of what did not succeed.
pub(crate) async fn retry(client: &Client, id: &str, output: &mut Output) -> Result<(), CliError> {
    let answer = client.post(&["jobs", id, "retry"], &[], None, None).await?;
    output.answer(&answer, |answer| {
        job_or(answer, &format!("{id} is being retried\n"))
    })
}

/// The filters that are set.
pub(crate) fn query<'a>(
    filters: impl IntoIterator<Item = (&'static str, Option<&'a String>)>,
) -> Vec<(String, String)> {
    let set = filters
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    set.map(|(name, value)| (name.to_owned(), value.clone()))
        .collect()
}

fn job_or(answer: &Value, otherwise: &str) -> String {
    if answer["status"].is_string() {
        render::job(answer)
    } else {
        otherwise.to_owned()
    }
}

/// The request as it lies in the file: checked to be JSON, sent as it is.
fn request(file: &Path) -> Result<Vec<u8>, CliError> {
    let mut body = Vec::new();
    let standard_input = file == Path::new("-");
    let (path, read) = if standard_input {
        let read = std::io::stdin().lock().read_to_end(&mut body).map(drop);
        (PathBuf::from("standard input"), read)
    } else {
        (
            file.to_owned(),
            std::fs::read(file).map(|bytes| body = bytes),
        )
    };
    if let Err(source) = read {
        return Err(CliError::Request { path, source });
    }
    match serde_json::from_slice::<Value>(&body) {
        Ok(_) => Ok(body),
        Err(source) => Err(CliError::NotJson { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_json_is_refused_here_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("job.json");
        std::fs::write(&path, "{\"operation\": }").unwrap();
        let error = request(&path).unwrap_err();
        assert_eq!(error.exit_code(), 64);
        let missing = request(&dir.path().join("none.json")).unwrap_err();
        assert_eq!(missing.exit_code(), 64);
        std::fs::write(&path, "{}").unwrap();
        assert_eq!(request(&path).unwrap(), b"{}");
    }
}
