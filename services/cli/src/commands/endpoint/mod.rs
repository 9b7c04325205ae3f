//! The RunPod endpoint on which workers run: compare it with its file, change it, watch it.
//!
//! Nouns: the *file* is `endpoint.toml`; the *site* is RunPod with our key, and which endpoint is meant: the one of
//! `--id`, else the one that has the file's name.
//!
//! Guarantee: nothing is changed without the difference having been shown and agreed to. A change whose answer was
//! lost is looked up, never made again blindly. Secrets are never printed.

mod apply;
mod ask;
mod delete;
mod difference;
mod file;
mod health;
mod health_text;
mod jobs;
mod rollout;
mod site;
mod toml_reader;

use crate::args::{EndpointArgs, EndpointCommand};
use crate::error::CliError;
use crate::output::Output;
use crate::verdict::Verdict;

use site::Site;

/// Does one of the commands.
pub(crate) async fn run(args: &EndpointArgs, output: &mut Output) -> Result<Verdict, CliError> {
    let site = Site::new(args)?;
    match &args.command {
        EndpointCommand::Diff => apply::diff(&site, output).await,
        EndpointCommand::Apply { yes } => apply::apply(&site, *yes, output).await,
        EndpointCommand::Health => health::health(&site, output).await,
        EndpointCommand::Jobs { ids, cancel } => jobs::jobs(&site, ids, *cancel, output).await,
        EndpointCommand::Rollout(what) => rollout::rollout(&site, what, output).await,
        EndpointCommand::Delete(how) => delete::delete(&site, how, output).await,
    }
}
