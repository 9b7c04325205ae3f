//! The RunPod endpoint on which workers run: compare it with its file, change it, watch it.
//!
//! Nouns: the *file* is `endpoint.toml`; the *site* is RunPod with our key, and which endpoint is meant: the one of
//! `--id`, else the one that has the file's name.
//!
//! Guarantee: nothing is changed without the difference having been shown and agreed to. A change whose answer was
//! lost is looked up, never made again blindly. Secrets are never printed.

mod apply;
mod delete;
mod difference;
mod file;
mod health;
mod health_text;
mod jobs;
mod pause;
mod rollout;
mod site;
mod toml_reader;

use crate::args::{EndpointArgs, EndpointCommand};
use crate::error::CliError;
use crate::output::Output;
use crate::settings::Settings;
use crate::verdict::Verdict;

use site::Site;

/// Does one of the commands.
pub(crate) async fn run(
    args: &EndpointArgs,
    settings: &Settings,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    match &args.command {
        EndpointCommand::List => pause::list(&settings.operator_client()?, output).await?,
        EndpointCommand::Pause { endpoint } => {
            pause::pause(&settings.operator_client()?, endpoint, true, output).await?;
        }
        EndpointCommand::Resume { endpoint } => {
            pause::pause(&settings.operator_client()?, endpoint, false, output).await?;
        }
        EndpointCommand::Diff => return apply::diff(&Site::new(args, settings)?, output).await,
        EndpointCommand::Apply { yes } => {
            return apply::apply(&Site::new(args, settings)?, *yes, output).await;
        }
        EndpointCommand::Health => {
            return health::health(&Site::new(args, settings)?, output).await;
        }
        EndpointCommand::Jobs { ids, cancel } => {
            return jobs::jobs(&Site::new(args, settings)?, ids, *cancel, output).await;
        }
        EndpointCommand::Rollout(what) => {
            return rollout::rollout(&Site::new(args, settings)?, what, output).await;
        }
        EndpointCommand::Delete(how) => {
            return delete::delete(&Site::new(args, settings)?, how, output).await;
        }
    }
    Ok(Verdict::Well)
}
