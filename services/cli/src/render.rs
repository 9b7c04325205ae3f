//! Answers as text for people. Pure: a value in, a text out; a field that is missing or odd shows as `-`.

mod job;

use crate::look::Look;
use crate::table::{Column, Kind, aligned, table};
pub(crate) use job::{accepted, items, job, jobs, outputs, plan};
use serde_json::Value;

/// Characters of a key's id that are shown: enough to mean it.
const KEY_ID_SHOWN: usize = 12;
/// Bytes of a message's body that are shown; all of it is in `--json`.
const BODY_SHOWN_MAX: usize = 4000;

/// A page of webhook endpoints.
pub(crate) fn endpoints(page: &Value, look: Look) -> String {
    let columns = [
        ("endpoint", Kind::Whole),
        ("status", Kind::Status),
        ("url", Kind::Text),
        ("event types", Kind::Text),
        ("description", Kind::Text),
    ];
    list(page, &columns, "no webhook endpoints", look, |endpoint| {
        let types = endpoint["event_types"].as_array().map(Vec::as_slice);
        let types: Vec<String> = types.unwrap_or_default().iter().map(text).collect();
        vec![
            text(&endpoint["id"]),
            either(&endpoint["enabled"], "enabled", "disabled"),
            text(&endpoint["url"]),
            if types.is_empty() {
                "all but job.progress".to_owned()
            } else {
                types.join(",")
            },
            text(&endpoint["description"]),
        ]
    })
}

/// A page of deliveries, each with its last attempt.
pub(crate) fn deliveries(page: &Value, look: Look) -> String {
    let columns = [
        ("delivery", Kind::Whole),
        ("status", Kind::Status),
        ("type", Kind::Whole),
        ("tries", Kind::Whole),
        ("last answer", Kind::Text),
        ("at", Kind::Time),
        ("job", Kind::Text),
        ("endpoint", Kind::Text),
    ];
    list(page, &columns, "no deliveries", look, |delivery| {
        let attempts = delivery["attempts"].as_array();
        let last = attempts.and_then(|all| all.last()).unwrap_or(&Value::Null);
        vec![
            text(&delivery["id"]),
            text(&delivery["status"]),
            text(&delivery["type"]),
            attempts.map_or(0, Vec::len).to_string(),
            outcome(last),
            time(&last["at"]),
            text(&delivery["job"]),
            text(&delivery["endpoint"]),
        ]
    })
}

/// One delivery with each of its attempts.
pub(crate) fn delivery(delivery: &Value, look: Look) -> String {
    let mut head = delivery.clone();
    let attempts = head
        .as_object_mut()
        .and_then(|head| head.remove("attempts"));
    let attempts = attempts.unwrap_or_default();
    let columns = [
        ("at", Kind::Time),
        ("answer", Kind::Text),
        ("took", Kind::Whole),
        ("response", Kind::Text),
    ];
    let rows = list(&attempts, &columns, "not tried yet", look, |attempt| {
        vec![
            time(&attempt["at"]),
            outcome(attempt),
            attempt["duration_ms"]
                .as_f64()
                .map_or_else(|| "-".to_owned(), |ms| format!("{ms:.0} ms")),
            text(&attempt["response"]),
        ]
    });
    format!("{}\n{rows}", pairs(&head, look))
}

/// A page of tenants.
pub(crate) fn tenants(page: &Value, look: Look) -> String {
    let columns = [
        ("tenant", Kind::Whole),
        ("status", Kind::Status),
        ("created", Kind::Time),
        ("quotas of its own", Kind::Text),
    ];
    list(page, &columns, "no tenants", look, |tenant| {
        let quotas = tenant["quotas"].as_object().into_iter().flatten();
        let quotas: Vec<String> = quotas
            .filter(|(_, limit)| !limit.is_null())
            .map(|(name, limit)| format!("{name}={limit}"))
            .collect();
        vec![
            text(&tenant["id"]),
            either(&tenant["paused"], "paused", "ok"),
            time(&tenant["created_at"]),
            if quotas.is_empty() {
                "-".to_owned()
            } else {
                quotas.join(" ")
            },
        ]
    })
}

/// A page of keys.
pub(crate) fn keys(page: &Value, look: Look) -> String {
    let columns = [
        ("key", Kind::Whole),
        ("id", Kind::Whole),
        ("status", Kind::Status),
        ("created", Kind::Time),
        ("last used", Kind::Time),
        ("description", Kind::Text),
    ];
    list(page, &columns, "no keys", look, |key| {
        vec![
            format!("{}…", text(&key["prefix"])),
            text(&key["id"]).chars().take(KEY_ID_SHOWN).collect(),
            either(&key["revoked"], "revoked", "ok"),
            time(&key["created_at"]),
            time(&key["last_used_at"]),
            text(&key["description"]),
        ]
    })
}

/// A page of parked messages.
pub(crate) fn parked(page: &Value, look: Look) -> String {
    let columns = [
        ("message", Kind::Whole),
        ("queue", Kind::Text),
        ("code", Kind::Whole),
        ("tenant", Kind::Text),
        ("job", Kind::Text),
        ("at", Kind::Time),
        ("reason", Kind::Text),
    ];
    list(page, &columns, "no message is parked", look, |message| {
        vec![
            text(&message["id"]),
            text(&message["queue"]),
            text(&message["code"]),
            text(&message["tenant"]),
            text(&message["job"]),
            time(&message["at"]),
            text(&message["reason"]),
        ]
    })
}

/// One parked message.
pub(crate) fn message(message: &Value, look: Look) -> String {
    let mut head = message.clone();
    let body = head.as_object_mut().and_then(|head| head.remove("body"));
    let body = body.unwrap_or_default();
    let body = match body.as_str() {
        Some(text) => text.to_owned(),
        None => format!("{body:#}"),
    };
    let shown: String = body.chars().take(BODY_SHOWN_MAX).collect();
    let more = if shown.len() < body.len() {
        "\n… (--json shows all)"
    } else {
        ""
    };
    format!("{}\n{}{more}\n", pairs(&head, look), shown.trim_end())
}

/// A page of what operators did.
pub(crate) fn audit(page: &Value, look: Look) -> String {
    let columns = [
        ("at", Kind::Time),
        ("operator", Kind::Whole),
        ("act", Kind::Whole),
        ("target", Kind::Text),
        ("detail", Kind::Text),
    ];
    list(page, &columns, "no acts", look, |act| {
        vec![
            time(&act["at"]),
            text(&act["operator"]),
            text(&act["act"]),
            text(&act["target"]),
            text(&act["detail"]),
        ]
    })
}

/// The RunPod endpoints that the service uses.
pub(crate) fn runpod_endpoints(page: &Value, look: Look) -> String {
    let columns = [("endpoint", Kind::Whole), ("status", Kind::Status)];
    list(page, &columns, "no endpoints", look, |endpoint| {
        vec![
            text(&endpoint["id"]),
            either(&endpoint["paused"], "paused", "ok"),
        ]
    })
}

/// Any object, one line for each field; nested objects by their path.
pub(crate) fn pairs(value: &Value, look: Look) -> String {
    let mut rows = Vec::new();
    flatten(String::new(), value, &mut rows);
    aligned(&rows, look)
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

/// The rows of a page as a table; a word where there are none, and the way on.
fn list(
    page: &Value,
    columns: &[Column<'_>],
    empty: &str,
    look: Look,
    row: impl Fn(&Value) -> Vec<String>,
) -> String {
    let rows = page.as_array().or_else(|| page["data"].as_array());
    let rows = rows.map(Vec::as_slice).unwrap_or_default();
    let rows: Vec<Vec<String>> = rows.iter().map(row).collect();
    let shown = if rows.is_empty() {
        format!("{empty}\n")
    } else {
        table(columns, &rows, look)
    };
    match page["next_cursor"].as_str() {
        Some(cursor) => format!("{shown}\nmore: --cursor {cursor}\n"),
        None => shown,
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
        Value::Array(all) if all.is_empty() => rows.push((path, "-".to_owned())),
        Value::Array(all) => {
            rows.push((path, all.iter().map(text).collect::<Vec<_>>().join(", ")));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            rows.push((path, text(value)));
        }
    }
}

fn outcome(attempt: &Value) -> String {
    match (&attempt["status_code"], &attempt["error"]) {
        (Value::Null, error) => text(error),
        (status, _) => text(status),
    }
}

fn either(value: &Value, yes: &str, no: &str) -> String {
    match value.as_bool() {
        Some(true) => yes.to_owned(),
        Some(false) => no.to_owned(),
        None => "-".to_owned(),
    }
}

/// A time to the second.
fn time(value: &Value) -> String {
    let told = text(value);
    match told.split_once('.') {
        Some((seconds, rest)) if rest.ends_with('Z') => format!("{seconds}Z"),
        _ => told,
    }
}

/// A value on one line: control characters would play with the terminal.
fn text(value: &Value) -> String {
    let told = match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    };
    told.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
#[path = "render_tests.rs"]
pub(crate) mod tests;
