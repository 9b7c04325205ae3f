//! What lies in the bucket: the files of the S3 server's directory, which no process of ours can embellish.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use photofinish_demo::Stack;
use photofinish_demo::wiring::BUCKET;

/// The directory of the bucket.
pub fn root(stack: &Stack) -> PathBuf {
    stack.dir().join("s3").join(BUCKET)
}

/// The keys of the outputs that are stored for a tenant's job.
pub fn outputs(stack: &Stack, tenant: &str, job: &str) -> anyhow::Result<BTreeSet<String>> {
    let keys = below(stack, &format!("{tenant}/{job}"))?;
    Ok(keys
        .into_iter()
        .filter(|key| !is_ours(key) && !is_manifest(key))
        .collect())
}

/// The keys of what workers have rescued of a tenant's job and nobody has taken away yet.
pub fn rescued(stack: &Stack, tenant: &str, job: &str) -> anyhow::Result<BTreeSet<String>> {
    below(stack, &format!("_rescue/{tenant}/{job}"))
}

/// Every key below a prefix.
fn below(stack: &Stack, prefix: &str) -> anyhow::Result<BTreeSet<String>> {
    let root = root(stack);
    let mut keys = BTreeSet::new();
    let mut left = vec![root.join(prefix)];
    while let Some(dir) = left.pop() {
        // A directory that is not there, or not any more, holds nothing.
        let Ok(entries) = std::fs::read_dir(&dir) else {
            continue;
        };
        for entry in entries {
            let path = entry.context("read the bucket's directory")?.path();
            if path.is_dir() {
                left.push(path);
            } else {
                keys.insert(key(&root, &path));
            }
        }
    }
    Ok(keys)
}

fn key(root: &Path, path: &Path) -> String {
    let key = path.strip_prefix(root).unwrap_or(path);
    key.to_string_lossy().into_owned()
}

/// Names that begin with `_` below a job are the product's own.
fn is_ours(key: &str) -> bool {
    key.split('/').skip(2).any(|word| word.starts_with('_'))
}

fn is_manifest(key: &str) -> bool {
    key.ends_with("/manifest.json")
}
