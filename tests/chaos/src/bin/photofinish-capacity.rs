//! What jobs cost the servers: bytes in Redis, on RabbitMQ's disk, calls of the bucket, memory of the services. The
//! figures of `docs/operations/capacity.md` come from here.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use futures_util::{StreamExt as _, TryStreamExt as _};
use photofinish_chaos::{Setup, Stage};
use photofinish_demo::jobs::Submitted;
use photofinish_demo::wiring::SERVICES;
use photofinish_kit::{CALLS, wait_until};
use serde_json::{Value, json};

/// Items of a job.
const ITEMS: usize = 10;
/// Jobs that are done.
const DONE: usize = 100;
/// Jobs that wait.
const WAITING: usize = 3000;
/// Submissions at once.
const AT_ONCE: usize = 8;
const SETTLED_DEADLINE: Duration = Duration::from_mins(3);

/// Measures what jobs cost the servers
#[derive(Debug, clap::Parser)]
struct Args {
    /// Directory of the services' programs, such as target/release
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

/// What the servers hold at a moment.
#[derive(Debug, Clone, Copy)]
struct Held {
    redis: u64,
    broker_disk: u64,
    broker_messages: u64,
    broker_bytes: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut setup = Setup::stand_in("capacity");
    setup.own_broker = true;
    setup.programs = args.programs;
    let stage = Stage::set(setup).await?;
    let empty = held(&stage).await?;
    tell("services at rest, MiB", &memory(&stage)?);

    let (calls, began) = (s3_calls(&stage).await?, std::time::Instant::now());
    let done = submit(&stage, "done", DONE).await?;
    for job in &done {
        stage.follow(stage.stack.wiring()?, job).await?;
    }
    photofinish_chaos::laws::quiet(&stage).await?;
    let after = held(&stage).await?;
    let jobs = done.len() as u64;
    tell(
        &format!("{jobs} jobs of {ITEMS} items done"),
        &json!({"seconds": began.elapsed().as_secs_f64()}),
    );
    let per_job = |now: u64, before: u64| now.saturating_sub(before) as f64 / jobs as f64;
    tell(
        "Redis, bytes a done job",
        &json!(per_job(after.redis, empty.redis)),
    );
    let told = s3_calls(&stage).await?;
    let each = told
        .as_object()
        .into_iter()
        .flatten()
        .map(|(method, count)| {
            let before = calls[method].as_u64().unwrap_or(0);
            (
                method.clone(),
                json!(per_job(count.as_u64().unwrap_or(0), before)),
            )
        });
    tell(
        "bucket, calls a job (probes of health among them)",
        &Value::Object(each.collect()),
    );
    tell("services after them, MiB", &memory(&stage)?);

    pause(&stage).await?;
    let before = held(&stage).await?;
    let waiting = submit(&stage, "waiting", WAITING).await?;
    settled(&stage, waiting.len()).await?;
    let after = held(&stage).await?;
    let per_part = |now: u64, before: u64| now.saturating_sub(before) as f64 / waiting.len() as f64;
    tell(
        "Redis, bytes a waiting job",
        &json!(per_part(after.redis, before.redis)),
    );
    tell(
        "RabbitMQ, bytes a waiting part",
        &json!({
            "on disk": per_part(after.broker_disk, before.broker_disk),
            "message": per_part(after.broker_bytes, before.broker_bytes),
            "messages": after.broker_messages,
        }),
    );
    tell("services with them, MiB", &memory(&stage)?);
    stage.end().await
}

/// Jobs over HTTP, a few at a time.
async fn submit(stage: &Stage, name: &'static str, many: usize) -> anyhow::Result<Vec<Submitted>> {
    futures_util::stream::iter(0..many)
        .map(|number| {
            let name: &'static str = format!("{name}{number:04}").leak();
            stage.submit(stage.ask(name, &["ms=10"; ITEMS]))
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// The tenant's jobs are taken, and given no worker.
async fn pause(stage: &Stage) -> anyhow::Result<()> {
    let wiring = stage.stack.wiring()?;
    let url = format!(
        "{}/v1/admin/tenants/{}",
        wiring.ingest, wiring.client.tenant
    );
    let call = stage.stack.http().patch(url);
    let call = call.bearer_auth(&wiring.secrets.operator_key);
    let answer = call.json(&json!({"paused": true})).send().await?;
    answer
        .error_for_status()
        .map(drop)
        .context("pause the tenant")
}

/// Waits until every job's part lies in its lane and nothing else is under way.
async fn settled(stage: &Stage, parts: usize) -> anyhow::Result<()> {
    wait_until(SETTLED_DEADLINE, "every part waits", || async {
        let Ok(queues) = stage.rabbit.queues().await else {
            return false;
        };
        let depth = |waits: bool| -> u64 {
            let those = queues.iter().filter(|queue| {
                let name = queue["name"].as_str().unwrap_or_default();
                name.starts_with("dispatcher.submit.") == waits
            });
            those.filter_map(|queue| queue["messages"].as_u64()).sum()
        };
        // Some were given a worker before every dispatcher had heard of the pause.
        depth(true) as usize >= parts * 9 / 10 && depth(false) == 0
    })
    .await
}

async fn held(stage: &Stage) -> anyhow::Result<Held> {
    let node = stage.node.as_ref().context("a node of its own")?;
    let queues = stage.rabbit.queues().await?;
    let sum = |name: &str| queues.iter().filter_map(|queue| queue[name].as_u64()).sum();
    Ok(Held {
        redis: stage.redis.memory_used()?,
        broker_disk: disk(&node.dir().join("rabbitmq/mnesia"))?,
        broker_messages: sum("messages"),
        broker_bytes: sum("message_bytes"),
    })
}

/// Bytes of all files below a directory.
fn disk(dir: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
        let entry = entry?;
        // What is rolled over meanwhile is gone.
        let Ok(meta) = entry.metadata() else { continue };
        bytes += if meta.is_dir() {
            disk(&entry.path()).unwrap_or(0)
        } else {
            meta.len()
        };
    }
    Ok(bytes)
}

async fn s3_calls(stage: &Stage) -> anyhow::Result<Value> {
    let url = format!("{}{CALLS}", stage.stack.wiring()?.s3);
    let answer = stage.stack.http().get(url).send().await?;
    answer.json().await.context("read the bucket's calls")
}

fn memory(stage: &Stage) -> anyhow::Result<Value> {
    let mut all = serde_json::Map::new();
    for name in SERVICES {
        let pid = stage.stack.service(name)?.pid();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
        let mib = kib.context("no VmRSS")? / 1024.0;
        all.insert(name.to_owned(), json!((mib * 10.0).round() / 10.0));
    }
    Ok(Value::Object(all))
}

#[expect(clippy::print_stdout, reason = "it is a program for people")]
fn tell(what: &str, figures: &Value) {
    println!("{what}: {figures}");
}
