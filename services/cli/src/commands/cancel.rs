//! `cancel`: asks for a job to be stopped.

use crate::client::Client;
use crate::error::CliError;
use crate::output::Output;

/// Asks; the job is cancelled when its workers have been told.
pub(crate) async fn cancel(client: &Client, id: &str, output: &mut Output) -> Result<(), CliError> {
    let answer = client.delete(&["jobs", id]).await?;
    output.answer(&answer, |_| format!("{id} is being cancelled\n"))
}
