//! Health as a person wants to read it. Pure.

use photofinish_runpod::management::WorkerStage;

use super::health::{Finding, Snapshot};
use crate::table::plain as table;

/// The whole page.
pub(crate) fn text(snapshot: &Snapshot, findings: &[Finding]) -> String {
    let endpoint = &snapshot.endpoint;
    let version = snapshot
        .workers
        .endpoint_version
        .map_or_else(String::new, |version| format!(", version {version}"));
    let mut lines = vec![
        format!("{} ({}){version}", endpoint.spec.name, endpoint.id),
        format!("image    {}", endpoint.spec.image),
    ];
    if let Some(health) = &snapshot.jobs {
        let jobs = &health.jobs;
        lines.push(format!(
            "jobs     {} waiting, {} running; {} completed, {} failed",
            jobs.in_queue, jobs.in_progress, jobs.completed, jobs.failed
        ));
    }
    lines.push(format!("workers  {}", workers_line(snapshot)));
    let releases = &snapshot.releases;
    if releases.in_progress {
        lines.push(format!(
            "rollout  {} of {} worker(s) on the newest version",
            releases.workers_on_latest, releases.workers_total
        ));
    }
    let unknown = snapshot.unknown.iter();
    lines.extend(unknown.map(|what| format!("not known: {what}")));
    lines.push(worker_rows(snapshot) + &finding_lines(snapshot, findings));
    lines.join("\n")
}

fn workers_line(snapshot: &Snapshot) -> String {
    let bounds = &snapshot.endpoint.spec.workers;
    let stages = [
        WorkerStage::Running,
        WorkerStage::Idle,
        WorkerStage::Initializing,
        WorkerStage::Throttled,
        WorkerStage::Unhealthy,
    ];
    let counted: Vec<String> = stages
        .iter()
        .map(|stage| (snapshot.workers.count(stage), stage.as_str()))
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    let counted = if !snapshot.knows_workers {
        "not known".to_owned()
    } else if counted.is_empty() {
        "none is up".to_owned()
    } else {
        counted.join(", ")
    };
    format!("{counted} ({} to {})", bounds.min, bounds.max)
}

fn worker_rows(snapshot: &Snapshot) -> String {
    if snapshot.workers.rows.is_empty() {
        return String::new();
    }
    let dash = || "-".to_owned();
    let rows: Vec<Vec<String>> = snapshot
        .workers
        .rows
        .iter()
        .map(|row| {
            let version = row.version.map_or_else(dash, |version| version.to_string());
            vec![
                row.id.clone(),
                row.stage.as_str().to_owned(),
                if row.is_stale {
                    format!("{version} (older)")
                } else {
                    version
                },
                row.gpu_type.clone().unwrap_or_else(dash),
                row.data_center.clone().unwrap_or_else(dash),
                row.uptime_s.map_or_else(dash, span),
            ]
        })
        .collect();
    let head = ["worker", "state", "version", "gpu", "place", "up for"];
    format!("\n{}", table(&head, &rows))
}

fn finding_lines(snapshot: &Snapshot, findings: &[Finding]) -> String {
    if findings.is_empty() && snapshot.unknown.is_empty() {
        return "\nnothing is wrong\n".to_owned();
    }
    findings.iter().fold(String::new(), |text, finding| {
        let mark = if finding.is_fault { "wrong" } else { "note" };
        format!("{text}\n{mark}: {}\n  {}\n", finding.text, finding.advice)
    })
}

/// `3 h 20 min`, `4 min`, `12 s`.
fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}
