//! `deliveries`: what was sent to whom, what came back, and once more.

use crate::args::{DeliveriesArgs, DeliveriesCommand, DeliveryFilterArgs, ReplayArgs};
use crate::client::Client;
use crate::commands::pages;
use crate::error::CliError;
use crate::output::Output;
use crate::render;
use serde_json::{Value, json};

/// Does one of the commands; without one it lists.
pub(crate) async fn run(
    client: &Client,
    args: &DeliveriesArgs,
    output: &mut Output,
) -> Result<(), CliError> {
    match &args.command {
        None => list(client, &args.filter, output).await,
        Some(DeliveriesCommand::List(filter)) => list(client, filter, output).await,
        Some(DeliveriesCommand::Show { id }) => {
            let answer = client.get(&["deliveries", id], &[]).await?;
            let look = output.look();
            output.answer(&answer, |answer| render::delivery(answer, look))
        }
        Some(DeliveriesCommand::Replay(which)) => replay(client, which, output).await,
    }
}

async fn list(
    client: &Client,
    filter: &DeliveryFilterArgs,
    output: &mut Output,
) -> Result<(), CliError> {
    let query = pages::query([
        ("endpoint", filter.endpoint.as_ref()),
        ("job", filter.job.as_ref()),
        ("status", filter.status.as_ref()),
    ]);
    let answer = pages::read(client, &["deliveries"], query, &filter.page).await?;
    let look = output.look();
    output.answer(&answer, |page| render::deliveries(page, look))
}

async fn replay(client: &Client, which: &ReplayArgs, output: &mut Output) -> Result<(), CliError> {
    if let Some(id) = &which.id {
        let path = ["deliveries", id, "replay"];
        let answer = client.post(&path, &[], None, None).await?;
        return output.answer(&answer, |_| {
            format!(
                "{id} is delivered again; `photofinish deliveries show {id}` shows how it went\n"
            )
        });
    }
    let mut body = json!({"endpoint": which.endpoint, "since": which.since});
    for (name, value) in [("until", &which.until), ("status", &which.status)] {
        if let Some(value) = value {
            body[name] = json!(value);
        }
    }
    let answer = client.send(&["deliveries", "replay"], &body).await?;
    output.answer(&answer, |answer: &Value| {
        let least = if answer["more"] == true {
            "at least "
        } else {
            ""
        };
        format!(
            "{least}{} deliveries are on their way again\n",
            answer["replayed"]
        )
    })
}
