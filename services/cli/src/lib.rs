//! The command line `photofinish`: submits jobs, follows them, fetches their outputs, keeps tenants, keys, webhooks
//! and parked messages, and keeps the RunPod endpoint as its file says.
//!
//! Nouns: [`Args`] is what was typed; *settings* are flags over the environment over a profile of the configuration
//! file; a *client* makes one HTTP call and reads its answer or its problem document; a *command* is one file under
//! `commands`; *render* turns answers into text, purely, and a *look* says how wide and whether in colours.
//!
//! Guarantee: everything goes through the public HTTP API (contract, section 2), and `endpoint` through RunPod's, so
//! nothing here needs credentials of RabbitMQ, Redis or S3. `--json` prints the service's own answer as one document.
//! Exit codes stand in one table, in `exit`.
//!
//! Not for: deciding anything. What is allowed, the service says.

mod args;
mod client;
mod commands;
mod endpoint_args;
mod endpoint_error;
mod environment;
mod error;
mod exit;
mod look;
mod output;
mod render;
mod settings;
mod table;
mod verdict;

pub use args::Args;
pub use exit::USAGE;

use args::Command;
use commands::watch::Known;
use error::CliError;
use output::Output;
use settings::Settings;
use std::process::ExitCode;
use verdict::Verdict;

/// Does what was typed; says on standard error what went wrong and what to do next.
pub async fn run(args: Args) -> ExitCode {
    let mut output = Output::standard(args.json, args.color);
    match dispatch(&args, &mut output).await {
        Ok(verdict) => verdict.exit_code(),
        Err(error) => {
            output.complain(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

async fn dispatch(args: &Args, output: &mut Output) -> Result<Verdict, CliError> {
    // What needs no service needs no settings either.
    if let Command::Completions { shell } = &args.command {
        commands::completions::completions(*shell, output)?;
        return Ok(Verdict::Well);
    }
    if let Command::Man { out } = &args.command {
        commands::man::man(out.as_deref(), output)?;
        return Ok(Verdict::Well);
    }
    let settings = Settings::of(args)?;
    for warning in &settings.warnings {
        output.remark(warning);
    }
    with_settings(&args.command, &settings, output).await
}

async fn with_settings(
    command: &Command,
    settings: &Settings,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    match command {
        Command::Doctor => return commands::doctor::doctor(settings, output).await,
        Command::Endpoint(args) => return commands::endpoint::run(args, settings, output).await,
        Command::Config => commands::config::config(settings, output)?,
        Command::Tenants { command } => {
            return commands::tenants::run(&settings.operator_client()?, command, output).await;
        }
        Command::Keys { command } => {
            commands::keys::run(&settings.operator_client()?, command, output).await?;
        }
        Command::Dead { command } => {
            return commands::dead::run(&settings.operator_client()?, command, output).await;
        }
        Command::Audit(args) => {
            commands::audit::audit(&settings.operator_client()?, args, output).await?;
        }
        Command::Rebuild => {
            return commands::rebuild::rebuild(&settings.operator_client()?, output).await;
        }
        Command::Bucket { command } => {
            return commands::bucket::run(&settings.operator_client()?, command, output).await;
        }
        Command::Completions { .. } | Command::Man { .. } => {}
        Command::Submit(_)
        | Command::Estimate(_)
        | Command::Get { .. }
        | Command::List(_)
        | Command::Watch(_)
        | Command::Cancel { .. }
        | Command::Retry { .. }
        | Command::Fetch { .. }
        | Command::Outputs { .. }
        | Command::Deliveries(_)
        | Command::Webhooks { .. } => return of_tenant(command, settings, output).await,
    }
    Ok(Verdict::Well)
}

/// What a tenant's key opens.
async fn of_tenant(
    command: &Command,
    settings: &Settings,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    let client = settings.tenant_client()?;
    match command {
        Command::Submit(what) => commands::submit::submit(&client, what, output).await?,
        Command::Estimate(what) => commands::estimate::estimate(&client, what, output).await?,
        Command::Get { id } => commands::get::get(&client, id, output).await?,
        Command::List(filter) => commands::list::list(&client, filter, output).await?,
        Command::Watch(what) => watch(&client, what, output).await?,
        Command::Cancel { id } => commands::cancel::cancel(&client, id, output).await?,
        Command::Retry { id, watch } => {
            commands::retry::retry(&client, id, *watch, output).await?;
        }
        Command::Fetch { id, out } => commands::fetch::fetch(&client, id, out, output).await?,
        Command::Outputs { command } => {
            return commands::outputs::run(&client, command, output).await;
        }
        Command::Deliveries(args) => commands::deliveries::run(&client, args, output).await?,
        Command::Webhooks { command } => commands::webhooks::run(&client, command, output).await?,
        // Done before a key is asked for.
        Command::Doctor
        | Command::Endpoint(_)
        | Command::Config
        | Command::Tenants { .. }
        | Command::Keys { .. }
        | Command::Dead { .. }
        | Command::Audit(_)
        | Command::Rebuild
        | Command::Bucket { .. }
        | Command::Completions { .. }
        | Command::Man { .. } => {}
    }
    Ok(Verdict::Well)
}

async fn watch(
    client: &client::Client,
    what: &args::WatchArgs,
    output: &mut Output,
) -> Result<(), CliError> {
    let watched = commands::watch::watch(client, &what.id, Known::Yes, output).await;
    commands::fetch::after(client, &what.id, what.fetch.as_deref(), watched, output).await
}
