//! What one version says and keeps, as files for the versions after it.
//!
//! Nouns: a *shape* is the set of names in a JSON document; one example of each shape is kept, by its kind: a message by
//! its routing key, a document of the bucket by its name.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use futures_util::StreamExt as _;
use lapin::message::Delivery;
use lapin::types::AMQPValue;
use lapin::{Connection, ConnectionProperties};
use photofinish_kit::{Method, Rabbit};
use serde_json::{Value, json};
use tokio::task::AbortHandle;

use crate::doubler::{firehose, text};

/// Examples of a kind at most.
const EXAMPLES_MAX: usize = 8;

/// One example of each shape, by kind and shape.
type Examples = BTreeMap<String, BTreeMap<String, Value>>;

/// Listens until it is dropped.
#[derive(Debug)]
pub struct Recorder {
    examples: Arc<Mutex<Examples>>,
    task: AbortHandle,
    _connection: Connection,
}

impl Recorder {
    /// Begins to listen to every publish to a virtual host.
    pub async fn start(rabbit: &Rabbit) -> anyhow::Result<Self> {
        let traced = json!({"tracing": true});
        let path = format!("/api/vhosts/{}", rabbit.vhost());
        rabbit.call(Method::PUT, &path, Some(traced)).await?;
        let url = rabbit.url();
        let connection = Connection::connect(&url, ConnectionProperties::default());
        let connection = connection.await.context("connect as the recorder")?;
        let channel = connection.create_channel().await?;
        let mut publishes = firehose(&channel).await?;
        let examples: Arc<Mutex<Examples>> = Arc::default();
        let heard = Arc::clone(&examples);
        let task = tokio::spawn(async move {
            let _open = channel;
            while let Some(Ok(told)) = publishes.next().await {
                if let Some((kind, body)) = message(&told) {
                    keep(&mut lock(&heard), &kind, body);
                }
            }
        });
        Ok(Self {
            examples,
            task: task.abort_handle(),
            _connection: connection,
        })
    }

    /// Adds what lies in the bucket, and writes everything: `messages/{kind}.{n}.json`, `documents/{kind}.{n}.json`.
    pub fn write(&self, bucket: &Path, dir: &Path) -> anyhow::Result<usize> {
        let mut documents = Examples::new();
        walk(bucket, bucket, &mut documents)?;
        let messages = lock(&self.examples).clone();
        let mut files = 0;
        for (folder, examples) in [("messages", messages), ("documents", documents)] {
            let folder = dir.join(folder);
            std::fs::create_dir_all(&folder)?;
            for (kind, shapes) in examples {
                for (number, example) in shapes.into_values().enumerate() {
                    let file = folder.join(format!("{kind}.{number}.json"));
                    std::fs::write(&file, format!("{example:#}\n"))
                        .with_context(|| format!("write {}", file.display()))?;
                    files += 1;
                }
            }
        }
        Ok(files)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(examples: &Mutex<Examples>) -> std::sync::MutexGuard<'_, Examples> {
    examples.lock().unwrap_or_else(PoisonError::into_inner)
}

fn keep(examples: &mut Examples, kind: &str, example: Value) {
    let shapes = examples.entry(kind.to_owned()).or_default();
    if shapes.len() < EXAMPLES_MAX {
        let mut shape = Vec::new();
        names(&example, "", &mut shape);
        shape.sort();
        shape.dedup();
        shapes.entry(shape.join(" ")).or_insert(example);
    }
}

/// The names in a document, each with its path; words that tell variants apart count as names.
fn names(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(table) => {
            for (name, inner) in table {
                let path = format!("{path}.{name}");
                if let (
                    "message" | "command" | "event" | "kind" | "status" | "end",
                    Value::String(word),
                ) = (name.as_str(), inner)
                {
                    found.push(format!("{path}={word}"));
                }
                names(inner, &path, found);
                found.push(path);
            }
        }
        Value::Array(items) => {
            for item in items {
                names(item, path, found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Kind and body of an internal message; nothing for what the public says.
fn message(told: &Delivery) -> Option<(String, Value)> {
    let about = told.properties.headers().as_ref()?;
    let exchange = text(about, "exchange_name")?;
    let body = serde_json::from_slice(&told.data).ok()?;
    if exchange == "photofinish.signals" {
        return Some(("signal".to_owned(), body));
    }
    if exchange != "photofinish.pipeline" {
        return None;
    }
    let Some(AMQPValue::FieldArray(keys)) = about.inner().get("routing_keys") else {
        return None;
    };
    let key = crate::doubler::string(keys.as_slice().first()?)?;
    let key = if key.starts_with("dispatcher.submit") {
        "part.ready".to_owned()
    } else {
        key
    };
    Some((key, body))
}

/// Every JSON document below a directory.
fn walk(bucket: &Path, dir: &Path, documents: &mut Examples) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(dir).context("read the bucket's directory")? {
        let path = entry?.path();
        if path.is_dir() {
            walk(bucket, &path, documents)?;
        } else if path
            .extension()
            .is_some_and(|extension| extension == "json")
            && let Ok(body) = serde_json::from_slice(&std::fs::read(&path)?)
        {
            keep(documents, &kind_of(path.strip_prefix(bucket)?), body);
        }
    }
    Ok(())
}

/// `_system/tenant/…` is a `system.tenant`, `…/_job/run-1.json` a `run`.
fn kind_of(key: &Path) -> String {
    let mut parts = key.iter().map(std::ffi::OsStr::to_string_lossy);
    if parts.next().is_some_and(|first| first == "_system") {
        let kind = parts.next().unwrap_or_default();
        return format!("system.{kind}");
    }
    let stem = key.file_stem().unwrap_or_default().to_string_lossy();
    let word = stem.split('-').next().unwrap_or_default();
    word.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_example_of_each_shape_is_kept() {
        let mut examples = Examples::new();
        for example in [
            json!({"command": "cancel", "job": 1}),
            json!({"command": "cancel", "job": 2}),
            json!({"command": "retry", "job": 3}),
            json!({"command": "retry", "job": 3, "more": [{"a": 1}]}),
        ] {
            keep(&mut examples, "job.command", example);
        }
        assert_eq!(examples["job.command"].len(), 3);
        assert_eq!(
            kind_of(Path::new("_system/tenant/acme/1.json")),
            "system.tenant"
        );
        assert_eq!(kind_of(Path::new("acme/job_1/_job/part-1-0.json")), "part");
        assert_eq!(kind_of(Path::new("acme/job_1/manifest.json")), "manifest");
    }
}
