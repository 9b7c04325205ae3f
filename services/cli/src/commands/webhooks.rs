//! Webhook endpoints and deliveries.

use crate::args::DeliveriesArgs;
use crate::client::Client;
use crate::error::CliError;
use crate::output::Output;
use crate::render;
use serde_json::json;
use url::Url;

/// Lists the tenant's endpoints.
pub(crate) async fn list(client: &Client, output: &mut Output) -> Result<(), CliError> {
    let answer = client.get(&["webhook-endpoints"], &[]).await?;
    output.answer(&answer, render::endpoints)
}

/// Makes an endpoint; the answer shows its secret, once.
pub(crate) async fn create(
    client: &Client,
    url: &Url,
    event_types: &[String],
    description: Option<&str>,
    output: &mut Output,
) -> Result<(), CliError> {
    let mut body = json!({"url": url.as_str(), "event_types": event_types});
    if let Some(description) = description {
        body["description"] = json!(description);
    }
    let body = body.to_string().into_bytes();
    let answer = client
        .post(&["webhook-endpoints"], &[], Some(body), None)
        .await?;
    output.answer(&answer, render::pairs)
}

/// Deletes an endpoint.
pub(crate) async fn delete(client: &Client, id: &str, output: &mut Output) -> Result<(), CliError> {
    let answer = client.delete(&["webhook-endpoints", id]).await?;
    output.answer(&answer, |_| format!("{id} is deleted\n"))
}

/// Lists deliveries.
pub(crate) async fn deliveries(
    client: &Client,
    filter: &DeliveriesArgs,
    output: &mut Output,
) -> Result<(), CliError> {
    let limit = filter.limit.map(|limit| limit.to_string());
    let query = super::jobs::query([
        ("endpoint", filter.endpoint.as_ref()),
        ("job", filter.job.as_ref()),
        ("status", filter.status.as_ref()),
        ("limit", limit.as_ref()),
        ("cursor", filter.cursor.as_ref()),
    ]);
    let answer = client.get(&["deliveries"], &query).await?;
    output.answer(&answer, render::deliveries)
}
