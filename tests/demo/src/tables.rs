//! The two tables at the end: processes and jobs.

use std::path::Path;

use anyhow::Context as _;
use reqwest::Method;
use serde_json::Value;

use crate::checks::Sources;
use crate::jobs::Finished;
use crate::stack::{self, Stack};
use crate::wiring::BUCKET;

/// Rows under headings, in columns as wide as their widest cell.
pub fn render(headings: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count());
        cells
            .chain([headings[column].chars().count()])
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<_> = (0..headings.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        format!("  {}", padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    let mut lines = vec![line(headings.to_vec())];
    let rules: Vec<_> = widths.iter().map(|width| "-".repeat(*width)).collect();
    lines.push(line(rules.iter().map(String::as_str).collect()));
    lines.extend(
        rows.iter()
            .map(|row| line(row.iter().map(String::as_str).collect())),
    );
    lines.join("\n")
}

/// Service, pid and version of everything that runs.
pub async fn processes(stack: &Stack, workers: &[(String, u32)]) -> anyhow::Result<String> {
    let mut rows = vec![rabbitmq_row(stack).await?, redis_row(stack).await?];
    for (name, pid) in stack.pids() {
        let version = version_of(&photofinish_kit::binary(&name)?).await?;
        rows.push(vec![name, pid.to_string(), version]);
    }
    let version = version_of(&photofinish_kit::binary("photofinish-worker")?).await?;
    for (id, pid) in workers {
        rows.push(vec![
            format!("photofinish-worker {id}"),
            pid.to_string(),
            version.clone(),
        ]);
    }
    Ok(render(&["service", "pid", "version"], &rows))
}

async fn rabbitmq_row(stack: &Stack) -> anyhow::Result<Vec<String>> {
    let servers = &stack.wiring()?.servers;
    let ask = |path| stack::rabbitmq(stack.http(), servers, Method::GET, path, Value::Null);
    let overview = ask("/api/overview").await?;
    let nodes = ask("/api/nodes").await?;
    let text = |value: &Value| value.as_str().map_or_else(|| "?".to_owned(), str::to_owned);
    Ok(vec![
        "rabbitmq".into(),
        text(&nodes[0]["os_pid"]),
        text(&overview["rabbitmq_version"]),
    ])
}

async fn redis_row(stack: &Stack) -> anyhow::Result<Vec<String>> {
    let pid = std::fs::read_to_string(stack.dir().join("servers/redis/pid"));
    let pid = pid.context("read Redis' pid file")?.trim().to_owned();
    let said = version_of(Path::new("redis-server")).await?;
    let version = said
        .split_whitespace()
        .find_map(|word| word.strip_prefix("v="));
    Ok(vec![
        "redis".into(),
        pid,
        version.unwrap_or(&said).to_owned(),
    ])
}

/// What a program says of its version, without its name.
async fn version_of(program: &Path) -> anyhow::Result<String> {
    let ran = tokio::process::Command::new(program)
        .arg("--version")
        .output()
        .await;
    let ran = ran.with_context(|| format!("ask {} for its version", program.display()))?;
    let said = String::from_utf8_lossy(&ran.stdout).trim().to_owned();
    anyhow::ensure!(
        ran.status.success(),
        "{} --version failed",
        program.display()
    );
    Ok(said
        .split_once(' ')
        .map_or(said.clone(), |(_, version)| version.to_owned()))
}

/// A row for each job.
pub fn jobs(rows: &[(&Finished, Sources)]) -> String {
    let headings = [
        "operation",
        "door",
        "parts",
        "items",
        "time",
        "GPU s",
        "linger s",
        "pulled while IN_PROGRESS",
        "rescued",
        "outputs",
    ];
    let row = |(finished, sources): &(&Finished, Sources)| {
        let (job, usage) = (&finished.job, &finished.job.usage);
        let folder = job
            .outputs
            .iter()
            .flatten()
            .find_map(|row| row.key.as_deref());
        let folder = folder
            .and_then(|key| key.rsplit_once('/'))
            .map_or("-", |(folder, _)| folder);
        vec![
            finished.ask.name.to_owned(),
            finished.ask.door.to_string(),
            usage.parts.to_string(),
            job.progress.items_total.to_string(),
            format!("{:.1} s", finished.took.as_secs_f64()),
            format!("{:.1}", usage.gpu_seconds),
            format!("{:.2}", usage.linger_s),
            sources.in_progress.to_string(),
            sources.rescued.to_string(),
            format!("s3://{BUCKET}/{folder}/"),
        ]
    };
    render(&headings, &rows.iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            vec!["ingest".to_owned(), "7".to_owned()],
            vec!["x".to_owned(), "1234".to_owned()],
        ];
        let expected = "  name    pid\n  ------  ----\n  ingest  7\n  x       1234";
        assert_eq!(render(&["name", "pid"], &rows), expected);
    }
}
