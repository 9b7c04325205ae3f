//! Jobs, their outputs and their plans as text for people.

use super::{bytes, list, pairs, text, time};
use crate::look::{Look, mood_of};
use crate::table::{Column, Kind, aligned, table};
use photofinish_contract::job::{Job, OutputRow, OutputStatus};
use serde_json::Value;
use std::fmt::Write as _;

/// Item rows shown of a job; all of them are in `--json`.
const ROWS_SHOWN_MAX: usize = 30;

const OUTPUT_COLUMNS: [Column<'static>; 6] = [
    ("#", Kind::Whole),
    ("item", Kind::Text),
    ("status", Kind::Status),
    ("size", Kind::Whole),
    ("length", Kind::Whole),
    ("key or fault", Kind::Text),
];

/// A job that was taken, and what to do next.
pub(crate) fn accepted(value: &Value, look: Look) -> String {
    let Ok(job) = serde_json::from_value::<Job>(value.clone()) else {
        return pairs(value, look);
    };
    let (id, status) = (&job.id, painted(job.status.as_str(), look));
    let total = job.progress.items_total;
    let items = if total == 1 { "item" } else { "items" };
    format!(
        "{id} {status}: {} of {total} {items}\nfollow it: photofinish watch {id}\n",
        job.operation
    )
}

/// One job with its outputs.
pub(crate) fn job(value: &Value, look: Look) -> String {
    let Ok(job) = serde_json::from_value::<Job>(value.clone()) else {
        return pairs(value, look);
    };
    let mut rows = vec![
        pair("job", &job.id),
        pair("status", painted(job.status.as_str(), look)),
        pair("operation", job.operation),
        pair("run", job.run),
        pair("created", time(&value["created_at"])),
        pair("items", items(&job)),
    ];
    if job.finished_at.is_some() {
        rows.push(pair("finished", time(&value["finished_at"])));
    } else {
        rows.push(pair("deadline", time(&value["deadline_at"])));
    }
    if value["outputs_deleted_at"].is_string() {
        let at = time(&value["outputs_deleted_at"]);
        rows.push(pair("outputs deleted", at));
    }
    if let Some(seconds) = job.progress.eta_s {
        rows.push(pair("seconds left", format!("{seconds:.0}")));
    }
    if let Some(error) = &job.error {
        rows.push(pair("error", format!("{} ({})", error.detail, error.code)));
    }
    rows.push(pair("gpu seconds", format!("{:.1}", job.usage.gpu_seconds)));
    rows.push(pair("linger seconds", format!("{:.1}", job.usage.linger_s)));
    if let Some(cost) = &job.usage.cost_estimate {
        let cost = format!("{:.4} {}", cost.amount, cost.currency);
        rows.push(pair("cost", cost));
    }
    for (key, value) in job.metadata.iter().flatten() {
        rows.push(pair(&format!("metadata {key}"), text(value)));
    }
    let mut text = aligned(&rows, look);
    if let Some(outputs) = job.outputs.filter(|outputs| !outputs.is_empty()) {
        text.push('\n');
        text.push_str(&output_rows(&outputs, look));
    }
    text
}

fn output_rows(outputs: &[OutputRow], look: Look) -> String {
    let shown = outputs.iter().take(ROWS_SHOWN_MAX);
    let rows: Vec<Vec<String>> = shown.map(output_row).collect();
    let mut text = table(&OUTPUT_COLUMNS, &rows, look);
    let more = outputs.len().saturating_sub(ROWS_SHOWN_MAX);
    if more > 0 {
        text = format!("{text}… and {more} more (`outputs list` shows all)\n");
    }
    text
}

fn output_row(row: &OutputRow) -> Vec<String> {
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
}

/// A page of outputs.
pub(crate) fn outputs(page: &Value, look: Look) -> String {
    list(
        page,
        &OUTPUT_COLUMNS,
        "no outputs",
        look,
        |row| match serde_json::from_value::<OutputRow>(row.clone()) {
            Ok(row) => output_row(&row),
            Err(_) => vec![
                text(&row["index"]),
                text(&row["item"]),
                text(&row["status"]),
            ],
        },
    )
}

/// A page of jobs.
pub(crate) fn jobs(page: &Value, look: Look) -> String {
    let columns = [
        ("job", Kind::Whole),
        ("status", Kind::Status),
        ("operation", Kind::Whole),
        ("items", Kind::Whole),
        ("created", Kind::Time),
        ("error", Kind::Text),
    ];
    list(page, &columns, "no jobs", look, |job| {
        let progress = &job["progress"];
        let items = [&progress["items_done"], &progress["items_total"]].map(text);
        vec![
            text(&job["id"]),
            text(&job["status"]),
            text(&job["operation"]),
            items.join("/"),
            time(&job["created_at"]),
            text(&job["error"]["code"]),
        ]
    })
}

/// What a request would be, part by part.
pub(crate) fn plan(plan: &Value, look: Look) -> String {
    let seconds = |value: &Value| {
        value
            .as_f64()
            .map_or_else(|| "-".to_owned(), |s| format!("{s:.1} s"))
    };
    let cost = &plan["cost_estimate"];
    let cost = match cost["amount"].as_f64() {
        Some(amount) => format!("{amount:.4} {}", text(&cost["currency"])),
        None => "not known: the deployment names no price".to_owned(),
    };
    let head = [
        pair("operation", text(&plan["operation"])),
        pair("items", text(&plan["items"])),
        pair("frames", text(&plan["frames"])),
        pair("on GPUs", seconds(&plan["estimated_s"])),
        pair("until done", seconds(&plan["wall_s"])),
        pair("cost", cost),
    ];
    let columns = [
        ("part", Kind::Whole),
        ("items", Kind::Whole),
        ("frames", Kind::Whole),
        ("on a GPU", Kind::Whole),
    ];
    let parts = list(&plan["parts"], &columns, "no parts", look, |part| {
        let number = part["part"].as_u64().map(|part| (part + 1).to_string());
        vec![
            number.unwrap_or_default(),
            part["items"].as_array().map_or(0, Vec::len).to_string(),
            text(&part["frames"]),
            seconds(&part["estimated_s"]),
        ]
    });
    format!("{}\n{parts}", aligned(&head, look))
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

fn painted(word: &str, look: Look) -> String {
    mood_of(word).map_or_else(|| word.to_owned(), |mood| look.paint(word, mood))
}

fn pair(name: &str, value: impl std::fmt::Display) -> (String, String) {
    (name.to_owned(), value.to_string())
}
