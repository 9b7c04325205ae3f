//! Jobs of the endpoint: what RunPod lists, or what is known of some, or their end.

use photofinish_runpod::client::{JobFault, StatusAnswer, StatusError};
use serde_json::{Value, json};

use super::site::Site;
use crate::error::CliError;
use crate::output::Output;
use crate::table::plain as table;
use crate::verdict::Verdict;

/// Characters of an error that are shown in a row.
const ERROR_SHOWN_MAX: usize = 60;

/// Lists jobs, or shows or cancels those that are named.
pub(crate) async fn jobs(
    site: &Site,
    ids: &[String],
    cancel: bool,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    let endpoint = site.endpoint().await?;
    if ids.is_empty() {
        return list(site, &endpoint.id, output).await;
    }
    let (mut rows, mut failed) = (Vec::new(), None);
    for id in ids {
        let asked = if cancel {
            stop(site, &endpoint.id, id).await
        } else {
            site.data.status(&endpoint.id, id).await
        };
        rows.push(row(id, &asked));
        match asked {
            Ok(_) | Err(StatusError::NotFound { .. }) => {}
            // The others are asked all the same: one job must not keep the next from its end.
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    let unknown = rows.iter().any(|row| row["status"].is_null());
    let answer = json!({"endpoint": endpoint.id, "jobs": rows});
    output.answer(&answer, |answer| rows_text(&answer["jobs"]))?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    Ok(if unknown {
        Verdict::Unwell
    } else {
        Verdict::Well
    })
}

/// Cancels a job. One that has ended may be refused: then it is shown as it is.
async fn stop(site: &Site, endpoint: &str, id: &str) -> Result<StatusAnswer, StatusError> {
    let refused = match site.data.cancel(endpoint, id).await {
        Err(error) if error.is_refusal() => error,
        other => return other,
    };
    match site.data.status(endpoint, id).await {
        Ok(now) if now.status.is_final() => Ok(now),
        Err(gone @ StatusError::NotFound { .. }) => Err(gone),
        Ok(_) | Err(_) => Err(refused),
    }
}

async fn list(site: &Site, endpoint: &str, output: &mut Output) -> Result<Verdict, CliError> {
    let health = site.data.health(endpoint).await?;
    let listed = site.management.list_jobs(endpoint).await;
    let rows = listed.as_ref().ok().and_then(Option::as_ref).map(|rows| {
        let rows = rows.iter();
        rows.map(|row| json!({"id": row.id, "status": row.status, "worker": row.worker}))
            .collect::<Vec<Value>>()
    });
    let why = match &listed {
        Ok(Some(_)) => None,
        Ok(None) => {
            Some("RunPod's /requests is not there, or not in a shape that we know".to_owned())
        }
        Err(error) => Some(error.to_string()),
    };
    let answer = json!({"endpoint": endpoint, "counts": health.jobs, "jobs": rows,
                        "not_listed": why});
    output.answer(&answer, |answer| {
        let jobs = &health.jobs;
        let counts = format!(
            "{} waiting, {} running; {} completed, {} failed, {} run again\n",
            jobs.in_queue, jobs.in_progress, jobs.completed, jobs.failed, jobs.retried
        );
        match answer["not_listed"].as_str() {
            Some(why) => format!(
                "{counts}which ones is not known: {why}\n`photofinish endpoint jobs ID…` asks for some by id\n"
            ),
            None => format!("{counts}{}", rows_text(&answer["jobs"])),
        }
    })?;
    Ok(Verdict::Well)
}

fn row(id: &str, asked: &Result<StatusAnswer, StatusError>) -> Value {
    match asked {
        Ok(answer) => json!({
            "id": id, "status": answer.status.as_str(), "worker": answer.worker_id,
            "queued_ms": answer.delay_time_ms, "executed_ms": answer.execution_time_ms,
            "retries": answer.retries,
            "error": answer.error.as_ref().map(JobFault::message),
        }),
        Err(StatusError::NotFound { .. }) => json!({
            "id": id, "status": null, "error": "not known: never submitted here, or forgotten",
        }),
        Err(other) => json!({"id": id, "status": null, "error": other.to_string()}),
    }
}

fn rows_text(rows: &Value) -> String {
    let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
    if rows.is_empty() {
        return String::new();
    }
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let millis = |value: &Value| {
        value.as_u64().map_or_else(
            || "-".to_owned(),
            |ms| format!("{:.1} s", ms as f64 / 1000.0),
        )
    };
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                text(&row["id"]),
                text(&row["status"]),
                text(&row["worker"]),
                millis(&row["queued_ms"]),
                millis(&row["executed_ms"]),
                text(&row["error"]).chars().take(ERROR_SHOWN_MAX).collect(),
            ]
        })
        .collect();
    table(
        &["job", "status", "worker", "queued", "executed", "error"],
        &rows,
    )
}
