//! `tenants`: made, limited, paused, with their users at RabbitMQ.

use crate::args::{Limit, LimitArgs, TenantsCommand};
use crate::client::Client;
use crate::commands::{ask, pages};
use crate::error::CliError;
use crate::output::Output;
use crate::render;
use crate::verdict::Verdict;
use serde_json::{Map, Value, json};

/// Does one of the commands.
pub(crate) async fn run(
    client: &Client,
    command: &TenantsCommand,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    let look = output.look();
    match command {
        TenantsCommand::Create { name, limits } => create(client, name, limits, output).await?,
        TenantsCommand::List { page } => {
            let answer = pages::read(client, &["admin", "tenants"], Vec::new(), page).await?;
            output.answer(&answer, |page| render::tenants(page, look))?;
        }
        TenantsCommand::Show { name } => {
            let answer = client.get(&["admin", "tenants", name], &[]).await?;
            output.answer(&answer, |answer| render::pairs(answer, look))?;
        }
        TenantsCommand::Set { name, limits } => set(client, name, limits, output).await?,
        TenantsCommand::Pause { name } => pause(client, name, true, output).await?,
        TenantsCommand::Resume { name } => pause(client, name, false, output).await?,
        TenantsCommand::Usage { name } => {
            let answer = client
                .get(&["admin", "tenants", name, "usage"], &[])
                .await?;
            output.answer(&answer, |answer| render::pairs(answer, look))?;
        }
        TenantsCommand::AmqpUser { name, remove } => amqp(client, name, *remove, output).await?,
        TenantsCommand::DeleteJob { name, id, yes } => {
            let question = format!("Delete everything of {id} of {name}, for good?");
            if !*yes && !ask::yes(&question, "--yes")? {
                return Ok(Verdict::Unwell);
            }
            let path = ["admin", "tenants", name, "jobs", id];
            client.delete(&path).await?;
            let answer = json!({"id": id, "deleted": true});
            output.answer(&answer, |_| format!("everything of {id} is deleted\n"))?;
        }
    }
    Ok(Verdict::Well)
}

async fn create(
    client: &Client,
    name: &str,
    limits: &LimitArgs,
    output: &mut Output,
) -> Result<(), CliError> {
    let mut body = json!({"id": name});
    for (group, values) in [("quotas", quotas(limits)), ("retention", retention(limits))] {
        if !values.is_empty() {
            body[group] = Value::Object(values);
        }
    }
    let answer = client.send(&["admin", "tenants"], &body).await?;
    let look = output.look();
    output.answer(&answer, |answer| render::pairs(answer, look))?;
    if answer["webhook_secret"].is_string() {
        output.remark("Keep the webhook secret: it is not shown again.");
    } else {
        output.remark(&format!("{name} was there already; nothing is changed."));
    }
    Ok(())
}

/// Changes what is named: a limit that is not sent stays as it is.
async fn set(
    client: &Client,
    name: &str,
    limits: &LimitArgs,
    output: &mut Output,
) -> Result<(), CliError> {
    let (quotas, retention) = (quotas(limits), retention(limits));
    if quotas.is_empty() && retention.is_empty() {
        return Err(CliError::Usage(
            "nothing to set: give a quota or a retention (`photofinish tenants set --help`)"
                .to_owned(),
        ));
    }
    let mut change = Map::new();
    for (group, values) in [("quotas", quotas), ("retention", retention)] {
        if !values.is_empty() {
            change.insert(group.to_owned(), Value::Object(values));
        }
    }
    let path = ["admin", "tenants", name];
    let answer = client.patch(&path, &Value::Object(change)).await?;
    let look = output.look();
    output.answer(&answer, |answer| render::pairs(answer, look))
}

async fn pause(
    client: &Client,
    name: &str,
    paused: bool,
    output: &mut Output,
) -> Result<(), CliError> {
    let change = json!({"paused": paused});
    let answer = client.patch(&["admin", "tenants", name], &change).await?;
    output.answer(&answer, |_| {
        if paused {
            format!("{name} is paused: its jobs are taken and wait; `photofinish tenants resume {name}` lets them run\n")
        } else {
            format!("{name} is resumed\n")
        }
    })
}

async fn amqp(
    client: &Client,
    name: &str,
    remove: bool,
    output: &mut Output,
) -> Result<(), CliError> {
    let path = ["admin", "tenants", name, "amqp-user"];
    if remove {
        client.delete(&path).await?;
        let answer = json!({"user": name, "deleted": true});
        return output.answer(&answer, |_| {
            format!("the AMQP user of {name} is taken away\n")
        });
    }
    let answer = client.send(&path, &json!({})).await?;
    let look = output.look();
    output.answer(&answer, |answer| render::pairs(answer, look))?;
    output.remark("Keep the password: it is not shown again.");
    Ok(())
}

fn quotas(limits: &LimitArgs) -> Map<String, Value> {
    named([
        ("requests_per_s", limits.requests_per_s),
        ("jobs_waiting_max", limits.jobs_waiting_max),
        ("items_per_job_max", limits.items_per_job_max),
        ("gpu_seconds_per_day", limits.gpu_seconds_per_day),
        ("cost_per_day_usd", limits.cost_per_day_usd),
    ])
}

fn retention(limits: &LimitArgs) -> Map<String, Value> {
    named([
        ("outputs_s", limits.keep_outputs),
        ("jobs_s", limits.keep_jobs),
    ])
}

fn named<const N: usize>(limits: [(&str, Option<Limit>); N]) -> Map<String, Value> {
    let set = limits
        .into_iter()
        .filter_map(|(name, limit)| Some((name, limit?)));
    set.map(|(name, limit)| (name.to_owned(), limit.to_json()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_named_limits_are_sent() {
        let limits = LimitArgs {
            requests_per_s: Some(Limit::Own(2.5)),
            jobs_waiting_max: Some(Limit::Own(10.0)),
            cost_per_day_usd: Some(Limit::Default),
            keep_outputs: Some(Limit::Own(86_400.0)),
            ..LimitArgs::default()
        };
        let shown = Value::Object(quotas(&limits)).to_string();
        assert_eq!(
            shown,
            r#"{"cost_per_day_usd":null,"jobs_waiting_max":10,"requests_per_s":2.5}"#
        );
        assert_eq!(
            Value::Object(retention(&limits)),
            json!({"outputs_s": 86_400})
        );
    }
}
