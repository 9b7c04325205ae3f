//! Local files to where a job can name them.
//!
//! Guarantee: each file is uploaded once, however often it stands in the request and however often a submit is tried:
//! what is uploaded is remembered, by the SHA-256 of its content, for as long as its address holds for a job that
//! takes its whole deadline. A broken upload is tried again from its beginning: a store takes one PUT whole or not at
//! all, so nothing half done is ever named in a job, and there is nothing to go on from.

use crate::client::{Client, UploadError};
use crate::commands::request::Draft;
use crate::error::CliError;
use crate::output::Output;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Uploads at once.
const AT_ONCE_MAX: usize = 4;
/// Tries of one file; the pauses between them come to a minute, in which a connection may be away.
const TRIES_MAX: u32 = 8;
/// Before the second try; doubled before each further one.
const PAUSE: Duration = Duration::from_millis(500);
/// What S3 takes in one PUT.
const FILE_BYTES_MAX: u64 = 5 << 30;
/// What must be left of an address's life for it to be named in another job.
const LIFE_MIN: SignedDuration = SignedDuration::from_hours(12);

/// A file that lies where jobs can name it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Uploaded {
    url: String,
    url_expires_at: Timestamp,
}

/// What `POST /v1/uploads` answers.
#[derive(Debug, Deserialize)]
struct Target {
    put_url: String,
    url: String,
    url_expires_at: Timestamp,
}

/// A file to upload: its content's name and its length.
#[derive(Debug, Clone)]
struct File {
    path: PathBuf,
    sha256: String,
    bytes: u64,
}

/// Uploads what the draft names, and puts the addresses into its body. `home` is where the user's caches lie.
pub(crate) async fn files(
    client: &Client,
    draft: &mut Draft,
    home: Option<PathBuf>,
    output: &Output,
) -> Result<(), CliError> {
    if draft.files.is_empty() {
        return Ok(());
    }
    let mut by_content: BTreeMap<String, File> = BTreeMap::new();
    let mut places = Vec::new();
    for (pointer, path) in draft.files.drain(..) {
        let file = measure(&path)?;
        places.push((pointer, file.sha256.clone()));
        by_content.entry(file.sha256.clone()).or_insert(file);
    }
    let cache = Cache::of(client, home);
    let bar = bar(output, by_content.values().map(|file| file.bytes).sum());
    let uploaded: BTreeMap<String, String> = stream::iter(by_content.into_values())
        .map(|file| one(client, &cache, file, &bar, output))
        .buffer_unordered(AT_ONCE_MAX)
        .try_collect()
        .await?;
    bar.finish_and_clear();
    for (pointer, sha256) in places {
        if let (Some(place), Some(url)) = (draft.body.pointer_mut(&pointer), uploaded.get(&sha256))
        {
            *place = url.clone().into();
        }
    }
    Ok(())
}

async fn one(
    client: &Client,
    cache: &Cache,
    file: File,
    bar: &ProgressBar,
    output: &Output,
) -> Result<(String, String), CliError> {
    if let Some(url) = cache.get(&file.sha256) {
        bar.inc(file.bytes);
        output.note(&format!("{} is uploaded already", file.path.display()));
        return Ok((file.sha256, url));
    }
    let (mut why, mut pause) = (String::new(), PAUSE);
    for attempt in 0..TRIES_MAX {
        if attempt > 0 {
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        let target = match client.post(&["uploads"], &[], None, None).await {
            Ok(answer) => target(answer)?,
            Err(error) if error.is_passing() => {
                why = error.to_string();
                continue;
            }
            Err(error) => return Err(error),
        };
        let progress = bar.clone();
        let before = bar.position();
        let put = client.upload(&target.put_url, &file.path, file.bytes, move |n| {
            progress.inc(n);
        });
        match put.await {
            Ok(()) => {
                output.note(&format!("{} is uploaded", file.path.display()));
                cache.put(&file.sha256, &target);
                return Ok((file.sha256, target.url));
            }
            Err(UploadError::File(source)) => {
                let path = file.path;
                return Err(CliError::Request { path, source });
            }
            Err(
                error @ (UploadError::Broken(_) | UploadError::Refused(_) | UploadError::Stalled),
            ) => {
                bar.set_position(before);
                why = error.to_string();
                // A new address may help once.
                if error.is_final() && attempt > 0 {
                    break;
                }
            }
        }
    }
    let path = file.path;
    Err(CliError::Upload { path, why })
}

fn target(answer: serde_json::Value) -> Result<Target, CliError> {
    serde_json::from_value(answer).map_err(|error| CliError::Foreign {
        call: "/v1/uploads".to_owned(),
        status: 201,
        text: error.to_string(),
    })
}

/// The content's SHA-256 and length; what no upload can hold is refused.
fn measure(path: &Path) -> Result<File, CliError> {
    let refuse = |why: String| Err(CliError::Usage(format!("{}: {why}", path.display())));
    let read = || -> std::io::Result<(String, u64)> {
        let mut file = std::fs::File::open(path)?;
        let (mut hash, mut block, mut bytes) = (Sha256::new(), vec![0; 256 * 1024], 0);
        loop {
            let read = file.read(&mut block)?;
            if read == 0 {
                return Ok((hex::encode(hash.finalize()), bytes));
            }
            hash.update(&block[..read]);
            bytes += read as u64;
        }
    };
    let (sha256, bytes) = read().map_err(|source| CliError::Request {
        path: path.to_owned(),
        source,
    })?;
    match bytes {
        0 => refuse("the file is empty".to_owned()),
        bytes if bytes > FILE_BYTES_MAX => refuse(format!(
            "it has {bytes} bytes, an upload takes {FILE_BYTES_MAX}: put it where an address can name it"
        )),
        bytes => Ok(File {
            path: path.to_owned(),
            sha256,
            bytes,
        }),
    }
}

/// What was uploaded before. Only a shortcut: without a place for it, everything is uploaded.
#[derive(Debug)]
struct Cache {
    dir: Option<PathBuf>,
}

impl Cache {
    fn of(client: &Client, home: Option<PathBuf>) -> Self {
        let dir = home.map(|home| home.join("photofinish/uploads").join(client.key_mark()));
        Self { dir }
    }

    fn get(&self, sha256: &str) -> Option<String> {
        let text = std::fs::read(self.dir.as_ref()?.join(sha256)).ok()?;
        let uploaded: Uploaded = serde_json::from_slice(&text).ok()?;
        let left = uploaded.url_expires_at.duration_since(now());
        (left >= LIFE_MIN).then_some(uploaded.url)
    }

    fn put(&self, sha256: &str, target: &Target) {
        let uploaded = Uploaded {
            url: target.url.clone(),
            url_expires_at: target.url_expires_at,
        };
        let (Some(dir), Ok(text)) = (&self.dir, serde_json::to_vec(&uploaded)) else {
            return;
        };
        // The address opens the file to whoever has it: nobody else may read it.
        let _not_needed = private(dir).and_then(|()| {
            let part = dir.join(format!("{sha256}.part"));
            std::fs::write(&part, text)?;
            std::fs::rename(&part, dir.join(sha256))
        });
    }
}

fn private(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a command line has no clock of the runtime's; it decides nothing but how old its own shortcut is"
)]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

fn bar(output: &Output, bytes: u64) -> ProgressBar {
    if !output.bars {
        return ProgressBar::hidden();
    }
    let template = "uploading [{wide_bar}] {bytes}/{total_bytes} {bytes_per_sec}";
    let style = ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ");
    ProgressBar::new(bytes).with_style(style)
}

#[cfg(test)]
#[path = "upload_tests.rs"]
mod tests;
