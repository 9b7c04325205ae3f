//! Comparing the file with RunPod, and bringing RunPod to it.

use photofinish_runpod::management::{Endpoint, ManagementError, patch_body};
use serde_json::json;

use super::difference::Difference;
use super::site::Site;
use crate::commands::ask;
use crate::endpoint_error::EndpointError;
use crate::error::CliError;
use crate::output::Output;
use crate::verdict::Verdict;

/// Shows what differs; changes nothing.
pub(crate) async fn diff(site: &Site, output: &mut Output) -> Result<Verdict, CliError> {
    let difference = compare(site).await?;
    output.answer(&difference.to_json(), |_| difference.to_text())?;
    Ok(if difference.is_nothing() {
        Verdict::Well
    } else {
        Verdict::Differs
    })
}

/// Shows what differs, asks, and changes it. Again, it changes nothing.
pub(crate) async fn apply(
    site: &Site,
    yes: bool,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    let difference = compare(site).await?;
    let mut answer = difference.to_json();
    if difference.is_nothing() {
        answer["applied"] = json!(false);
        output.answer(&answer, |_| difference.to_text())?;
        return Ok(Verdict::Well);
    }
    let fields = difference.recreates();
    if !fields.is_empty() {
        output.text(&difference.to_text())?;
        return Err(EndpointError::CannotChange { fields }.into());
    }
    output.text(&difference.to_text())?;
    if !yes {
        let question = match &difference.actual {
            Some(_) => "Change it so?",
            None => "Make it?",
        };
        if !ask::yes(question, "--yes")? {
            output.note("nothing was changed");
            return Ok(Verdict::Unwell);
        }
    }
    let endpoint = match &difference.actual {
        None => create(site, &difference, output).await?,
        Some(actual) => change(site, &difference, actual, output).await?,
    };
    answer["applied"] = json!(true);
    answer["endpoint"] = json!({"id": endpoint.id, "name": endpoint.spec.name});
    output.answer(&answer, |_| done(&difference, &endpoint))?;
    let left = Difference::new(difference.desired, Some(endpoint), None);
    if left.is_nothing() {
        return Ok(Verdict::Well);
    }
    let fields = left.changes.iter().map(|one| one.field.to_string());
    Err(EndpointError::NotTaken {
        fields: fields.collect(),
    }
    .into())
}

async fn compare(site: &Site) -> Result<Difference, CliError> {
    let desired = site.desired().await?;
    let actual = site.find(&desired.name).await?;
    let workers = match &actual {
        // Only told beside the difference: a key that may not ask for them is no hindrance.
        Some(actual) => site.management.workers(&actual.id).await.ok(),
        None => None,
    };
    Ok(Difference::new(desired, actual, workers))
}

async fn create(
    site: &Site,
    difference: &Difference,
    output: &Output,
) -> Result<Endpoint, CliError> {
    let created = site.management.create_endpoint(&difference.desired).await?;
    if created.was_found {
        output.note("RunPod's answer was lost; the endpoint is there and was made once");
    }
    Ok(created.endpoint)
}

async fn change(
    site: &Site,
    difference: &Difference,
    actual: &Endpoint,
    output: &Output,
) -> Result<Endpoint, CliError> {
    let body = patch_body(&difference.desired, &difference.changes);
    match site.management.patch_endpoint(&actual.id, &body).await {
        Ok(endpoint) => Ok(endpoint),
        Err(error) if error.is_unknown() => {
            output.note("RunPod's answer was lost; looking whether the change was made");
            settled(site, difference, actual, error).await
        }
        Err(error) => Err(error.into()),
    }
}

/// After a PATCH whose answer was lost: the endpoint, if it is as it shall be, else what went wrong.
async fn settled(
    site: &Site,
    difference: &Difference,
    actual: &Endpoint,
    error: ManagementError,
) -> Result<Endpoint, CliError> {
    let now = site.management.get_endpoint(&actual.id).await?;
    let left = photofinish_runpod::management::diff(&difference.desired, &now.spec);
    if left.is_empty() {
        Ok(now)
    } else {
        Err(error.into())
    }
}

fn done(difference: &Difference, endpoint: &Endpoint) -> String {
    let (name, id) = (&endpoint.spec.name, &endpoint.id);
    if difference.actual.is_none() {
        return format!(
            "\n{name} is made: RUNPOD_ENDPOINT_ID={id}\n\
             `photofinish endpoint health` shows its workers as they come up.\n"
        );
    }
    let count = difference.changes.len();
    format!("\n{name} ({id}) is changed: {count} setting(s)\n")
}
