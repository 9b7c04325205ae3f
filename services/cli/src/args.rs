//! What can be typed.

mod jobs;
mod operator;
mod webhooks;

pub(crate) use crate::endpoint_args::{DeleteArgs, EndpointArgs, EndpointCommand, RolloutArgs};
use crate::exit;
use crate::look::ColorWhen;
use clap::{Parser, Subcommand};
pub(crate) use jobs::{
    EstimateArgs, ListArgs, OutputsCommand, PageArgs, RequestArgs, SubmitArgs, WatchArgs,
};
pub(crate) use operator::{
    AuditArgs, BucketCommand, DeadCommand, KeyOwner, KeysCommand, Limit, LimitArgs, TenantsCommand,
};
use std::path::PathBuf;
pub(crate) use webhooks::{
    CreateWebhookArgs, DeliveriesArgs, DeliveriesCommand, DeliveryFilterArgs, ReplayArgs,
    UpdateWebhookArgs, WebhooksCommand,
};

/// Media jobs on rented GPUs: submit them, follow them, fetch what they made.
#[derive(Debug, Parser)]
#[command(
    name = "photofinish",
    version,
    propagate_version = true,
    after_help = exit::help(),
    max_term_width = 100
)]
pub struct Args {
    /// Where the service answers [default: http://127.0.0.1:8080]
    #[arg(long, global = true, env = "PHOTOFINISH_URL", help_heading = GENERAL)]
    pub(crate) url: Option<String>,
    /// API key of a tenant
    #[arg(
        long,
        global = true,
        value_name = "KEY",
        env = "PHOTOFINISH_API_KEY",
        hide_env_values = true,
        help_heading = GENERAL
    )]
    pub(crate) api_key: Option<String>,
    /// Operator key, for what is under `/v1/admin`
    #[arg(
        long,
        global = true,
        value_name = "KEY",
        env = "PHOTOFINISH_OPERATOR_KEY",
        hide_env_values = true,
        help_heading = GENERAL
    )]
    pub(crate) operator_key: Option<String>,
    /// Profile of the configuration file, where each is a deployment
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        env = "PHOTOFINISH_PROFILE",
        help_heading = GENERAL
    )]
    pub(crate) profile: Option<String>,
    /// Configuration file [default: ~/.config/photofinish/config.toml]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "PHOTOFINISH_CONFIG",
        help_heading = GENERAL
    )]
    pub(crate) config: Option<PathBuf>,
    /// Print JSON: one document, or a line for each change where something is followed
    #[arg(long, global = true, help_heading = GENERAL)]
    pub(crate) json: bool,
    /// Colours on a terminal (NO_COLOR is honoured), always or never
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "WHEN",
        default_value_t,
        hide_possible_values = true,
        help_heading = GENERAL
    )]
    pub(crate) color: ColorWhen,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The heading of the flags that every command has.
const GENERAL: &str = "Of every command";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Submit a job, from flags or from a JSON file
    Submit(Box<SubmitArgs>),
    /// Say what a job would cost, without running it
    Estimate(Box<EstimateArgs>),
    /// Show a job
    Get {
        /// job_…
        id: String,
    },
    /// List jobs, newest first
    List(ListArgs),
    /// Follow a job to its end
    Watch(WatchArgs),
    /// Stop a job
    Cancel {
        /// job_…
        id: String,
    },
    /// Run again what did not succeed
    Retry {
        /// job_…
        id: String,
        /// Follow the new run to its end
        #[arg(long)]
        watch: bool,
    },
    /// Download a job's outputs, checked; run again, it goes on where it stopped
    Fetch {
        /// job_…
        id: String,
        /// Directory to put them into; made if missing
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Outputs of a job
    Outputs {
        #[command(subcommand)]
        command: OutputsCommand,
    },
    /// Webhook endpoints of the tenant
    Webhooks {
        #[command(subcommand)]
        command: WebhooksCommand,
    },
    /// Webhook deliveries and their attempts
    Deliveries(DeliveriesArgs),
    /// Tenants, their limits and their AMQP users (operator key)
    Tenants {
        #[command(subcommand)]
        command: TenantsCommand,
    },
    /// API keys (operator key)
    Keys {
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Messages that were parked or refused (operator key)
    Dead {
        #[command(subcommand)]
        command: DeadCommand,
    },
    /// What operators did, newest first (operator key)
    Audit(AuditArgs),
    /// Look at what the deployment stands on, and at what this command line needs; ends in 1 if something is wrong
    Doctor,
    /// Make Redis again from the bucket: every tenant's jobs, open and ended (operator key)
    Rebuild,
    /// The bucket that everything lies in (operator key)
    Bucket {
        #[command(subcommand)]
        command: BucketCommand,
    },
    /// The RunPod endpoint on which workers run (RunPod's key)
    Endpoint(EndpointArgs),
    /// Show each setting and where it comes from
    Config,
    /// Print a completion script: source it, or put it where the shell looks
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Print the man page, or write one for each command
    Man {
        /// Directory to write pages into
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

/// Shells with completions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Shell {
    /// bash
    Bash,
    /// zsh
    Zsh,
    /// fish
    Fish,
}

impl Args {
    /// RunPod's key and the endpoint's id, where they can be typed.
    pub(crate) fn runpod(&self) -> (Option<&String>, Option<&String>) {
        match &self.command {
            Command::Endpoint(args) => (args.runpod_api_key.as_ref(), args.id.as_ref()),
            Command::Submit(_)
            | Command::Estimate(_)
            | Command::Get { .. }
            | Command::List(_)
            | Command::Watch(_)
            | Command::Cancel { .. }
            | Command::Retry { .. }
            | Command::Fetch { .. }
            | Command::Outputs { .. }
            | Command::Webhooks { .. }
            | Command::Deliveries(_)
            | Command::Tenants { .. }
            | Command::Keys { .. }
            | Command::Dead { .. }
            | Command::Audit(_)
            | Command::Doctor
            | Command::Rebuild
            | Command::Bucket { .. }
            | Command::Config
            | Command::Completions { .. }
            | Command::Man { .. } => (None, None),
        }
    }
}

/// `KEY=VALUE`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write it as KEY=VALUE")?;
    if key.is_empty() {
        return Err("write it as KEY=VALUE".to_owned());
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// Seconds: `90`, `90s`, `15m`, `2h`, `7d`.
pub(crate) fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text} is not a duration: write 90, 90s, 15m, 2h or 7d");
    let (number, unit) = match text.strip_suffix(['s', 'm', 'h', 'd']) {
        Some(number) => (number, text.as_bytes()[text.len() - 1]),
        None => (text, b's'),
    };
    let factor = match unit {
        b'd' => 86_400,
        b'h' => 3_600,
        b'm' => 60,
        _ => 1,
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(factor).ok_or_else(wrong)
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
