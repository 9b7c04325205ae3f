//! What must hold of a finished job: every file opened, every hash compared, every webhook verified.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use photofinish_contract::job::{Job, OutputRow, OutputStatus};
use photofinish_model::JobStatus;
use sha2::{Digest as _, Sha256};

use crate::jobs::{Expected, Finished};
use crate::media::{self, Probed};
use crate::receiver::{Ear, event_type, verify};
use crate::say::say;
use crate::stack::Stack;

/// Where the bucket's metadata says how an output came into it.
const SOURCE_HEADER: &str = "x-amz-meta-photofinish-source";
const PARALLEL: usize = 4;
const WEBHOOK_DEADLINE: Duration = Duration::from_secs(15);
/// The events that the receiver of a job is told.
const EVENTS: [&str; 3] = ["job.accepted", "job.started", "job.completed"];

/// What held and what did not.
#[derive(Debug, Default)]
pub struct Report {
    /// Checks that held.
    pub held: usize,
    /// What did not, a sentence each.
    pub failures: Vec<String>,
}

impl Report {
    /// One check; `why` is said when it does not hold.
    pub fn check(&mut self, holds: bool, why: impl FnOnce() -> String) {
        if holds {
            self.held += 1;
        } else {
            self.failures.push(why());
        }
    }

    /// One check that is an attempt.
    pub fn attempt<T>(&mut self, outcome: anyhow::Result<T>, what: &str) -> Option<T> {
        match outcome {
            Ok(value) => {
                self.held += 1;
                Some(value)
            }
            Err(error) => {
                self.failures.push(format!("{what}: {error:#}"));
                None
            }
        }
    }

    /// At least one output came while its worker's job was IN_PROGRESS.
    pub fn check_in_progress<'a>(&mut self, sources: impl Iterator<Item = &'a Sources>) {
        let in_progress: usize = sources.map(|sources| sources.in_progress).sum();
        self.check(in_progress >= 1, || {
            "no output was pulled while IN_PROGRESS".to_owned()
        });
    }

    /// Says what did not hold; how many checks held, an error if one did not.
    pub fn verdict(self) -> anyhow::Result<usize> {
        for failure in &self.failures {
            say(format!("DOES NOT HOLD: {failure}"));
        }
        let failed = self.failures.len();
        anyhow::ensure!(
            failed == 0,
            "{failed} of {} checks did not hold",
            failed + self.held
        );
        Ok(self.held)
    }
}

/// How the outputs of a job came into the bucket, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sources {
    /// Pulled while RunPod said IN_PROGRESS.
    pub in_progress: usize,
    /// Pulled after that.
    pub late: usize,
    /// Pushed by the worker itself.
    pub rescued: usize,
    /// The bucket does not say.
    pub unknown: usize,
}

impl Sources {
    fn count(&mut self, source: &str) {
        match source {
            "pulled_in_progress" => self.in_progress += 1,
            "pulled_late" => self.late += 1,
            "rescued" => self.rescued += 1,
            _ => self.unknown += 1,
        }
    }
}

/// Checks a finished job and copies its outputs to `{dir}/outputs/{name}`.
pub async fn check_job(
    stack: &Stack,
    ear: &Ear,
    finished: &Finished,
    report: &mut Report,
) -> anyhow::Result<Sources> {
    let (name, job) = (finished.ask.name, &finished.job);
    report.check(
        job.status == JobStatus::Completed && job.error.is_none(),
        || {
            format!(
                "{name} ({}) ended as {}: {:?}",
                job.id,
                job.status.as_str(),
                job.error
            )
        },
    );
    let rows = job.outputs.clone().unwrap_or_default();
    check_order(name, &rows, &finished.ask.expected, report);
    check_manifest(stack, name, job, &rows, report).await?;
    let sources = check_outputs(stack, finished, &rows, report).await?;
    ear.wait(name, &EVENTS, WEBHOOK_DEADLINE).await;
    check_webhooks(
        &stack.wiring()?.client.webhook_secret,
        ear,
        finished,
        report,
    );
    Ok(sources)
}

/// One row per item, in the order of the request, all stored.
fn check_order(name: &str, rows: &[OutputRow], expected: &Expected, report: &mut Report) {
    let items: Vec<_> = rows.iter().map(|row| row.item.as_str()).collect();
    report.check(items == expected.items, || {
        format!("{name}: outputs are not those of the request in its order: {items:?}")
    });
    let in_place = rows
        .iter()
        .enumerate()
        .all(|(place, row)| usize::from(row.index) == place);
    report.check(in_place, || {
        format!("{name}: an output's index is not its place")
    });
    for row in rows {
        report.check(row.status == OutputStatus::Stored, || {
            format!(
                "{name}: {} is not stored: {:?} {:?}",
                row.item, row.status, row.error
            )
        });
    }
}

/// The manifest lists every output, whole, without presigned URLs.
async fn check_manifest(
    stack: &Stack,
    name: &str,
    job: &Job,
    rows: &[OutputRow],
    report: &mut Report,
) -> anyhow::Result<()> {
    let wiring = stack.wiring()?;
    let tenant = wiring.client.tenant.parse().context("the tenant's name")?;
    let manifest = wiring.objects()?.manifest(&tenant, &job.id).await;
    let manifest = manifest
        .map_err(anyhow::Error::from)
        .and_then(|manifest| manifest.context("there is no manifest.json"));
    let Some(manifest) = report.attempt(manifest, name) else {
        return Ok(());
    };
    let listed = manifest.outputs.unwrap_or_default();
    let bare = |row: &OutputRow| OutputRow {
        url: None,
        url_expires_at: None,
        ..row.clone()
    };
    let told: Vec<_> = rows.iter().map(bare).collect();
    report.check(listed == told, || {
        format!("{name}: the manifest lists other outputs than the job: {listed:?}")
    });
    report.check(
        manifest.status == job.status && manifest.run == job.run,
        || format!("{name}: the manifest is of another run or status"),
    );
    Ok(())
}

async fn check_outputs(
    stack: &Stack,
    finished: &Finished,
    rows: &[OutputRow],
    report: &mut Report,
) -> anyhow::Result<Sources> {
    let dir = stack.dir().join("outputs").join(finished.ask.name);
    std::fs::create_dir_all(&dir).context("make the directory of outputs")?;
    let expected = &finished.ask.expected;
    let fetched: Vec<_> = futures_util::stream::iter(rows)
        .map(|row| async {
            (
                row.item.as_str(),
                check_output(stack.http(), row, expected, &dir).await,
            )
        })
        .buffered(PARALLEL)
        .collect()
        .await;
    let mut sources = Sources::default();
    for (item, outcome) in fetched {
        let what = format!("{}: output {item}", finished.ask.name);
        if let Some(source) = report.attempt(outcome, &what) {
            sources.count(&source);
        }
    }
    Ok(sources)
}

/// Downloads an output as a client does, compares size and hash, opens it; gives how it came into the bucket.
async fn check_output(
    http: &reqwest::Client,
    row: &OutputRow,
    expected: &Expected,
    dir: &Path,
) -> anyhow::Result<String> {
    let url = row.url.as_deref().context("it has no URL")?;
    let answer = http.get(url).send().await.context("download it")?;
    let status = answer.status();
    anyhow::ensure!(status.is_success(), "its URL answers {status}");
    let source = answer
        .headers()
        .get(SOURCE_HEADER)
        .and_then(|value| value.to_str().ok());
    let source = source.unwrap_or_default().to_owned();
    let bytes = answer.bytes().await.context("download it")?;
    anyhow::ensure!(
        row.bytes == Some(bytes.len() as u64),
        "it has {} bytes, not {:?}",
        bytes.len(),
        row.bytes
    );
    let sha256 = hex::encode(Sha256::digest(&bytes));
    let told = row.sha256.as_deref().unwrap_or_default();
    anyhow::ensure!(
        sha256 == told,
        "its SHA-256 is {sha256}, the job says {told}"
    );
    let key = row.key.as_deref().unwrap_or_default();
    let path = dir.join(key.rsplit('/').next().unwrap_or(key));
    tokio::fs::write(&path, &bytes)
        .await
        .context("keep a copy")?;
    let probed = media::probe(&path).await?;
    compare(&probed, expected)?;
    let told = row.duration_s.unwrap_or_default();
    let near = (told - probed.video_s).abs() <= expected.tolerance_s;
    anyhow::ensure!(near, "it lasts {} s, the job says {told} s", probed.video_s);
    Ok(source)
}

/// Whether a file is what was asked for.
pub fn compare(probed: &Probed, expected: &Expected) -> anyhow::Result<()> {
    let size = (probed.width, probed.height);
    anyhow::ensure!(
        size == expected.size,
        "it is {size:?} pixels, not {:?}",
        expected.size
    );
    let (frames, wanted) = (probed.frames, expected.frames);
    anyhow::ensure!(frames == wanted, "it has {frames} frames, not {wanted}");
    let near = |seconds: f64, wanted: f64| (seconds - wanted).abs() <= expected.tolerance_s;
    let video_s = expected.video_s;
    anyhow::ensure!(
        near(probed.video_s, video_s),
        "it lasts {} s, not {video_s}",
        probed.video_s
    );
    let audio_s = expected.audio_s.unwrap_or_default();
    anyhow::ensure!(
        near(probed.audio_s, audio_s),
        "its sound lasts {} s, not {audio_s}",
        probed.audio_s
    );
    Ok(())
}

/// Every event that was due came, all verified; a repeated one is the same one.
fn check_webhooks(secret: &str, ear: &Ear, finished: &Finished, report: &mut Report) {
    let name = finished.ask.name;
    let heard = ear.heard(name);
    let mut ids: BTreeMap<String, String> = BTreeMap::new();
    for received in &heard {
        report.attempt(verify(secret, received), &format!("{name}: webhook"));
        let (kind, id) = (
            event_type(received),
            received.header("webhook-id").to_owned(),
        );
        let body = received.json().unwrap_or_default();
        report.check(body["data"]["id"] == finished.job.id.as_str(), || {
            format!("{name}: webhook {kind} {id} is of another job")
        });
        let first = ids.entry(kind.clone()).or_insert_with(|| id.clone());
        report.check(*first == id, || {
            format!("{name}: {kind} came as {first} and as {id}")
        });
        if kind == "job.completed" {
            let told = body["data"]["outputs"].as_array().map_or(0, Vec::len);
            let items = finished.ask.expected.items.len();
            report.check(told == items, || {
                format!("{name}: the final webhook lists {told} of {items} outputs")
            });
        }
    }
    for event in EVENTS {
        report.check(ids.contains_key(event), || {
            format!("{name}: no webhook {event} within {WEBHOOK_DEADLINE:?}")
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected() -> Expected {
        Expected {
            items: vec!["a".into()],
            size: (640, 360),
            frames: 12,
            video_s: 1.0,
            audio_s: None,
            tolerance_s: 1.0 / 12.0,
        }
    }

    #[test]
    fn each_difference_is_named() {
        let good = Probed {
            width: 640,
            height: 360,
            frames: 12,
            video_s: 1.0,
            audio_s: 0.0,
        };
        compare(&good, &expected()).unwrap();
        for (bad, word) in [
            (
                Probed {
                    width: 642,
                    ..good.clone()
                },
                "pixels",
            ),
            (
                Probed {
                    frames: 11,
                    ..good.clone()
                },
                "frames",
            ),
            (
                Probed {
                    video_s: 1.2,
                    ..good.clone()
                },
                "lasts",
            ),
            (
                Probed {
                    audio_s: 1.0,
                    ..good.clone()
                },
                "sound",
            ),
        ] {
            let said = compare(&bad, &expected()).unwrap_err().to_string();
            assert!(said.contains(word), "{said}");
        }
    }
}
