//! The command line `photofinish`: submits jobs, follows them, fetches their outputs, makes tenants and keys, and
//! keeps the RunPod endpoint as its file says.
//!
//! Nouns: [`Args`] is what was typed; a *client* makes one HTTP call and reads its answer or its problem document;
//! a *command* is one file under `commands`; *render* turns answers into tables, purely.
//!
//! Guarantee: everything goes through the public HTTP API (contract, section 2), and `endpoint` through RunPod's, so
//! nothing here needs credentials of RabbitMQ, Redis or S3. `--json` prints the service's own answer. Exit codes: 0 it
//! went well, 1 the job failed, the service refused or `doctor` found something wrong, 2 `endpoint diff` found a difference, 3 the service cannot be
//! reached, 64 the command was wrong.
//!
//! Not for: deciding anything. What is allowed, the service says.

mod args;
mod client;
mod commands;
mod endpoint_args;
mod endpoint_error;
mod error;
mod output;
mod render;
mod verdict;

pub use args::Args;
pub use error::USAGE;

use args::{Command, KeysCommand, TenantsCommand, WebhooksCommand};
use client::Client;
use error::CliError;
use output::Output;
use std::process::ExitCode;
use verdict::Verdict;

/// Does what was typed; says on standard error what went wrong and what to do next.
pub async fn run(args: Args) -> ExitCode {
    let mut output = Output::standard(args.json);
    let done = dispatch(&args, &mut output).await;
    match done {
        Ok(verdict) => verdict.exit_code(),
        Err(error) => {
            Output::complain(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

async fn dispatch(args: &Args, output: &mut Output) -> Result<Verdict, CliError> {
    let done = match &args.command {
        Command::Doctor => {
            return commands::doctor::doctor(&args.operator_client()?, output).await;
        }
        Command::Endpoint(args) => return commands::endpoint::run(args, output).await,
        Command::Submit(what) => commands::jobs::submit(&args.tenant_client()?, what, output).await,
        Command::Estimate { file } => {
            commands::jobs::estimate(&args.tenant_client()?, file, output).await
        }
        Command::Get { id } => commands::jobs::get(&args.tenant_client()?, id, output).await,
        Command::List(filter) => commands::jobs::list(&args.tenant_client()?, filter, output).await,
        Command::Watch { id } => {
            let client = args.tenant_client()?;
            commands::watch::watch(&client, id, commands::watch::Known::Yes, output).await
        }
        Command::Cancel { id } => commands::jobs::cancel(&args.tenant_client()?, id, output).await,
        Command::Retry { id } => commands::jobs::retry(&args.tenant_client()?, id, output).await,
        Command::Fetch { id, out } => {
            commands::fetch::fetch(&args.tenant_client()?, id, out, output).await
        }
        Command::Deliveries(filter) => {
            commands::webhooks::deliveries(&args.tenant_client()?, filter, output).await
        }
        Command::Webhooks { command } => webhooks(&args.tenant_client()?, command, output).await,
        Command::Tenants {
            command: TenantsCommand::Create { name },
        } => commands::admin::create_tenant(&args.operator_client()?, name, output).await,
        Command::Keys {
            command: KeysCommand::Create { tenant },
        } => commands::admin::create_key(&args.operator_client()?, tenant, output).await,
    };
    done.map(|()| Verdict::Well)
}

async fn webhooks(
    client: &Client,
    command: &WebhooksCommand,
    output: &mut Output,
) -> Result<(), CliError> {
    match command {
        WebhooksCommand::List => commands::webhooks::list(client, output).await,
        WebhooksCommand::Create {
            url,
            event,
            description,
        } => commands::webhooks::create(client, url, event, description.as_deref(), output).await,
        WebhooksCommand::Delete { id } => commands::webhooks::delete(client, id, output).await,
    }
}
