//! Downloading a job's outputs.
//!
//! Guarantee: a file under its final name is whole and has the SHA-256 that the service stated; what was cut off
//! lies beside it as `.part` and is gone on with. A URL that ran out is asked for anew.

use crate::client::Client;
use crate::commands::watch;
use crate::error::CliError;
use crate::look::Look;
use crate::output::Output;
use crate::render;
use crate::table::{Kind, table};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use indicatif::{ProgressBar, ProgressStyle};
use photofinish_contract::job::{Job, OutputRow, OutputStatus};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

/// Downloads at once.
const AT_ONCE_MAX: usize = 4;
/// Tries of one output, each of which goes on where the last one stopped.
const TRIES_MAX: u32 = 5;
/// Bytes read at once when a part of a file is hashed again.
const HASH_BLOCK: usize = 256 * 1024;

/// What became of one output.
#[derive(Debug)]
struct Fetched {
    item: String,
    path: PathBuf,
    bytes: u64,
    was_there: bool,
}

/// Downloads every stored output into `dir`.
pub(crate) async fn fetch(
    client: &Client,
    id: &str,
    dir: &Path,
    output: &mut Output,
) -> Result<(), CliError> {
    let value = client.get(&["jobs", id], &[]).await?;
    if let Some(at) = value["outputs_deleted_at"].as_str() {
        let why = format!("the outputs of {id} were deleted at {at}: submit the job anew");
        return Err(CliError::NotMeant(why));
    }
    let job = watch::read(&value)?;
    std::fs::create_dir_all(dir).map_err(|source| CliError::File {
        path: dir.to_owned(),
        source,
    })?;
    let rows: Vec<&OutputRow> = job.outputs.iter().flatten().collect();
    let stored: Vec<&OutputRow> = rows
        .iter()
        .copied()
        .filter(|row| row.status == OutputStatus::Stored)
        .collect();
    let bar = bar(output, stored.iter().filter_map(|row| row.bytes).sum());
    let fetched: Vec<Fetched> = stream::iter(&stored)
        .map(|row| one(client, &job, row, dir, &bar))
        .buffered(AT_ONCE_MAX)
        .try_collect()
        .await?;
    bar.finish_and_clear();
    let files: Vec<_> = fetched
        .iter()
        .map(|one| {
            json!({"item": one.item, "path": one.path, "bytes": one.bytes,
                   "was_there": one.was_there})
        })
        .collect();
    let answer = json!({"id": id, "status": job.status, "files": files});
    let look = output.look();
    output.answer(&answer, |_| text(&fetched, look))?;
    if job.status.is_final() {
        return watch::ended(&job);
    }
    Err(CliError::Incomplete {
        id: id.to_owned(),
        missing: rows.len() - stored.len(),
    })
}

/// Downloads, if there is a directory to download into, after a job was followed to its end. What there is of a job
/// that failed is fetched, too: how it ended, the fetch says.
pub(crate) async fn after(
    client: &Client,
    id: &str,
    dir: Option<&Path>,
    watched: Result<(), CliError>,
    output: &mut Output,
) -> Result<(), CliError> {
    match (dir, watched) {
        (Some(dir), Ok(()) | Err(CliError::JobEnded { .. })) => {
            fetch(client, id, dir, output).await
        }
        (_, watched) => watched,
    }
}

async fn one(
    client: &Client,
    job: &Job,
    row: &OutputRow,
    dir: &Path,
    bar: &ProgressBar,
) -> Result<Fetched, CliError> {
    let failed = |why: &str| CliError::Download {
        item: row.item.clone(),
        why: why.to_owned(),
    };
    let (Some(bytes), Some(sha256)) = (row.bytes, row.sha256.as_deref()) else {
        return Err(failed("the service states no size or SHA-256"));
    };
    let path = dir.join(file_name(row));
    let fetched = |was_there| Fetched {
        item: row.item.clone(),
        path: path.clone(),
        bytes,
        was_there,
    };
    if is_whole(&path, bytes, sha256)? {
        bar.inc(bytes);
        return Ok(fetched(true));
    }
    let mut url = row.url.clone();
    let mut why = "it has no address: it may have been deleted".to_owned();
    for _try in 0..TRIES_MAX {
        if let Some(from) = url.take() {
            match pull(client, &from, &path, bytes, sha256, bar).await {
                Ok(()) => return Ok(fetched(false)),
                Err(Pull::Stop(error)) => return Err(error),
                Err(Pull::Again(reason)) => why = reason,
            }
        }
        url = fresh_url(client, job, row).await?;
    }
    Err(failed(&why))
}

/// Why a pull did not get everything.
enum Pull {
    /// Another try may.
    Again(String),
    /// The disk is full, or the like.
    Stop(CliError),
}

/// Goes on with the `.part` file to the end, checks it and gives it its name.
async fn pull(
    client: &Client,
    url: &str,
    path: &Path,
    bytes: u64,
    sha256: &str,
    bar: &ProgressBar,
) -> Result<(), Pull> {
    let part = part_of(path);
    let stop = |source| {
        Pull::Stop(CliError::File {
            path: part.clone(),
            source,
        })
    };
    let (mut hash, mut have) = hash_so_far(&part).map_err(stop)?;
    if have > bytes {
        (hash, have) = (Sha256::new(), 0);
    }
    if have < bytes {
        let answer = client
            .download(url, have)
            .await
            .map_err(|error| Pull::Again(error.to_string()))?;
        match answer.status().as_u16() {
            206 => {}
            200 => (hash, have) = (Sha256::new(), 0),
            status => return Err(Pull::Again(format!("the store answered {status}"))),
        }
        bar.set_message(
            path.file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
        );
        let mut file = open_at(&part, have).map_err(stop)?;
        let mut chunks = answer.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| Pull::Again(error.without_url().to_string()))?;
            file.write_all(&chunk).map_err(stop)?;
            hash.update(&chunk);
            have += chunk.len() as u64;
            bar.inc(chunk.len() as u64);
            if have > bytes {
                break;
            }
        }
        file.sync_all().map_err(stop)?;
    }
    let is = hex::encode(hash.finalize());
    if have < bytes {
        return Err(Pull::Again(format!(
            "cut off after {have} of {bytes} bytes"
        )));
    }
    if have > bytes || is != sha256 {
        std::fs::remove_file(&part).map_err(stop)?;
        return Err(Pull::Again(format!("SHA-256 is {is}, {sha256} was stated")));
    }
    std::fs::rename(&part, path).map_err(stop)
}

/// A URL signed just now.
async fn fresh_url(
    client: &Client,
    job: &Job,
    row: &OutputRow,
) -> Result<Option<String>, CliError> {
    let job = watch::read(&client.get(&["jobs", job.id.as_str()], &[]).await?)?;
    let mut rows = job.outputs.into_iter().flatten();
    Ok(rows
        .find(|other| other.index == row.index)
        .and_then(|row| row.url))
}

/// `{index:04}-{item}.mp4`; a client's id never becomes a path.
fn file_name(row: &OutputRow) -> String {
    let safe = |c: char| {
        if c.is_ascii_alphanumeric() || "._-".contains(c) {
            c
        } else {
            '_'
        }
    };
    let item: String = row.item.chars().map(safe).take(64).collect();
    format!("{:04}-{item}.mp4", row.index)
}

fn part_of(path: &Path) -> PathBuf {
    path.with_added_extension("part")
}

fn is_whole(path: &Path, bytes: u64, sha256: &str) -> Result<bool, CliError> {
    let (hash, have) = hash_so_far(path).map_err(|source| CliError::File {
        path: path.to_owned(),
        source,
    })?;
    Ok(have == bytes && bytes > 0 && hex::encode(hash.finalize()) == sha256)
}

/// The hash and the length of what is there; of nothing if there is no file.
fn hash_so_far(path: &Path) -> std::io::Result<(Sha256, u64)> {
    let mut hash = Sha256::new();
    let mut file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((hash, 0)),
        Err(error) => return Err(error),
    };
    let (mut block, mut have) = (vec![0; HASH_BLOCK], 0);
    loop {
        let read = file.read(&mut block)?;
        if read == 0 {
            return Ok((hash, have));
        }
        hash.update(&block[..read]);
        have += read as u64;
    }
}

fn open_at(part: &Path, have: u64) -> std::io::Result<std::fs::File> {
    let mut options = std::fs::OpenOptions::new();
    if have > 0 {
        return options.append(true).open(part);
    }
    options.write(true).create(true).truncate(true).open(part)
}

fn bar(output: &Output, bytes: u64) -> ProgressBar {
    if !output.bars {
        return ProgressBar::hidden();
    }
    let template = "[{wide_bar}] {bytes}/{total_bytes} {bytes_per_sec} {msg}";
    let style = ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ");
    ProgressBar::new(bytes).with_style(style)
}

fn text(fetched: &[Fetched], look: Look) -> String {
    let row = |one: &Fetched| {
        let how = if one.was_there {
            "was there"
        } else {
            "fetched"
        };
        vec![
            one.path.display().to_string(),
            render::bytes(one.bytes),
            how.to_owned(),
        ]
    };
    let columns = [
        ("file", Kind::Text),
        ("size", Kind::Whole),
        ("", Kind::Whole),
    ];
    let rows: Vec<Vec<String>> = fetched.iter().map(row).collect();
    table(&columns, &rows, look)
}

#[cfg(test)]
#[path = "fetch_tests.rs"]
mod tests;
