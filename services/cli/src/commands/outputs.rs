//! `outputs`: list and delete them.

use crate::args::OutputsCommand;
use crate::client::Client;
use crate::commands::{ask, pages};
use crate::error::CliError;
use crate::output::Output;
use crate::render;
use crate::verdict::Verdict;
use serde_json::json;

/// Does one of the commands.
pub(crate) async fn run(
    client: &Client,
    command: &OutputsCommand,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    match command {
        OutputsCommand::List { id, page } => {
            let answer = pages::read(client, &["jobs", id, "outputs"], Vec::new(), page).await?;
            let look = output.look();
            output.answer(&answer, |page| render::outputs(page, look))?;
        }
        OutputsCommand::Delete { id, yes } => {
            let question = format!("Delete the outputs of {id} from the bucket, for good?");
            if !*yes && !ask::yes(&question, "--yes")? {
                return Ok(Verdict::Unwell);
            }
            client.delete(&["jobs", id, "outputs"]).await?;
            let answer = json!({"id": id, "outputs_deleted": true});
            output.answer(&answer, |_| format!("the outputs of {id} are deleted\n"))?;
        }
    }
    Ok(Verdict::Well)
}
