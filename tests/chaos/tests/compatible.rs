//! What older versions have said and kept is still read: one example of each shape, recorded from real runs
//! (`scripts/upgrade-test.sh --record`), lies in `fixtures/{version}`. A new version adds a folder and keeps the others.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use photofinish_contract::job::Job;
use photofinish_contract::messages::{
    DeliveryDue, NotifierMessage, PartFinished, PartReady, PartSubmitted, PlanMessage, Signal,
};
use photofinish_contract::request::JobRequest;
use photofinish_model::JobSnapshot;
use photofinish_objects::{
    AuditEntry, DayUsage, KeyRecord, LaneClaim, PartRecord, PausesRecord, RunDoc, TenantRecord,
    WebhookEndpointRecord,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Every file of a kind of folder, of all versions.
fn fixtures(folder: &str) -> anyhow::Result<Vec<PathBuf>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let mut files = Vec::new();
    for version in std::fs::read_dir(&root).context("read the fixtures")? {
        for file in std::fs::read_dir(version?.path().join(folder))? {
            files.push(file?.path());
        }
    }
    Ok(files)
}

/// What is asked of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// It is read.
    Read,
    /// It is read and written again, and nothing of it is lost on the way.
    Kept,
}

fn reads<T: DeserializeOwned + Serialize>(value: &Value, asked: Asked) -> anyhow::Result<()> {
    let read: T = serde_json::from_value(value.clone())?;
    if asked == Asked::Read {
        return Ok(());
    }
    let again = serde_json::to_value(&read)?;
    let back: T = serde_json::from_value(again.clone())?;
    anyhow::ensure!(serde_json::to_value(&back)? == again, "written otherwise");
    lost(value, &again, "")
}

/// Every name of the older document is there again, with its value. Null may be left out.
fn lost(older: &Value, again: &Value, path: &str) -> anyhow::Result<()> {
    match (older, again) {
        (Value::Object(older), Value::Object(again)) => {
            for (name, value) in older.iter().filter(|(_, value)| !value.is_null()) {
                let path = format!("{path}/{name}");
                let there = again.get(name).with_context(|| format!("{path} is lost"))?;
                lost(value, there, &path)?;
            }
            Ok(())
        }
        (Value::Array(older), Value::Array(again)) => {
            anyhow::ensure!(older.len() == again.len(), "{path} has another length");
            let mut pairs = older.iter().zip(again);
            pairs.try_for_each(|(older, again)| lost(older, again, path))
        }
        (Value::Number(older), Value::Number(again)) => {
            anyhow::ensure!(older.as_f64() == again.as_f64(), "{path} is changed");
            Ok(())
        }
        _ => {
            anyhow::ensure!(older == again, "{path}: {older} became {again}");
            Ok(())
        }
    }
}

fn message(kind: &str, value: &Value, asked: Asked) -> anyhow::Result<()> {
    match kind {
        "job.accepted" | "job.command" => reads::<PlanMessage>(value, asked),
        "part.ready" => reads::<PartReady>(value, asked),
        "part.submitted" => reads::<PartSubmitted>(value, asked),
        "part.finished" => reads::<PartFinished>(value, asked),
        "job.event" => reads::<NotifierMessage>(value, asked),
        "delivery.due" => reads::<DeliveryDue>(value, asked),
        "signal" => reads::<Signal>(value, asked),
        other => anyhow::bail!("no type is known for {other}"),
    }
}

fn document(kind: &str, value: &Value, asked: Asked) -> anyhow::Result<()> {
    match kind {
        "run" => reads::<RunDoc>(value, asked),
        "end" => reads::<JobSnapshot>(value, asked),
        "part" => reads::<PartRecord>(value, asked),
        "manifest" => reads::<Job>(value, asked),
        "request" => reads::<JobRequest>(value, asked),
        "system.tenant" => reads::<TenantRecord>(value, asked),
        "system.key" => reads::<KeyRecord>(value, asked),
        "system.lane" => reads::<LaneClaim>(value, asked),
        "system.pauses" => reads::<PausesRecord>(value, asked),
        "system.webhook_endpoint" => reads::<WebhookEndpointRecord>(value, asked),
        "system.audit" => reads::<AuditEntry>(value, asked),
        "system.usage" => reads::<DayUsage>(value, asked),
        other => anyhow::bail!("no type is known for {other}"),
    }
}

/// Reads every file; gives the kinds that were there.
fn all(
    folder: &str,
    read: fn(&str, &Value, Asked) -> anyhow::Result<()>,
) -> anyhow::Result<std::collections::BTreeSet<String>> {
    let mut kinds = std::collections::BTreeSet::new();
    for file in fixtures(folder)? {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let kind = name.rsplitn(3, '.').nth(2).unwrap_or_default().to_owned();
        let value = serde_json::from_slice(&std::fs::read(&file)?)?;
        read(&kind, &value, Asked::Kept).with_context(|| file.display().to_string())?;
        kinds.insert(kind);
    }
    Ok(kinds)
}

#[test]
fn messages_of_older_versions_are_read() -> anyhow::Result<()> {
    let kinds = all("messages", message)?;
    for wanted in [
        "job.accepted",
        "job.command",
        "part.ready",
        "part.submitted",
        "part.finished",
        "job.event",
        "delivery.due",
        "signal",
    ] {
        assert!(kinds.contains(wanted), "no {wanted} in {kinds:?}");
    }
    Ok(())
}

#[test]
fn documents_of_older_versions_are_read() -> anyhow::Result<()> {
    let kinds = all("documents", document)?;
    for wanted in [
        "run",
        "end",
        "part",
        "manifest",
        "system.tenant",
        "system.key",
        "system.webhook_endpoint",
    ] {
        assert!(kinds.contains(wanted), "no {wanted} in {kinds:?}");
    }
    Ok(())
}

/// Old bodies of the internal messages lack what came later; new ones have what older versions do not know. Both ways
/// is what a rolling upgrade needs, so no internal message may refuse what it does not know.
#[test]
fn messages_with_names_of_tomorrow_are_read() -> anyhow::Result<()> {
    for file in fixtures("messages")? {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let kind = name.rsplitn(3, '.').nth(2).unwrap_or_default();
        let mut value: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
        tomorrow(&mut value);
        message(kind, &value, Asked::Read).with_context(|| file.display().to_string())?;
    }
    Ok(())
}

/// The outermost object gets one more name.
fn tomorrow(value: &mut Value) {
    if let Value::Object(table) = value {
        table.insert("of_tomorrow".to_owned(), Value::Bool(true));
    }
}
