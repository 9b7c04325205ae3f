//! `estimate`: what a request would cost.

use crate::args::EstimateArgs;
use crate::client::Client;
use crate::commands::request;
use crate::error::CliError;
use crate::output::Output;
use crate::render;

/// Asks; nothing is run, and local files are not uploaded for it.
pub(crate) async fn estimate(
    client: &Client,
    args: &EstimateArgs,
    output: &mut Output,
) -> Result<(), CliError> {
    let mut draft = request::read(&args.request)?;
    request::stand_ins(&mut draft);
    let body = draft.body.to_string().into_bytes();
    let dry = [("dry_run".to_owned(), "true".to_owned())];
    let answer = client.post(&["jobs"], &dry, Some(body), None).await?;
    let look = output.look();
    output.answer(&answer, |plan| render::plan(plan, look))
}
