//! `retry`: a new run of what did not succeed.

use crate::client::Client;
use crate::commands::watch::{self, Known};
use crate::error::CliError;
use crate::output::Output;

/// Asks for it; with `--watch` follows it.
pub(crate) async fn retry(
    client: &Client,
    id: &str,
    follow: bool,
    output: &mut Output,
) -> Result<(), CliError> {
    let answer = client.post(&["jobs", id, "retry"], &[], None, None).await?;
    if follow {
        let run = answer["run"].as_u64().unwrap_or_default();
        output.note(&format!("{id} is being retried, run {run}"));
        return watch::watch(client, id, Known::Run(run), output).await;
    }
    output.answer(&answer, |answer| {
        format!("{id} is being retried, run {}\n", answer["run"])
    })
}
