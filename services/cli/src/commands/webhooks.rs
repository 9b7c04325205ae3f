//! `webhooks`: the tenant's webhook endpoints.

use crate::args::{CreateWebhookArgs, UpdateWebhookArgs, WebhooksCommand};
use crate::client::Client;
use crate::error::CliError;
use crate::output::Output;
use crate::render;
use serde_json::{Map, Value, json};

/// Does one of the commands.
pub(crate) async fn run(
    client: &Client,
    command: &WebhooksCommand,
    output: &mut Output,
) -> Result<(), CliError> {
    let look = output.look();
    match command {
        WebhooksCommand::List => {
            let answer = client.get(&["webhook-endpoints"], &[]).await?;
            output.answer(&answer, |page| render::endpoints(page, look))
        }
        WebhooksCommand::Create(wish) => {
            let answer = client.send(&["webhook-endpoints"], &made_of(wish)).await?;
            secret(&answer, output)
        }
        WebhooksCommand::Update(wish) => {
            let change = change_of(wish)?;
            let path = ["webhook-endpoints", &wish.id];
            let answer = client.patch(&path, &change).await?;
            output.answer(&answer, |answer| render::pairs(answer, look))
        }
        WebhooksCommand::Enable { id, replay_since } => {
            let mut change = json!({"enabled": true});
            if let Some(since) = replay_since {
                change["replay_since"] = json!(since);
            }
            let answer = client.patch(&["webhook-endpoints", id], &change).await?;
            output.answer(&answer, |answer| render::pairs(answer, look))
        }
        WebhooksCommand::Disable { id } => {
            let change = json!({"enabled": false});
            let answer = client.patch(&["webhook-endpoints", id], &change).await?;
            output.answer(&answer, |answer| render::pairs(answer, look))
        }
        WebhooksCommand::RotateSecret { id, overlap } => {
            let body = match overlap {
                Some(seconds) => json!({"overlap_s": seconds}),
                None => json!({}),
            };
            let path = ["webhook-endpoints", id, "rotate-secret"];
            secret(&client.send(&path, &body).await?, output)
        }
        WebhooksCommand::Test { id } => {
            let path = ["webhook-endpoints", id, "test"];
            let answer = client.post(&path, &[], None, None).await?;
            output.answer(&answer, |_| {
                format!("a test is on its way; `photofinish deliveries --endpoint {id}` shows how it went\n")
            })
        }
        WebhooksCommand::Delete { id } => {
            client.delete(&["webhook-endpoints", id]).await?;
            let answer = json!({"id": id, "deleted": true});
            output.answer(&answer, |_| format!("{id} is deleted\n"))
        }
    }
}

fn made_of(wish: &CreateWebhookArgs) -> Value {
    let mut body = json!({"url": wish.url.as_str(), "event_types": wish.event});
    if let Some(description) = &wish.description {
        body["description"] = json!(description);
    }
    if let Some(calls) = wish.calls_per_s {
        body["calls_per_s"] = json!(calls);
    }
    body
}

fn change_of(wish: &UpdateWebhookArgs) -> Result<Value, CliError> {
    let mut change = Map::new();
    if let Some(url) = &wish.receiver {
        change.insert("url".to_owned(), json!(url.as_str()));
    }
    if wish.all_events || !wish.event.is_empty() {
        change.insert("event_types".to_owned(), json!(wish.event));
    }
    if let Some(description) = &wish.description {
        let described = (!description.is_empty()).then_some(description);
        change.insert("description".to_owned(), json!(described));
    }
    if let Some(calls) = wish.calls_per_s {
        change.insert("calls_per_s".to_owned(), calls.to_json());
    }
    if change.is_empty() {
        return Err(CliError::Usage(
            "nothing to change: give --receiver, --event, --all-events, --description or --calls-per-s"
                .to_owned(),
        ));
    }
    Ok(Value::Object(change))
}

/// An answer with a secret in it, which is never shown again.
fn secret(answer: &Value, output: &mut Output) -> Result<(), CliError> {
    let look = output.look();
    output.answer(answer, |answer| render::pairs(answer, look))?;
    output.remark("Keep the secret: it is not shown again.");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Limit;

    #[test]
    fn only_what_is_named_is_changed() {
        let wish = UpdateWebhookArgs {
            id: "whe_1".into(),
            receiver: None,
            event: Vec::new(),
            all_events: true,
            description: Some(String::new()),
            calls_per_s: Some(Limit::Own(20.0)),
        };
        let change = change_of(&wish).unwrap();
        assert_eq!(
            change,
            json!({"event_types": [], "description": null, "calls_per_s": 20})
        );
        let nothing = UpdateWebhookArgs {
            all_events: false,
            description: None,
            calls_per_s: None,
            ..wish
        };
        assert_eq!(change_of(&nothing).unwrap_err().exit_code(), 64);
    }
}
