//! Tenants and keys, with the operator's key.

use crate::client::Client;
use crate::error::CliError;
use crate::output::Output;
use crate::render;
use serde_json::json;

/// Makes a tenant; the answer shows its webhook secret, once.
pub(crate) async fn create_tenant(
    client: &Client,
    name: &str,
    output: &mut Output,
) -> Result<(), CliError> {
    let body = json!({"id": name}).to_string().into_bytes();
    let answer = client
        .post(&["admin", "tenants"], &[], Some(body), None)
        .await?;
    output.answer(&answer, render::pairs)
}

/// Makes an API key of a tenant; the answer shows it, once.
pub(crate) async fn create_key(
    client: &Client,
    tenant: &str,
    output: &mut Output,
) -> Result<(), CliError> {
    let path = ["admin", "tenants", tenant, "keys"];
    let answer = client.post(&path, &[], Some(b"{}".to_vec()), None).await?;
    output.answer(&answer, render::pairs)
}
