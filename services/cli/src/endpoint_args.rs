//! What can be typed after `endpoint`.

use clap::Subcommand;
use photofinish_runpod::management::{DEFAULT_DATA_BASE_URL, DEFAULT_REST_BASE_URL};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(crate) struct EndpointArgs {
    /// What the endpoint shall be
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        default_value = "deploy/runpod/endpoint.toml"
    )]
    pub(crate) file: PathBuf,
    /// Id of the endpoint; without it the one that has the file's name
    #[arg(long, global = true, env = "RUNPOD_ENDPOINT_ID")]
    pub(crate) id: Option<String>,
    /// API key of the RunPod account
    #[arg(
        long,
        global = true,
        value_name = "KEY",
        env = "RUNPOD_API_KEY",
        hide_env_values = true
    )]
    pub(crate) runpod_api_key: Option<String>,
    /// RunPod's management API, version 2
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "RUNPOD_REST_API_URL",
        default_value = DEFAULT_REST_BASE_URL
    )]
    pub(crate) rest_url: String,
    /// RunPod's data plane: health and jobs
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "RUNPOD_ENDPOINT_BASE_URL",
        default_value = DEFAULT_DATA_BASE_URL
    )]
    pub(crate) data_url: String,
    #[command(subcommand)]
    pub(crate) command: EndpointCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EndpointCommand {
    /// Show how RunPod differs from the file; changes nothing, exits 2 if it differs
    Diff,
    /// Show how RunPod differs, ask, and bring it to the file; makes the endpoint if it is not there
    Apply {
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Show jobs, workers and what is wrong; exits 1 if something is
    Health,
    /// List jobs, or show some by id
    Jobs {
        /// Ids as RunPod gives them
        ids: Vec<String>,
        /// Cancel them
        #[arg(long, requires = "ids")]
        cancel: bool,
    },
    /// Pin a new image and wait until every worker runs it
    Rollout(RolloutArgs),
    /// List the endpoints that the service uses, and which are paused (operator key)
    List,
    /// Give the endpoint no new attempts; those that run finish (operator key)
    Pause {
        /// As RunPod gives it
        endpoint: String,
    },
    /// Give it attempts again (operator key)
    Resume {
        /// As RunPod gives it
        endpoint: String,
    },
    /// Delete the endpoint, once its jobs are done
    Delete(DeleteArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct RolloutArgs {
    /// Image with a tag or digest of its own
    #[arg(long, value_name = "REF")]
    pub(crate) image: String,
    /// Take a tag that moves, such as :latest, which hosts may have in an older state
    #[arg(long)]
    pub(crate) allow_latest: bool,
    /// Seconds to wait for the workers
    #[arg(long = "timeout", value_name = "SECONDS", default_value_t = 1800)]
    pub(crate) timeout_s: u64,
    /// Milliseconds between two looks; RunPod allows 60 calls a minute
    #[arg(long, value_name = "MS", default_value_t = 3000, hide = true)]
    pub(crate) poll_ms: u64,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DeleteArgs {
    /// The endpoint's name, instead of being asked for it
    #[arg(long, value_name = "NAME")]
    pub(crate) confirm: Option<String>,
    /// Do not wait for queued and running jobs: RunPod cancels them
    #[arg(long)]
    pub(crate) now: bool,
    /// Seconds to wait for the jobs
    #[arg(long = "timeout", value_name = "SECONDS", default_value_t = 1800)]
    pub(crate) timeout_s: u64,
    /// Milliseconds between two looks
    #[arg(long, value_name = "MS", default_value_t = 3000, hide = true)]
    pub(crate) poll_ms: u64,
}
