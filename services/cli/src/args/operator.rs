//! What can be typed with an operator's key.

use super::jobs::PageArgs;
use super::seconds;
use clap::Subcommand;
use serde_json::{Value, json};

#[derive(Debug, Subcommand)]
pub(crate) enum TenantsCommand {
    /// Make one; its webhook secret is shown once
    Create {
        /// Lower-case letters, digits and hyphens, at most 63
        name: String,
        #[command(flatten)]
        limits: LimitArgs,
    },
    /// List them
    List {
        #[command(flatten)]
        page: PageArgs,
    },
    /// Show one with its quotas and its retention
    Show {
        /// Its name
        name: String,
    },
    /// Change quotas and retention; what is not named stays
    Set {
        /// Its name
        name: String,
        #[command(flatten)]
        limits: LimitArgs,
    },
    /// Let its jobs wait: taken, but given no worker
    Pause {
        /// Its name
        name: String,
    },
    /// Let its jobs run again
    Resume {
        /// Its name
        name: String,
    },
    /// What it has used today
    Usage {
        /// Its name
        name: String,
    },
    /// Make its user at RabbitMQ, or give that a new password; it is shown once
    AmqpUser {
        /// Its name
        name: String,
        /// Take the user away
        #[arg(long)]
        remove: bool,
    },
    /// Delete everything of a finished job
    DeleteJob {
        /// Its name
        name: String,
        /// job_…
        id: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// Quotas and retention: a number, or `default` for the deployment's.
#[derive(Debug, Default, Clone, clap::Args)]
pub(crate) struct LimitArgs {
    /// Requests a second
    #[arg(long, value_name = "N|default", value_parser = limit)]
    pub(crate) requests_per_s: Option<Limit>,
    /// Jobs that wait or run
    #[arg(long, value_name = "N|default", value_parser = limit)]
    pub(crate) jobs_waiting_max: Option<Limit>,
    /// Items of a job
    #[arg(long, value_name = "N|default", value_parser = limit)]
    pub(crate) items_per_job_max: Option<Limit>,
    /// GPU seconds a day (UTC)
    #[arg(long, value_name = "N|default", value_parser = limit)]
    pub(crate) gpu_seconds_per_day: Option<Limit>,
    /// US dollars a day (UTC), estimated
    #[arg(long, value_name = "N|default", value_parser = limit)]
    pub(crate) cost_per_day_usd: Option<Limit>,
    /// How long outputs are kept, such as 30d; default: until they are deleted
    #[arg(long, value_name = "DURATION|default", value_parser = duration)]
    pub(crate) keep_outputs: Option<Limit>,
    /// How long jobs are kept, such as 30d
    #[arg(long, value_name = "DURATION|default", value_parser = duration)]
    pub(crate) keep_jobs: Option<Limit>,
}

/// A limit of its own, or none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Limit {
    /// The deployment's.
    Default,
    /// So much.
    Own(f64),
}

impl Limit {
    /// As the service reads it: null for the deployment's; what is whole is sent so, since the service counts some
    /// limits in whole numbers.
    pub(crate) fn to_json(self) -> Value {
        match self {
            Self::Default => Value::Null,
            Self::Own(number) if number.fract() == 0.0 && number < u64::MAX as f64 => {
                json!(number as u64)
            }
            Self::Own(number) => json!(number),
        }
    }
}

/// A number, or `default`.
pub(crate) fn limit(text: &str) -> Result<Limit, String> {
    if text == "default" {
        return Ok(Limit::Default);
    }
    let number: f64 = text
        .parse()
        .map_err(|_| format!("{text} is neither a number nor `default`"))?;
    if number.is_finite() && number >= 0.0 {
        Ok(Limit::Own(number))
    } else {
        Err(format!("{text} is no limit"))
    }
}

fn duration(text: &str) -> Result<Limit, String> {
    if text == "default" {
        return Ok(Limit::Default);
    }
    Ok(Limit::Own(seconds(text)? as f64))
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make one; it is shown once
    Create {
        #[command(flatten)]
        owner: KeyOwner,
        /// For people
        #[arg(long)]
        description: Option<String>,
    },
    /// List them; only their beginning is known
    List {
        #[command(flatten)]
        owner: KeyOwner,
    },
    /// Revoke one: refused within 30 s everywhere
    Revoke {
        #[command(flatten)]
        owner: KeyOwner,
        /// Its id, the beginning of its id, or its prefix as `keys list` shows them
        #[arg(long, value_name = "ID")]
        key: String,
    },
}

/// Whose key.
#[derive(Debug, Clone, clap::Args)]
#[command(group(clap::ArgGroup::new("whose").required(true).args(["tenant", "operator"])))]
pub(crate) struct KeyOwner {
    /// The tenant's name
    pub(crate) tenant: Option<String>,
    /// An operator's key
    #[arg(long)]
    pub(crate) operator: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeadCommand {
    /// List them; the newest hundred at most
    List {
        /// Queue; `rejected` is what clients sent and was refused
        #[arg(long, value_name = "NAME")]
        queue: Option<String>,
        /// Rows at most
        #[arg(long, value_name = "N")]
        limit: Option<u32>,
    },
    /// Show one with headers and body
    Show {
        /// As `dead list` shows it
        id: String,
    },
    /// Put one back where it came from
    Replay {
        /// As `dead list` shows it
        id: String,
    },
    /// Throw one away, for good
    Drop {
        /// As `dead list` shows it
        id: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Default, clap::Args)]
pub(crate) struct AuditArgs {
    #[command(flatten)]
    pub(crate) page: PageArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BucketCommand {
    /// Show its lifecycle rules, and those that the deployment wants
    Lifecycle {
        /// Put the wanted ones beside all others
        #[arg(long)]
        apply: bool,
    },
}
