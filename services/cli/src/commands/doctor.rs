//! `doctor`: what the deployment stands on, as the service tells an operator, after what can be seen from here: that
//! something answers, of which version, with which clock, and that the keys open it.

use crate::client::Client;
use crate::commands::upload::now;
use crate::error::CliError;
use crate::look::Look;
use crate::output::Output;
use crate::settings::{Settings, shown};
use crate::table::{Kind, table};
use crate::verdict::Verdict;
use jiff::fmt::rfc2822;
use photofinish_contract::doctor::{Check, Diagnosis, State};
use serde_json::Value;
use std::fmt::Write as _;

/// Clocks that differ by more are told of: signatures of webhooks are refused after five minutes.
const SKEW_S_MAX: i64 = 30;

/// Asks, shows, and says by its verdict whether something is wrong.
pub(crate) async fn doctor(settings: &Settings, output: &mut Output) -> Result<Verdict, CliError> {
    let mut checks = vec![file(settings)];
    checks.extend(service(settings).await?);
    checks.push(tenant(settings).await?);
    checks.extend(operator(settings).await?);
    let diagnosis = Diagnosis { checks };
    let answer = serde_json::to_value(&diagnosis).unwrap_or_default();
    let look = output.look();
    output.answer(&answer, |_| text(&diagnosis, look))?;
    Ok(if diagnosis.is_wrong() {
        Verdict::Unwell
    } else {
        Verdict::Well
    })
}

fn file(settings: &Settings) -> Check {
    let name = "configuration file";
    match (&settings.path, settings.found, settings.warnings.first()) {
        (Some(path), true, Some(_)) => Check::not(
            name,
            State::Warning,
            format!("others can read {}", path.display()),
            format!("chmod 600 {}: it may hold keys.", path.display()),
        ),
        (Some(path), true, None) => Check::ok(name, path.display().to_string()),
        (_, _, _) => Check::ok(name, "none"),
    }
}

/// That the service answers, its version and its clock. An error if nothing answers: the rest would say the same.
async fn service(settings: &Settings) -> Result<Vec<Check>, CliError> {
    let client = Client::new(&settings.base()?, "")?;
    let answer = client.probe(&["openapi.json"]).await?;
    let skew = skew(&answer);
    let url = &settings.url.text;
    let mut checks = vec![Check::ok("service", format!("{url} answers"))];
    let document: Value = answer.json().await.unwrap_or_default();
    checks.push(version(document["info"]["version"].as_str()));
    checks.push(clock(skew));
    Ok(checks)
}

fn version(service: Option<&str>) -> Check {
    let own = env!("CARGO_PKG_VERSION");
    match service {
        Some(service) if service == own => Check::ok("version", format!("{own}, as the service's")),
        Some(service) => Check::not(
            "version",
            State::Warning,
            format!("the service has {service}, this is {own}"),
            "Take the command line of the service's version: newer fields are not shown by an older one.",
        ),
        None => Check::not(
            "version",
            State::Unknown,
            format!("the service does not tell, this is {own}"),
            "Does the address name the ingest service itself?",
        ),
    }
}

/// Seconds by which the service's clock is ahead of ours.
fn skew(answer: &reqwest::Response) -> Option<i64> {
    let date = answer.headers().get("date")?.to_str().ok()?;
    let date = rfc2822::parse(date).ok()?.timestamp();
    Some(date.as_second() - now().as_second())
}

fn clock(skew: Option<i64>) -> Check {
    match skew {
        Some(skew) if skew.abs() <= SKEW_S_MAX => Check::ok(
            "own clock",
            format!("within {SKEW_S_MAX} s of the service's"),
        ),
        Some(skew) => Check::not(
            "own clock",
            State::Warning,
            format!(
                "{} s {} the service's",
                skew.abs(),
                if skew > 0 { "behind" } else { "ahead of" }
            ),
            "Set this machine's clock by NTP: signed addresses and webhook signatures hold for a while only.",
        ),
        None => Check::not(
            "own clock",
            State::Unknown,
            "the answer has no date",
            "A proxy in between may take it away.",
        ),
    }
}

async fn tenant(settings: &Settings) -> Result<Check, CliError> {
    let name = "api key";
    let Some(key) = &settings.api_key else {
        return Ok(Check::not(
            name,
            State::Unknown,
            "none is set",
            "Set PHOTOFINISH_API_KEY; an operator makes keys: `photofinish keys create TENANT`.",
        ));
    };
    let one = [("limit".to_owned(), "1".to_owned())];
    let client = settings.tenant_client()?;
    Ok(opens(name, &key.text, client.get(&["jobs"], &one).await))
}

/// The service's own findings, if there is a key to ask with.
async fn operator(settings: &Settings) -> Result<Vec<Check>, CliError> {
    let name = "operator key";
    let Some(key) = &settings.operator_key else {
        return Ok(vec![Check::not(
            name,
            State::Unknown,
            "none is set, so the service was not asked what it stands on",
            "Set PHOTOFINISH_OPERATOR_KEY: it is the deployment's `auth.operator_key`.",
        )]);
    };
    let client = settings.operator_client()?;
    match client.get(&["admin", "doctor"], &[]).await {
        Ok(answer) => {
            let mut checks = vec![Check::ok(name, format!("{} is taken", shown(&key.text)))];
            let found: Diagnosis =
                serde_json::from_value(answer).map_err(|error| CliError::Foreign {
                    call: "/v1/admin/doctor".to_owned(),
                    status: 200,
                    text: error.to_string(),
                })?;
            checks.extend(found.checks);
            Ok(checks)
        }
        refused => Ok(vec![opens(name, &key.text, refused)]),
    }
}

fn opens(name: &str, key: &str, answer: Result<Value, CliError>) -> Check {
    match answer {
        Ok(_) => Check::ok(name, format!("{} is taken", shown(key))),
        Err(CliError::Problem(problem)) if problem.status == 401 || problem.status == 403 => {
            Check::not(
                name,
                State::Wrong,
                format!("{} is refused: {}", shown(key), problem.detail),
                "It may be revoked, of another deployment, or of the other kind; `photofinish config` shows where it comes from.",
            )
        }
        Err(error) => Check::not(
            name,
            State::Wrong,
            error.to_string(),
            error
                .next_step()
                .unwrap_or_else(|| "Try again in a moment.".to_owned()),
        ),
    }
}

fn text(diagnosis: &Diagnosis, look: Look) -> String {
    let rows: Vec<Vec<String>> = diagnosis
        .checks
        .iter()
        .map(|check| {
            vec![
                check.state.as_str().to_owned(),
                check.name.clone(),
                check.found.clone(),
            ]
        })
        .collect();
    let columns = [
        ("state", Kind::Status),
        ("check", Kind::Whole),
        ("found", Kind::Text),
    ];
    let mut text = table(&columns, &rows, look);
    for check in &diagnosis.checks {
        if let (State::Unknown | State::Warning | State::Wrong, Some(advice)) =
            (check.state, &check.advice)
        {
            let _infallible = write!(text, "\n{}: {advice}\n", check.name);
        }
    }
    text
}

#[cfg(test)]
#[path = "doctor_tests.rs"]
mod tests;
