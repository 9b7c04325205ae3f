//! What must hold when the job has ended, whatever was killed on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Context as _;
use photofinish_contract::job::{Job, OutputRow, OutputStatus};
use photofinish_demo::checks::{Report, compare};
use photofinish_demo::jobs::Submitted;
use photofinish_demo::media;
use photofinish_demo::receiver::{event_type, verify};
use photofinish_demo::wiring::Wiring;
use photofinish_kit::{Method, wait_for, wait_until};
use photofinish_model::JobStatus;
use photofinish_stand_in::diary::Word;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::stage::bytes_of;
use crate::{Making, Stage, bucket};

const WEBHOOK_DEADLINE: Duration = Duration::from_secs(40);
/// What was under way when the run ended has so long to be swept.
const SWEPT_DEADLINE: Duration = Duration::from_secs(10);
/// RabbitMQ's own counts lag by some seconds; a last turn of a watch or a timer may be in a tier.
const DRAINED_DEADLINE: Duration = Duration::from_secs(40);

/// What is judged: a tenant's job that has ended.
#[derive(Debug, Clone, Copy)]
struct Case<'a> {
    stage: &'a Stage,
    wiring: &'a Wiring,
    job: &'a Submitted,
    ended: &'a Job,
}

/// Checks a job that was to be completed, with every output; an error lists every law that was broken.
pub async fn completed(
    stage: &Stage,
    wiring: &Wiring,
    job: &Submitted,
    ended: &Job,
) -> anyhow::Result<()> {
    over(stage, wiring, job, ended, JobStatus::Completed).await
}

/// Checks a job that was to end in this status; an error lists every law that was broken.
pub async fn over(
    stage: &Stage,
    wiring: &Wiring,
    job: &Submitted,
    ended: &Job,
    status: JobStatus,
) -> anyhow::Result<()> {
    let case = Case {
        stage,
        wiring,
        job,
        ended,
    };
    let mut report = Report::default();
    report.check(ended.status == status, || {
        let (is, error) = (ended.status.as_str(), ended.error.as_ref());
        format!("the job is {is}, not {}: {error:?}", status.as_str())
    });
    let manifest = report.attempt(manifest(case), "the manifest");
    if let Some(manifest) = manifest {
        let rows = manifest.outputs.clone().unwrap_or_default();
        check_rows(&rows, case, &mut report);
        check_told(ended, &manifest, &mut report);
        for row in rows.iter().filter(|row| row.status == OutputStatus::Stored) {
            let outcome = check_object(case, row).await;
            report.attempt(outcome, &format!("output {}", row.item));
        }
        report.attempt(check_swept(case, &rows).await, "the sweep");
    }
    check_webhooks(case, &mut report).await;
    report.attempt(check_closed(case).await, "the run");
    anyhow::ensure!(
        report.failures.is_empty(),
        "{} {} is broken:\n{}",
        job.ask.name,
        job.id,
        report.failures.join("\n")
    );
    Ok(())
}

/// No item of a stand-in job was begun more often than its faults explain: `most` is asked for each.
pub fn billed(stage: &Stage, job: &Submitted, most: impl Fn(usize) -> usize) -> anyhow::Result<()> {
    at_most(stage, job, Word::Begun, most)
}

/// This did not happen to an item of a stand-in job more often than `most` says for it.
pub fn at_most(
    stage: &Stage,
    job: &Submitted,
    word: Word,
    most: impl Fn(usize) -> usize,
) -> anyhow::Result<()> {
    let lines = stage.diary(job)?;
    let mut begun: BTreeMap<&str, usize> = BTreeMap::new();
    for line in lines.iter().filter(|line| line.word == word) {
        *begun.entry(&line.item).or_default() += 1;
    }
    let items = job.ask.expected.items.iter().enumerate();
    let broken: Vec<_> = items
        .filter_map(|(place, item)| {
            let (times, most) = (begun.get(item.as_str()).copied().unwrap_or(0), most(place));
            (times > most).then(|| format!("{word:?} of {item}: {times} times, not at most {most}"))
        })
        .collect();
    anyhow::ensure!(broken.is_empty(), "{}", broken.join("\n"));
    Ok(())
}

/// The manifest as it lies in the bucket.
fn manifest(case: Case<'_>) -> anyhow::Result<Job> {
    let tenant = &case.wiring.client.tenant;
    let path = format!("{tenant}/{}/manifest.json", case.job.id);
    let path = bucket::root(&case.stage.stack).join(path);
    let text = std::fs::read(&path).context("read the manifest")?;
    serde_json::from_slice(&text).context("read the manifest")
}

/// Every item once, in the order of the request, each output under a key of its own; of a completed job all stored.
fn check_rows(rows: &[OutputRow], case: Case<'_>, report: &mut Report) {
    let items: Vec<_> = rows.iter().map(|row| row.item.as_str()).collect();
    report.check(items == case.job.ask.expected.items, || {
        format!("the manifest lists other items than the request: {items:?}")
    });
    for (place, row) in rows.iter().enumerate() {
        report.check(usize::from(row.index) == place, || {
            format!("{} has index {} at place {place}", row.item, row.index)
        });
        let stored = row.status == OutputStatus::Stored;
        report.check(stored || case.ended.status != JobStatus::Completed, || {
            format!("{} is {:?}: {:?}", row.item, row.status, row.error)
        });
        report.check(stored == row.key.is_some(), || {
            format!(
                "{} is {:?} and its key is {:?}",
                row.item, row.status, row.key
            )
        });
    }
    let keys: Vec<_> = rows.iter().filter_map(|row| row.key.as_deref()).collect();
    let different: BTreeSet<_> = keys.iter().collect();
    report.check(keys.len() == different.len(), || {
        "two items share an output".to_owned()
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

/// The object is there, has the stated size and hash, and is what was asked for.
async fn check_object(case: Case<'_>, row: &OutputRow) -> anyhow::Result<()> {
    let key = row.key.as_deref().context("it has no key")?;
    let path = bucket::root(&case.stage.stack).join(key);
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
    match case.stage.making {
        Making::Rendered => compare(&media::probe(&path).await?, &case.job.ask.expected),
        Making::StandIn => {
            let bytes = bytes_of(&case.job.ask.request, usize::from(row.index));
            let wanted = photofinish_stand_in::sha256_of(&row.item, bytes);
            anyhow::ensure!(sha256 == wanted, "it is not what the worker wrote");
            Ok(())
        }
    }
}

/// Nothing lies below the job but what the manifest lists.
async fn check_swept(case: Case<'_>, rows: &[OutputRow]) -> anyhow::Result<()> {
    let listed: BTreeSet<_> = rows.iter().filter_map(|row| row.key.clone()).collect();
    let (stack, tenant) = (&case.stage.stack, &case.wiring.client.tenant);
    let there = || -> anyhow::Result<BTreeSet<String>> {
        let mut keys = bucket::outputs(stack, tenant, &case.job.id)?;
        keys.extend(bucket::rescued(stack, tenant, &case.job.id)?);
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
async fn check_webhooks(case: Case<'_>, report: &mut Report) {
    let last = format!("job.{}", case.ended.status.as_str());
    let heard = || {
        let all = case.stage.receiver.received().into_iter();
        let bodies = all.map(|received| (received.json().unwrap_or_default(), received));
        bodies.filter(|(body, _)| body["data"]["id"] == case.job.id.as_str())
    };
    let kinds = || {
        let kinds = heard().map(|(_, received)| event_type(&received));
        kinds.collect::<BTreeSet<_>>()
    };
    let mut due = BTreeSet::from(["job.accepted", &last]);
    // One that ends otherwise may never have begun.
    let begun = case.ended.status == JobStatus::Completed;
    if begun || kinds().contains("job.started") {
        due.insert("job.started");
    }
    // What does not come in time is said below.
    let _late = wait_until(WEBHOOK_DEADLINE, "webhooks", || async {
        let kinds = kinds();
        due.iter().all(|event| kinds.contains(*event))
    })
    .await;
    let secret = &case.wiring.client.webhook_secret;
    let mut ids: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut sequences: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (body, received) in heard() {
        report.attempt(verify(secret, &received), "a webhook");
        let id = received.header("webhook-id").to_owned();
        let kind = event_type(&received);
        ids.entry(kind).or_default().insert(id.clone());
        let sequence = body["sequence"].to_string();
        sequences.entry(id).or_default().insert(sequence);
    }
    let kinds: BTreeSet<_> = ids.keys().map(String::as_str).collect();
    report.check(kinds == due, || format!("told were {kinds:?}, not {due:?}"));
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
async fn check_closed(case: Case<'_>) -> anyhow::Result<()> {
    let (tenant, objects) = (case.wiring.client.tenant.parse()?, case.wiring.objects()?);
    let (tenant, objects, ended) = (&tenant, &objects, case.ended);
    wait_until(SWEPT_DEADLINE, "the run is closed", || async move {
        let open = objects.is_open(tenant, &ended.id, ended.run).await;
        open.is_ok_and(|open| !open)
    })
    .await
}

/// No message is left in any queue, waiting, unsettled or parked.
pub async fn quiet(stage: &Stage) -> anyhow::Result<()> {
    let drained = wait_for(DRAINED_DEADLINE, "the queues are empty", || async {
        let full = full_queues(stage).await.ok()?;
        full.is_empty().then_some(())
    });
    if let Err(error) = drained.await {
        let mut lines = Vec::new();
        for (queue, counts) in full_queues(stage).await? {
            let peeked = peek(stage, &queue).await.unwrap_or_default();
            lines.push(format!("{queue}: {counts}; at its head: {peeked}"));
        }
        return Err(error.context(lines.join("\n")));
    }
    // The counts lag; a look into the parking queues does not.
    let queues = stage.rabbit.queues().await?;
    let names = queues.iter().filter_map(|queue| queue["name"].as_str());
    for queue in names.filter(|name| for_people(name)) {
        let peeked = peek(stage, queue).await?;
        anyhow::ensure!(peeked == json!([]), "{queue} holds {peeked}");
    }
    Ok(())
}

/// The queues from which only people take: of what is parked, of what is refused.
fn for_people(queue: &str) -> bool {
    queue.rsplit('.').next() == Some("dead") || queue == "photofinish.rejected"
}

/// The queues that hold something or of which nothing is known, each with its counts.
async fn full_queues(stage: &Stage) -> anyhow::Result<Vec<(String, Value)>> {
    let queues = stage.rabbit.queues().await?;
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
async fn peek(stage: &Stage, queue: &str) -> anyhow::Result<Value> {
    let path = format!("/api/queues/{}/{queue}/get", stage.rabbit.vhost());
    let ask =
        json!({"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto", "truncate": 2000});
    stage.rabbit.call(Method::POST, &path, Some(ask)).await
}
