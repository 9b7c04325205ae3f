//! What must hold when the job has ended, whatever was killed on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Context as _;
use photofinish_contract::job::{Job, OutputRow, OutputStatus};
use photofinish_demo::checks::{Report, compare};
use photofinish_demo::jobs::{Expected, Submitted};
use photofinish_demo::media;
use photofinish_demo::receiver::{event_type, verify};
use photofinish_kit::{Method, wait_for, wait_until};
use photofinish_model::JobStatus;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{Scene, bucket};

const EVENTS: [&str; 3] = ["job.accepted", "job.started", "job.completed"];
const WEBHOOK_DEADLINE: Duration = Duration::from_secs(40);
/// What was under way when the run ended has so long to be swept.
const SWEPT_DEADLINE: Duration = Duration::from_secs(10);
/// RabbitMQ's own counts lag by some seconds; a last turn of a watch or a timer may be in a tier.
const DRAINED_DEADLINE: Duration = Duration::from_secs(40);

/// Checks a job that has ended; an error lists every law that was broken.
pub async fn check(scene: &Scene, job: &Submitted, ended: &Job) -> anyhow::Result<()> {
    let mut report = Report::default();
    report.check(
        ended.status == JobStatus::Completed && ended.error.is_none(),
        || {
            format!(
                "the job is {}: {:?}",
                ended.status.as_str(),
                ended.error.as_ref()
            )
        },
    );
    let manifest = report.attempt(manifest(scene, job), "the manifest");
    if let Some(manifest) = manifest {
        let rows = manifest.outputs.clone().unwrap_or_default();
        check_rows(&rows, &job.ask.expected, &mut report);
        check_told(ended, &manifest, &mut report);
        for row in &rows {
            let outcome = check_object(scene, row, &job.ask.expected).await;
            report.attempt(outcome, &format!("output {}", row.item));
        }
        let outcome = check_swept(scene, job, &rows).await;
        report.attempt(outcome, "the sweep");
    }
    check_webhooks(scene, job, &mut report).await;
    report.attempt(check_closed(scene, ended).await, "the run");
    report.attempt(check_queues(scene).await, "the queues");
    anyhow::ensure!(
        report.failures.is_empty(),
        "broken:\n{}",
        report.failures.join("\n")
    );
    Ok(())
}

/// The manifest as it lies in the bucket.
fn manifest(scene: &Scene, job: &Submitted) -> anyhow::Result<Job> {
    let tenant = &scene.stack.wiring()?.client.tenant;
    let path = bucket::root(&scene.stack).join(format!("{tenant}/{}/manifest.json", job.id));
    let text = std::fs::read(&path).context("read the manifest")?;
    serde_json::from_slice(&text).context("read the manifest")
}

/// Every item once, in the order of the request, stored, each under a key of its own.
fn check_rows(rows: &[OutputRow], expected: &Expected, report: &mut Report) {
    let items: Vec<_> = rows.iter().map(|row| row.item.as_str()).collect();
    report.check(items == expected.items, || {
        format!("the manifest lists other items than the request: {items:?}")
    });
    for (place, row) in rows.iter().enumerate() {
        report.check(usize::from(row.index) == place, || {
            format!("{} has index {} at place {place}", row.item, row.index)
        });
        report.check(row.status == OutputStatus::Stored, || {
            format!("{} is {:?}: {:?}", row.item, row.status, row.error)
        });
    }
    let keys: BTreeSet<_> = rows.iter().filter_map(|row| row.key.as_deref()).collect();
    report.check(keys.len() == rows.len(), || {
        "two items share an output, or one has none".to_owned()
    });
}

/// The client is told what the manifest says.
fn check_told(ended: &Job, manifest: &Job, report: &mut Report) {
    report.check(
        manifest.status == ended.status && manifest.run == ended.run,
        || {
            format!(
                "the manifest is of run {} and says {}",
                manifest.run,
                manifest.status.as_str()
            )
        },
    );
    let bare = |row: &OutputRow| OutputRow {
        url: None,
        url_expires_at: None,
        ..row.clone()
    };
    let told: Vec<_> = ended.outputs.iter().flatten().map(bare).collect();
    let listed = manifest.outputs.clone().unwrap_or_default();
    report.check(told == listed, || {
        format!("the client is told other outputs than the manifest lists: {told:#?}")
    });
}

/// The object is there, has the stated size and hash, and opens as what was asked for.
async fn check_object(scene: &Scene, row: &OutputRow, expected: &Expected) -> anyhow::Result<()> {
    let key = row.key.as_deref().context("it has no key")?;
    let path = bucket::root(&scene.stack).join(key);
    let bytes = std::fs::read(&path).with_context(|| format!("read {key}"))?;
    anyhow::ensure!(
        row.bytes == Some(bytes.len() as u64),
        "it has {} bytes, not {:?}",
        bytes.len(),
        row.bytes
    );
    let sha256 = hex::encode(Sha256::digest(&bytes));
    anyhow::ensure!(
        row.sha256.as_deref() == Some(sha256.as_str()),
        "its SHA-256 is {sha256}, not {:?}",
        row.sha256
    );
    compare(&media::probe(&path).await?, expected)
}

/// Nothing lies below the job but what the manifest lists.
async fn check_swept(scene: &Scene, job: &Submitted, rows: &[OutputRow]) -> anyhow::Result<()> {
    let listed: BTreeSet<_> = rows.iter().filter_map(|row| row.key.clone()).collect();
    let there = || -> anyhow::Result<BTreeSet<String>> {
        let mut keys = bucket::outputs(&scene.stack, &job.id)?;
        keys.extend(bucket::rescued(&scene.stack, &job.id)?);
        Ok(keys)
    };
    let swept = wait_until(SWEPT_DEADLINE, "only what is listed is left", || async {
        there().is_ok_and(|keys| keys == listed)
    });
    if swept.await.is_ok() {
        return Ok(());
    }
    let there = there()?;
    let over: Vec<_> = there.difference(&listed).collect();
    let missing: Vec<_> = listed.difference(&there).collect();
    anyhow::bail!("not listed but there: {over:?}; listed but not there: {missing:?}")
}

/// Each event came, as one event, and every delivery is signed.
async fn check_webhooks(scene: &Scene, job: &Submitted, report: &mut Report) {
    // What does not come in time is said below.
    let _late = wait_until(WEBHOOK_DEADLINE, "webhooks", || async {
        let heard = scene.receiver.received();
        let heard: BTreeSet<_> = heard.iter().map(event_type).collect();
        EVENTS.iter().all(|event| heard.contains(*event))
    })
    .await;
    let secret = scene
        .stack
        .wiring()
        .map(|w| w.client.webhook_secret.clone());
    let secret = secret.unwrap_or_default();
    let mut ids: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut sequences: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for received in scene.receiver.received() {
        report.attempt(verify(&secret, &received), "a webhook");
        let body = received.json().unwrap_or_default();
        let id = received.header("webhook-id").to_owned();
        report.check(body["data"]["id"] == job.id.as_str(), || {
            format!("webhook {id} is of another job: {}", body["data"]["id"])
        });
        let kind = event_type(&received);
        ids.entry(kind).or_default().insert(id.clone());
        let sequence = body["sequence"].to_string();
        sequences.entry(id).or_default().insert(sequence);
    }
    let kinds: BTreeSet<_> = ids.keys().map(String::as_str).collect();
    report.check(kinds == BTreeSet::from(EVENTS), || {
        format!("told were {kinds:?}, not {EVENTS:?}")
    });
    for (kind, ids) in &ids {
        report.check(ids.len() == 1, || {
            format!("{kind} came as several events: {ids:?}")
        });
    }
    for (id, sequences) in &sequences {
        report.check(sequences.len() == 1, || {
            format!("webhook {id} came with several sequences: {sequences:?}")
        });
    }
}

/// The run's open marker is gone: whoever finds the job knows that nothing is owed.
async fn check_closed(scene: &Scene, ended: &Job) -> anyhow::Result<()> {
    let wiring = scene.stack.wiring()?;
    let (tenant, objects) = (wiring.client.tenant.parse()?, wiring.objects()?);
    let (tenant, objects) = (&tenant, &objects);
    wait_until(SWEPT_DEADLINE, "the run is closed", || async move {
        let open = objects.is_open(tenant, &ended.id, ended.run).await;
        open.is_ok_and(|open| !open)
    })
    .await
}

/// No message is left in any queue, waiting, unsettled or parked.
async fn check_queues(scene: &Scene) -> anyhow::Result<()> {
    let drained = wait_for(DRAINED_DEADLINE, "the queues are empty", || async {
        let full = full_queues(scene).await.ok()?;
        full.is_empty().then_some(())
    });
    if let Err(error) = drained.await {
        let mut lines = Vec::new();
        for (queue, counts) in full_queues(scene).await? {
            let peeked = peek(scene, &queue).await.unwrap_or_default();
            lines.push(format!("{queue}: {counts}; at its head: {peeked}"));
        }
        return Err(error.context(lines.join("\n")));
    }
    // The counts lag; a look into the parking queues does not.
    let queues = scene.rabbit.queues().await?;
    let names = queues.iter().filter_map(|queue| queue["name"].as_str());
    for queue in names.filter(|name| for_people(name)) {
        let peeked = peek(scene, queue).await?;
        anyhow::ensure!(peeked == json!([]), "{queue} holds {peeked}");
    }
    Ok(())
}

/// The queues from which only people take: of what is parked, of what is refused.
fn for_people(queue: &str) -> bool {
    queue.rsplit('.').next() == Some("dead") || queue == "photofinish.rejected"
}

/// The queues that hold something or of which nothing is known, each with its counts.
async fn full_queues(scene: &Scene) -> anyhow::Result<Vec<(String, Value)>> {
    let queues = scene.rabbit.queues().await?;
    let full = queues.iter().filter(|queue| queue["messages"] != 0);
    let described = full.map(|queue| {
        let fields = queue.as_object().into_iter().flatten();
        let counts = fields.filter(|(name, count)| name.starts_with("messages") && count.is_u64());
        let counts = counts.map(|(name, count)| (name.clone(), count.clone()));
        let name = queue["name"].as_str().unwrap_or_default().to_owned();
        (name, Value::Object(counts.collect()))
    });
    Ok(described.collect())
}

/// The message at the head of a queue, which stays there.
async fn peek(scene: &Scene, queue: &str) -> anyhow::Result<Value> {
    let path = format!("/api/queues/{}/{queue}/get", scene.rabbit.vhost());
    let ask =
        json!({"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto", "truncate": 2000});
    scene.rabbit.call(Method::POST, &path, Some(ask)).await
}
