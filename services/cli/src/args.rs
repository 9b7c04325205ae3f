//! What can be typed.

use crate::client::Client;
pub(crate) use crate::endpoint_args::{DeleteArgs, EndpointArgs, EndpointCommand, RolloutArgs};
use crate::error::CliError;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use url::Url;

/// Media jobs on rented GPUs: submit them, follow them, fetch what they made.
#[derive(Debug, Parser)]
#[command(name = "photofinish", version, propagate_version = true)]
#[command(
    after_help = "Exit codes: 0 it went well · 1 the job failed, the service refused or `doctor` found something wrong · \
                        2 `endpoint diff` found a difference · 3 the service cannot be reached · \
                        64 the command was wrong"
)]
pub struct Args {
    /// Where the service answers
    #[arg(
        long,
        global = true,
        env = "PHOTOFINISH_URL",
        default_value = "http://127.0.0.1:8080"
    )]
    pub(crate) url: Url,
    /// API key of a tenant
    #[arg(
        long,
        global = true,
        env = "PHOTOFINISH_API_KEY",
        hide_env_values = true
    )]
    api_key: Option<String>,
    /// Operator key, for `tenants`, `keys` and `doctor`
    #[arg(
        long,
        global = true,
        env = "PHOTOFINISH_OPERATOR_KEY",
        hide_env_values = true
    )]
    operator_key: Option<String>,
    /// Print the service's answer as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Submit a job request (a JSON file, or - for standard input)
    Submit(SubmitArgs),
    /// Say what a job request would cost, without running it
    Estimate {
        /// A JSON file, or - for standard input
        file: PathBuf,
    },
    /// Show a job
    Get {
        /// job_…
        id: String,
    },
    /// List jobs, newest first
    List(ListArgs),
    /// Follow a job to its end
    Watch {
        /// job_…
        id: String,
    },
    /// Stop a job
    Cancel {
        /// job_…
        id: String,
    },
    /// Run again what did not succeed
    Retry {
        /// job_…
        id: String,
    },
    /// Download a job's outputs, checked; run again, it goes on where it stopped
    Fetch {
        /// job_…
        id: String,
        /// Directory to put them into; made if missing
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// List webhook deliveries and their attempts
    Deliveries(DeliveriesArgs),
    /// Webhook endpoints of the tenant
    Webhooks {
        #[command(subcommand)]
        command: WebhooksCommand,
    },
    /// Tenants (operator key)
    Tenants {
        #[command(subcommand)]
        command: TenantsCommand,
    },
    /// API keys (operator key)
    Keys {
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Look at what the deployment stands on (operator key); ends in 1 if something is wrong
    Doctor,
    /// The RunPod endpoint on which workers run (RunPod's key)
    Endpoint(EndpointArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct SubmitArgs {
    /// A JSON file, or - for standard input
    pub(crate) file: PathBuf,
    /// Submitting again under the same key gives the same job
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
    /// Follow the job to its end
    #[arg(long)]
    pub(crate) watch: bool,
}

#[derive(Debug, Default, clap::Args)]
pub(crate) struct ListArgs {
    /// accepted, running, completed, failed or cancelled
    #[arg(long)]
    pub(crate) status: Option<String>,
    /// caption, img2vid or addaudio
    #[arg(long)]
    pub(crate) operation: Option<String>,
    /// RFC 3339, such as 2026-11-22T10:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) created_after: Option<String>,
    /// RFC 3339
    #[arg(long, value_name = "TIME")]
    pub(crate) created_before: Option<String>,
    /// Only jobs whose metadata has this value; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub(crate) metadata: Vec<(String, String)>,
    /// Rows at most
    #[arg(long)]
    pub(crate) limit: Option<u32>,
    /// Where the page before ended
    #[arg(long)]
    pub(crate) cursor: Option<String>,
}

#[derive(Debug, Default, clap::Args)]
pub(crate) struct DeliveriesArgs {
    /// whe_…
    #[arg(long)]
    pub(crate) endpoint: Option<String>,
    /// job_…
    #[arg(long)]
    pub(crate) job: Option<String>,
    /// pending, delivered or failed
    #[arg(long)]
    pub(crate) status: Option<String>,
    /// Rows at most
    #[arg(long)]
    pub(crate) limit: Option<u32>,
    /// Where the page before ended
    #[arg(long)]
    pub(crate) cursor: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum WebhooksCommand {
    /// List them
    List,
    /// Make one; its secret is shown once
    Create {
        /// Where to POST
        #[arg(id = "receiver", value_name = "URL")]
        url: Url,
        /// Such as job.completed; may be given several times; none: all but job.progress
        #[arg(long, value_name = "TYPE")]
        event: Vec<String>,
        /// For people
        #[arg(long)]
        description: Option<String>,
    },
    /// Delete one
    Delete {
        /// whe_…
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TenantsCommand {
    /// Make one; its webhook secret is shown once
    Create {
        /// Lower-case letters, digits and hyphens, at most 63
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make one; it is shown once
    Create {
        /// Whose it shall be
        tenant: String,
    },
}

impl Args {
    /// A client with the tenant's key.
    pub(crate) fn tenant_client(&self) -> Result<Client, CliError> {
        let key = self.api_key.as_deref().ok_or(CliError::NoKey {
            variable: "PHOTOFINISH_API_KEY",
            flag: "--api-key",
        })?;
        Client::new(&self.url, key)
    }

    /// A client with the operator's key.
    pub(crate) fn operator_client(&self) -> Result<Client, CliError> {
        let key = self.operator_key.as_deref().ok_or(CliError::NoKey {
            variable: "PHOTOFINISH_OPERATOR_KEY",
            flag: "--operator-key",
        })?;
        Client::new(&self.url, key)
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write it as KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(std::iter::once("photofinish").chain(line.split_whitespace()))
    }

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_command_parses() {
        for line in [
            "submit job.json",
            "submit - --idempotency-key A-17 --watch --json",
            "estimate job.json",
            "get job_1",
            "list --status running --operation img2vid --metadata order=A-17 --limit 5",
            "watch job_1",
            "cancel job_1",
            "retry job_1 --json",
            "fetch job_1 --out here",
            "deliveries --job job_1 --status failed",
            "webhooks list",
            "webhooks create https://example.com/hook --event job.completed --event job.failed",
            "webhooks delete whe_1",
            "tenants create acme",
            "keys create acme",
            "doctor --json",
            "endpoint diff",
            "endpoint --file e.toml apply --yes --json",
            "endpoint health --id ep1",
            "endpoint jobs a b --cancel",
            "endpoint rollout --image o/w:2 --timeout 60",
            "endpoint delete --confirm worker --now",
            "--url http://host:1 --api-key k get job_1",
        ] {
            assert!(parse(line).is_ok(), "{line}: {:?}", parse(line).err());
        }
    }

    #[test]
    fn wrong_commands_are_usage_errors() {
        for line in [
            "",
            "submit",
            "fetch job_1",
            "list --metadata order",
            "endpoint",
            "endpoint jobs --cancel",
            "endpoint rollout",
            "--url nonsense list",
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.use_stderr(), "{line}");
        }
    }

    #[test]
    fn values_arrive_where_they_belong() {
        let args = parse("submit - --idempotency-key A-17 --watch").unwrap();
        let Command::Submit(submit) = args.command else {
            panic!("not a submit")
        };
        assert_eq!(submit.idempotency_key.as_deref(), Some("A-17"));
        assert!(submit.watch);
        let args = parse("--url http://host:1 webhooks create https://example.com/hook").unwrap();
        assert_eq!(
            args.url.as_str(),
            "http://host:1/",
            "a receiver is not the service"
        );
        let args = parse("list --metadata a=b=c").unwrap();
        let Command::List(list) = args.command else {
            panic!("not a list")
        };
        assert_eq!(list.metadata, [("a".to_owned(), "b=c".to_owned())]);
    }

    #[test]
    fn a_missing_key_is_named() {
        let args = parse("--operator-key o get job_1").unwrap();
        let args = Args {
            api_key: None,
            ..args
        };
        let error = args.tenant_client().unwrap_err();
        assert_eq!(error.exit_code(), 64);
        assert!(error.to_string().contains("PHOTOFINISH_API_KEY"), "{error}");
    }
}
