//! `dead`: messages that were parked or refused.

use crate::args::DeadCommand;
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
    command: &DeadCommand,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    let look = output.look();
    match command {
        DeadCommand::List { queue, limit } => {
            let limit = limit.map(|limit| limit.to_string());
            let query = pages::query([("queue", queue.as_ref()), ("limit", limit.as_ref())]);
            let answer = client.get(&["admin", "parked"], &query).await?;
            output.answer(&answer, |page| render::parked(page, look))?;
        }
        DeadCommand::Show { id } => {
            let answer = client.get(&["admin", "parked", id], &[]).await?;
            output.answer(&answer, |answer| render::message(answer, look))?;
        }
        DeadCommand::Replay { id } => {
            let path = ["admin", "parked", id, "replay"];
            let answer = client.post(&path, &[], None, None).await?;
            output.answer(&answer, |_| format!("{id} is back where it came from\n"))?;
        }
        DeadCommand::Drop { id, yes } => {
            let question = format!("Throw {id} away, for good?");
            if !*yes && !ask::yes(&question, "--yes")? {
                return Ok(Verdict::Unwell);
            }
            client.delete(&["admin", "parked", id]).await?;
            let answer = json!({"id": id, "dropped": true});
            output.answer(&answer, |_| format!("{id} is thrown away\n"))?;
        }
    }
    Ok(Verdict::Well)
}
