//! `list`: jobs, newest first.

use crate::args::ListArgs;
use crate::client::Client;
use crate::commands::pages;
use crate::error::CliError;
use crate::output::Output;
use crate::render;

/// Lists the jobs that the filters leave.
pub(crate) async fn list(
    client: &Client,
    filter: &ListArgs,
    output: &mut Output,
) -> Result<(), CliError> {
    let mut query = pages::query([
        ("status", filter.status.as_ref()),
        ("operation", filter.operation.as_ref()),
        ("created_after", filter.created_after.as_ref()),
        ("created_before", filter.created_before.as_ref()),
    ]);
    let metadata = filter.metadata.iter();
    query.extend(metadata.map(|(key, value)| (format!("metadata.{key}"), value.clone())));
    let answer = pages::read(client, &["jobs"], query, &filter.page).await?;
    let look = output.look();
    output.answer(&answer, |page| render::jobs(page, look))
}
