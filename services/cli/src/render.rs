//! Answers as text for people. Pure: a value in, a text out; a field that is missing or odd shows as `-`.

use photofinish_contract::job::{Job, OutputRow, OutputStatus};
use serde_json::Value;
use std::fmt::Write as _;

/// Item rows shown of a job; all of them are in `--json`.
const ROWS_SHOWN_MAX: usize = 30;

/// Columns as wide as their widest cell.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells
            .map(|cell| cell.chars().count())
            .chain([head[column].chars().count()])
            .max()
    };
    let widths: Vec<usize> = (0..head.len()).filter_map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let mut text = line(&mut head.iter().copied());
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

/// One job with its outputs.
pub(crate) fn job(value: &Value) -> String {
    let Ok(job) = serde_json::from_value::<Job>(value.clone()) else {
        return pairs(value);
    };
    let mut rows = vec![
        pair("job", &job.id),
        pair("status", job.status.as_str()),
        pair("operation", job.operation),
        pair("run", job.run),
        pair("created", job.created_at),
        pair("items", items(&job)),
    ];
    if let Some(at) = job.finished_at {
        rows.push(pair("finished", at));
    } else {
        rows.push(pair("deadline", job.deadline_at));
    }
    if let Some(error) = &job.error {
        rows.push(pair("error", format!("{} ({})", error.detail, error.code)));
    }
    rows.push(pair("gpu seconds", format!("{:.1}", job.usage.gpu_seconds)));
    rows.push(pair("linger seconds", format!("{:.1}", job.usage.linger_s)));
    if let Some(cost) = &job.usage.cost_estimate {
        rows.push(pair(
            "cost",
            format!("{:.4} {}", cost.amount, cost.currency),
        ));
    }
    let mut text = aligned(&rows);
    if let Some(outputs) = job.outputs.filter(|outputs| !outputs.is_empty()) {
        text.push('\n');
        text.push_str(&output_rows(&outputs));
    }
    text
}

fn output_rows(outputs: &[OutputRow]) -> String {
    let rows: Vec<Vec<String>> = outputs
        .iter()
        .take(ROWS_SHOWN_MAX)
        .map(|row| {
            let note = match (&row.error, &row.key) {
                (Some(fault), _) => format!("{} ({})", fault.detail, fault.code),
                (None, Some(key)) => key.clone(),
                (None, None) => String::new(),
            };
            vec![
                row.index.to_string(),
                row.item.clone(),
                status(row.status).to_owned(),
                row.bytes.map_or_else(|| "-".to_owned(), bytes),
                row.duration_s
                    .map_or_else(|| "-".to_owned(), |s| format!("{s:.2} s")),
                note,
            ]
        })
        .collect();
    let mut text = table(
        &["#", "item", "status", "size", "length", "key or fault"],
        &rows,
    );
    let more = outputs.len().saturating_sub(ROWS_SHOWN_MAX);
    if more > 0 {
        text = format!("{text}… and {more} more (--json shows all)\n");
    }
    text
}

/// A page of jobs.
pub(crate) fn jobs(page: &Value) -> String {
    let rows: Vec<Vec<String>> = rows_of(page)
        .map(|job| {
            let progress = &job["progress"];
            vec![
                text(&job["id"]),
                text(&job["status"]),
                text(&job["operation"]),
                format!(
                    "{}/{}",
                    text(&progress["items_done"]),
                    text(&progress["items_total"])
                ),
                text(&job["created_at"]),
                text(&job["error"]["code"]),
            ]
        })
        .collect();
    let head = ["job", "status", "operation", "items", "created", "error"];
    with_cursor(page, table(&head, &rows))
}

/// A page of webhook endpoints.
pub(crate) fn endpoints(page: &Value) -> String {
    let rows: Vec<Vec<String>> = rows_of(page)
        .map(|endpoint| {
            let types = endpoint["event_types"]
                .as_array()
                .map_or_else(String::new, |types| {
                    types.iter().map(text).collect::<Vec<_>>().join(",")
                });
            vec![
                text(&endpoint["id"]),
                text(&endpoint["url"]),
                text(&endpoint["enabled"]),
                if types.is_empty() {
                    "all but job.progress".to_owned()
                } else {
                    types
                },
                text(&endpoint["description"]),
            ]
        })
        .collect();
    with_cursor(
        page,
        table(
            &["endpoint", "url", "enabled", "event types", "description"],
            &rows,
        ),
    )
}

/// A page of deliveries, each with its last attempt.
pub(crate) fn deliveries(page: &Value) -> String {
    let rows: Vec<Vec<String>> = rows_of(page)
        .map(|delivery| {
            let attempts = delivery["attempts"].as_array();
            let last = attempts.and_then(|all| all.last()).unwrap_or(&Value::Null);
            let outcome = match (&last["status_code"], &last["error"]) {
                (Value::Null, error) => text(error),
                (status, _) => text(status),
            };
            vec![
                text(&delivery["id"]),
                text(&delivery["status"]),
                text(&delivery["type"]),
                text(&delivery["job"]),
                text(&delivery["endpoint"]),
                attempts.map_or(0, Vec::len).to_string(),
                outcome,
                text(&last["at"]),
            ]
        })
        .collect();
    let head = [
        "delivery",
        "status",
        "type",
        "job",
        "endpoint",
        "tries",
        "last answer",
        "at",
    ];
    with_cursor(page, table(&head, &rows))
}

/// Any object, one line for each field; nested objects by their path.
pub(crate) fn pairs(value: &Value) -> String {
    let mut rows = Vec::new();
    flatten(String::new(), value, &mut rows);
    aligned(&rows)
}

/// Bytes as a person reads them.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut size = count as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

/// `61 of 200 stored, 2 failed`.
pub(crate) fn items(job: &Job) -> String {
    let progress = &job.progress;
    let mut text = format!("{} of {} stored", progress.items_done, progress.items_total);
    if progress.items_failed > 0 {
        // Writing to a String cannot fail.
        let _ok = write!(text, ", {} failed", progress.items_failed);
    }
    text
}

fn status(status: OutputStatus) -> &'static str {
    match status {
        OutputStatus::Pending => "pending",
        OutputStatus::Rendering => "rendering",
        OutputStatus::Ready => "ready",
        OutputStatus::Stored => "stored",
        OutputStatus::Failed => "failed",
    }
}

fn flatten(path: String, value: &Value, rows: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                flatten(path, field, rows);
            }
        }
        Value::Array(all) if all.iter().all(Value::is_object) && !all.is_empty() => {
            rows.push((path, format!("{} (--json shows them)", all.len())));
        }
        Value::Array(all) => {
            rows.push((path, all.iter().map(text).collect::<Vec<_>>().join(", ")));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            rows.push((path, text(value)));
        }
    }
}

fn rows_of(page: &Value) -> impl Iterator<Item = &Value> {
    let rows = page.as_array().or_else(|| page["data"].as_array());
    rows.map(Vec::as_slice).unwrap_or_default().iter()
}

fn with_cursor(page: &Value, mut shown: String) -> String {
    if let Some(cursor) = page["next_cursor"].as_str() {
        shown = format!("{shown}more: --cursor {cursor}\n");
    }
    shown
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

fn pair(name: &str, value: impl std::fmt::Display) -> (String, String) {
    (name.to_owned(), value.to_string())
}

fn aligned(rows: &[(String, String)]) -> String {
    let width = rows
        .iter()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or(0);
    rows.iter().fold(String::new(), |text, (name, value)| {
        format!("{text}{name:<width$}  {value}\n")
    })
}

#[cfg(test)]
#[path = "render_tests.rs"]
pub(crate) mod tests;
