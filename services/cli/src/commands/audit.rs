//! `audit`: what operators did.

use crate::args::AuditArgs;
use crate::client::Client;
use crate::commands::pages;
use crate::error::CliError;
use crate::output::Output;
use crate::render;

/// Lists it, newest first.
pub(crate) async fn audit(
    client: &Client,
    args: &AuditArgs,
    output: &mut Output,
) -> Result<(), CliError> {
    let answer = pages::read(client, &["admin", "audit"], Vec::new(), &args.page).await?;
    let look = output.look();
    output.answer(&answer, |page| render::audit(page, look))
}
