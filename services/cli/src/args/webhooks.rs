//! What can be typed about webhooks.

use super::jobs::PageArgs;
use super::operator::{Limit, limit};
use super::seconds;
use clap::Subcommand;
use url::Url;

#[derive(Debug, Subcommand)]
pub(crate) enum WebhooksCommand {
    /// List them
    List,
    /// Make one; its secret is shown once
    Create(CreateWebhookArgs),
    /// Change one
    Update(UpdateWebhookArgs),
    /// Send to it again, after it was disabled
    Enable {
        /// whe_…
        id: String,
        /// Deliver what happened since then, too: RFC 3339
        #[arg(long, value_name = "TIME")]
        replay_since: Option<String>,
    },
    /// Send nothing to it until it is enabled
    Disable {
        /// whe_…
        id: String,
    },
    /// Give it a new secret, shown once; the old one signs beside it for a while
    RotateSecret {
        /// whe_…
        id: String,
        /// How long both sign, such as 2h or 7d
        #[arg(long, value_name = "DURATION", value_parser = seconds)]
        overlap: Option<u64>,
    },
    /// Send it an event `endpoint.test`
    Test {
        /// whe_…
        id: String,
    },
    /// Delete one
    Delete {
        /// whe_…
        id: String,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct CreateWebhookArgs {
    /// Where to POST
    #[arg(id = "receiver", value_name = "URL")]
    pub(crate) url: Url,
    /// Such as job.completed; may be given several times; none: all but job.progress
    #[arg(long, value_name = "TYPE")]
    pub(crate) event: Vec<String>,
    /// For people
    #[arg(long)]
    pub(crate) description: Option<String>,
    /// Calls a second at most [default: as many as it answers, or the deployment's limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) calls_per_s: Option<u32>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct UpdateWebhookArgs {
    /// whe_…
    pub(crate) id: String,
    /// Where to POST
    #[arg(long = "receiver", value_name = "URL")]
    pub(crate) receiver: Option<Url>,
    /// Such as job.completed; may be given several times, and replaces all that were there
    #[arg(long, value_name = "TYPE")]
    pub(crate) event: Vec<String>,
    /// All event types but job.progress
    #[arg(long, conflicts_with = "event")]
    pub(crate) all_events: bool,
    /// For people; empty: none
    #[arg(long)]
    pub(crate) description: Option<String>,
    /// Calls a second at most, or `default` for as many as it answers, or the deployment's limit
    #[arg(long, value_name = "N|default", value_parser = limit)]
    pub(crate) calls_per_s: Option<Limit>,
}

/// Which deliveries.
#[derive(Debug, Default, Clone, clap::Args)]
pub(crate) struct DeliveryFilterArgs {
    /// whe_…
    #[arg(long)]
    pub(crate) endpoint: Option<String>,
    /// job_…
    #[arg(long)]
    pub(crate) job: Option<String>,
    /// pending, delivered or failed
    #[arg(long)]
    pub(crate) status: Option<String>,
    #[command(flatten)]
    pub(crate) page: PageArgs,
}

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct DeliveriesArgs {
    #[command(flatten)]
    pub(crate) filter: DeliveryFilterArgs,
    #[command(subcommand)]
    pub(crate) command: Option<DeliveriesCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeliveriesCommand {
    /// List them (as without a command)
    List(DeliveryFilterArgs),
    /// Show one with each of its attempts
    Show {
        /// dlv_…
        id: String,
    },
    /// Deliver again: one, or what an endpoint has missed
    Replay(ReplayArgs),
}

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("which").required(true).args(["id", "endpoint"])))]
pub(crate) struct ReplayArgs {
    /// dlv_…
    pub(crate) id: Option<String>,
    /// whe_…: all of it since --since
    #[arg(long, requires = "since")]
    pub(crate) endpoint: Option<String>,
    /// RFC 3339
    #[arg(long, value_name = "TIME", conflicts_with = "id")]
    pub(crate) since: Option<String>,
    /// RFC 3339
    #[arg(long, value_name = "TIME", conflicts_with = "id")]
    pub(crate) until: Option<String>,
    /// Only what is pending, delivered or failed
    #[arg(long, conflicts_with = "id")]
    pub(crate) status: Option<String>,
}
