//! `get`: one job.

use crate::client::Client;
use crate::error::CliError;
use crate::output::Output;
use crate::render;

/// Shows a job.
pub(crate) async fn get(client: &Client, id: &str, output: &mut Output) -> Result<(), CliError> {
    let answer = client.get(&["jobs", id], &[]).await?;
    let look = output.look();
    output.answer(&answer, |answer| render::job(answer, look))
}
