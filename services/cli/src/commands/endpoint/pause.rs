//! Pausing an endpoint in Photofinish itself, with an operator's key: RunPod is not told.

use crate::client::Client;
use crate::error::CliError;
use crate::output::Output;
use crate::render;
use serde_json::json;

/// Lists the endpoints that the service uses.
pub(crate) async fn list(client: &Client, output: &mut Output) -> Result<(), CliError> {
    let answer = client.get(&["admin", "endpoints"], &[]).await?;
    let look = output.look();
    output.answer(&answer, |page| render::runpod_endpoints(page, look))
}

/// Gives an endpoint no new attempts, or gives it some again.
pub(crate) async fn pause(
    client: &Client,
    id: &str,
    paused: bool,
    output: &mut Output,
) -> Result<(), CliError> {
    let change = json!({"paused": paused});
    let answer = client.patch(&["admin", "endpoints", id], &change).await?;
    output.answer(&answer, |_| {
        if paused {
            format!("{id} gets no new attempts; those that run finish\n")
        } else {
            format!("{id} gets attempts again\n")
        }
    })
}
