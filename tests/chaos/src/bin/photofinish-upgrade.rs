//! A rolling upgrade with real processes: two versions at the same time, service by service and worker by worker, while
//! jobs flow; then one service back, and forth again. `scripts/upgrade-test.sh` makes both versions and runs this.
//!
//! Guarantee: exit code 0 only if every job that was taken ended well, every law of the chaos suite holds for it, no
//! item was made twice, nothing is left in a queue, and every process that was replaced ended cleanly.
#![expect(
    clippy::disallowed_methods,
    reason = "a program of the tests has no runtime of ours around it"
)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser as _;
use photofinish_chaos::recorder::Recorder;
use photofinish_chaos::{Setup, Stage, bucket, laws};
use photofinish_demo::jobs::{self, Ask, Door, Submitted};
use photofinish_demo::wiring::ENDPOINT_ID;
use photofinish_kit::{bin_dir, wait_for, wait_until};
use serde_json::{Value, json};
use uuid::Uuid;

/// Services in the order of their upgrade: who reads a message comes before who writes it.
const ORDER: [&str; 4] = ["notifier", "fetcher", "dispatcher", "ingest"];
/// The one that goes back in between.
const BACK: &str = "dispatcher";
/// Between two jobs.
const PACE: Duration = Duration::from_millis(700);
/// Jobs that must end with both versions of a service at work.
const MIXED_JOBS: usize = 4;
/// A client goes on trying for so long: ingest is away while it is replaced.
const SUBMIT_DEADLINE: Duration = Duration::from_secs(30);
const STEP_DEADLINE: Duration = Duration::from_secs(90);
const DRAIN_DEADLINE: Duration = Duration::from_secs(40);

/// Rolls from one version to another while jobs flow
#[derive(Debug, clap::Parser)]
struct Args {
    /// Directory of the older version's programs
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// Write one example of each message and document of the older version there, and roll nothing
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let from = args.from.canonicalize().context("find the older version")?;
    let worker = WorkerLink::to(&from)?;
    let mut setup = Setup::stand_in("upgrade");
    setup.runpod.worker = worker.path();
    // The least that RunPod takes: a change of the endpoint is checked whole.
    setup.runpod = setup.runpod.flag("--queue-delay", "500ms");
    setup.programs = Some(from.clone());
    let stage = Stage::set(setup).await?;
    match args.record {
        Some(dir) => record(stage, &dir).await?,
        None => roll(stage, &from, &worker).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The workers' program, by a link that is set anew: workers that start afterwards are of the other version.
struct WorkerLink {
    dir: tempfile::TempDir,
}

impl WorkerLink {
    fn to(version: &Path) -> anyhow::Result<Self> {
        let link = Self {
            dir: tempfile::tempdir()?,
        };
        link.set(version)?;
        Ok(link)
    }

    fn set(&self, version: &Path) -> anyhow::Result<()> {
        let (target, link) = (version.join("stand-in-worker"), self.dir.path());
        anyhow::ensure!(target.is_file(), "{} is missing", target.display());
        let part = link.join("part");
        std::os::unix::fs::symlink(target, &part)?;
        std::fs::rename(part, link.join("stand-in-worker")).context("set the workers' version")
    }

    /// For as long as the process lives.
    fn path(&self) -> &'static str {
        let path = self.dir.path().join("stand-in-worker");
        path.display().to_string().leak()
    }
}

/// Jobs that were taken, as they come.
#[derive(Debug, Default)]
struct Flow {
    taken: std::sync::Mutex<Vec<Submitted>>,
    ended: AtomicUsize,
    over: AtomicBool,
}

impl Flow {
    fn taken(&self) -> Vec<Submitted> {
        let taken = self.taken.lock();
        taken
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }
}

async fn roll(mut stage: Stage, from: &Path, worker: &WorkerLink) -> anyhow::Result<()> {
    let (new, began) = (bin_dir()?.canonicalize()?, Instant::now());
    let door = stage.stack.wiring()?.clone();
    let flow = Arc::new(Flow::default());
    let (taking, http) = (Arc::clone(&flow), stage.stack.http().clone());
    let hooks = stage.receiver.url("/hooks");
    let flowing = tokio::spawn(async move { submit_on(&http, &door, &hooks, &taking).await });
    let (following, http) = (Arc::clone(&flow), stage.stack.http().clone());
    let wiring = stage.stack.wiring()?.clone();
    let counting = tokio::spawn(async move { count_ended(&http, &wiring, &following).await });

    let mut steps: Vec<(&'static str, &Path, &str)> =
        ORDER.map(|name| (name, new.as_path(), "new")).to_vec();
    steps.push((BACK, from, "old"));
    steps.push((BACK, new.as_path(), "new"));
    more_ended(&flow, "all old").await?;
    for (name, version, word) in steps {
        step(&mut stage, &flow, name, version).await?;
        tell(&format!(
            "{name} is {word}: {} jobs taken",
            flow.taken().len()
        ));
        if name == "fetcher" {
            worker.set(&new)?;
            roll_workers(&stage, &flow, &new).await?;
            tell("every worker is new");
        }
    }
    more_ended(&flow, "all new").await?;
    flow.over.store(true, Ordering::Relaxed);
    flowing.await??;
    judge(&stage, &flow).await?;
    counting.abort();
    let jobs = flow.taken().len();
    tell(&format!(
        "{jobs} jobs over both doors, every law holds, {:.0} s",
        began.elapsed().as_secs_f64()
    ));
    stage.end().await
}

/// Starts a service's other version beside the one that runs, lets both work, and ends the one that ran. Ingest has one
/// address here, so its versions follow each other; clients try again meanwhile.
async fn step(
    stage: &mut Stage,
    flow: &Flow,
    name: &'static str,
    version: &Path,
) -> anyhow::Result<()> {
    let program = version.join(format!("photofinish-{name}"));
    if name == "ingest" {
        stage.stack.end_service(name).await?;
        stage.stack.restart_service_as(name, &program).await?;
        return more_ended(flow, "a new ingest").await;
    }
    let before = stage.stack.join_service(name, &program).await?;
    more_ended(flow, "two versions at once").await?;
    let status = before.terminate(DRAIN_DEADLINE).await?;
    anyhow::ensure!(
        status.success(),
        "{name} did not end cleanly: {status}\n{}",
        before.log_tail()
    );
    Ok(())
}

/// Replaces all workers, as a new image does at RunPod: idle ones at once, busy ones after their job.
async fn roll_workers(stage: &Stage, flow: &Flow, new: &Path) -> anyhow::Result<()> {
    let wiring = stage.stack.wiring()?;
    let endpoint = format!("{}/v2/serverless/{ENDPOINT_ID}", wiring.runpod);
    let call = stage.stack.http().patch(endpoint);
    let call = call.bearer_auth(&wiring.secrets.runpod_key);
    let rolled = call.json(&json!({"image": "photofinish/worker:new"}));
    rolled.send().await?.error_for_status()?;
    more_ended(flow, "a rollout of the workers").await?;
    wait_until(STEP_DEADLINE, "every worker is new", || async {
        let programs = worker_programs(stage).await.unwrap_or_default();
        !programs.is_empty() && programs.iter().all(|program| program.starts_with(new))
    })
    .await?;
    more_ended(flow, "new workers alone").await
}

/// What the workers that live are running.
async fn worker_programs(stage: &Stage) -> anyhow::Result<Vec<PathBuf>> {
    let state = stage.emulator()?.state().await?;
    let workers = state["workers"].as_array().into_iter().flatten();
    let pids = workers.filter_map(|worker| worker["pid"].as_u64());
    pids.map(|pid| Ok(std::fs::read_link(format!("/proc/{pid}/exe"))?))
        .collect()
}

/// Waits until some more jobs have ended.
async fn more_ended(flow: &Flow, what: &str) -> anyhow::Result<()> {
    let enough = flow.ended.load(Ordering::Relaxed) + MIXED_JOBS;
    wait_until(
        STEP_DEADLINE,
        &format!("{MIXED_JOBS} jobs end with {what}"),
        || async { flow.ended.load(Ordering::Relaxed) >= enough },
    )
    .await
}

/// A job now and then, through both doors in turn, until it is enough.
async fn submit_on(
    http: &reqwest::Client,
    wiring: &photofinish_demo::wiring::Wiring,
    hooks: &str,
    flow: &Flow,
) -> anyhow::Result<()> {
    for number in 0.. {
        if flow.over.load(Ordering::Relaxed) {
            break;
        }
        let name: &'static str = format!("u{number:03}").leak();
        let ask = ask(name, hooks, number);
        let submitted = match ask.door {
            Door::Http => submit_http(http, wiring, ask).await?,
            Door::Amqp => jobs::submit(http, wiring, ask).await?,
        };
        flow.taken
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .push(submitted);
        tokio::time::sleep(PACE).await; // paced: jobs come now and then
    }
    Ok(())
}

fn ask(name: &'static str, hooks: &str, number: usize) -> Ask {
    let items: Vec<_> = (0..4).map(|place| format!("{name}-{place:04}")).collect();
    let image = |item: &String| json!({"id": item, "image_url": format!("http://pictures.example/{item}?ms=150"), "duracao": 1.0});
    let images: Vec<_> = items.iter().map(image).collect();
    let request = json!({
        "operation": "img2vid", "frame_rate": 10, "width": 128, "height": 72, "images": images,
        "webhook_url": format!("{hooks}/{name}"), "metadata": {"number": number},
    });
    Ask {
        name,
        door: if number.is_multiple_of(2) {
            Door::Http
        } else {
            Door::Amqp
        },
        request,
        expected: jobs::Expected {
            items,
            size: (128, 72),
            frames: 10,
            video_s: 1.0,
            audio_s: None,
            tolerance_s: 0.1,
        },
    }
}

/// As a good client does: the same key until there is an answer.
async fn submit_http(
    http: &reqwest::Client,
    wiring: &photofinish_demo::wiring::Wiring,
    ask: Ask,
) -> anyhow::Result<Submitted> {
    let (key, at) = (Uuid::new_v4().to_string(), Instant::now());
    let id = wait_for(SUBMIT_DEADLINE, "a job is taken", || async {
        let call = http
            .post(format!("{}/v1/jobs", wiring.ingest))
            .bearer_auth(&wiring.client.api_key)
            .header("Idempotency-Key", &key)
            .json(&ask.request);
        let answer = call.send().await.ok()?.error_for_status().ok()?;
        let job: Value = answer.json().await.ok()?;
        job["id"].as_str().map(str::to_owned)
    })
    .await?;
    Ok(Submitted { ask, id, at })
}

/// How many of the jobs have ended, until it is stopped.
async fn count_ended(
    http: &reqwest::Client,
    wiring: &photofinish_demo::wiring::Wiring,
    flow: &Flow,
) {
    loop {
        let next = flow.ended.load(Ordering::Relaxed);
        if let Some(job) = flow.taken().get(next)
            && let Ok(told) = jobs::get(http, wiring, &job.id).await
            && told.status.is_final()
        {
            flow.ended.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        tokio::time::sleep(Duration::from_millis(100)).await; // paced: the interval of a poll
    }
}

async fn judge(stage: &Stage, flow: &Flow) -> anyhow::Result<()> {
    let wiring = stage.stack.wiring()?;
    for job in flow.taken() {
        let ended = stage.follow(wiring, &job).await?;
        laws::completed(stage, wiring, &job, &ended).await?;
        laws::billed(stage, &job, |_| 1)?;
    }
    laws::quiet(stage).await
}

/// What the older version says and keeps, of jobs that end in every way.
async fn record(stage: Stage, dir: &Path) -> anyhow::Result<()> {
    let recorder = Recorder::start(&stage.rabbit).await?;
    let wiring = stage.stack.wiring()?;
    let http = stage.stack.http();
    let endpoint = json!({"url": stage.receiver.url("/endpoint"), "description": "recorded"});
    let call = http.post(format!("{}/v1/webhook-endpoints", wiring.ingest));
    let made = call.bearer_auth(&wiring.client.api_key).json(&endpoint);
    made.send().await?.error_for_status()?;
    let good = stage.submit(stage.ask("good", &["", "ms=50"])).await?;
    let mut ask = stage.ask("mixed", &["", "refuse", "fail=1"]);
    ask.request["on_item_error"] = json!("skip");
    ask.request["metadata"] = json!({"order": "A-17"});
    let mixed = stage.submit(ask).await?;
    let bad = stage.submit(stage.ask("bad", &["", "refuse"])).await?;
    for job in [&good, &mixed, &bad] {
        stage.follow(wiring, job).await?;
    }
    let retry = http.post(format!("{}/v1/jobs/{}/retry", wiring.ingest, bad.id));
    let retry = retry.bearer_auth(&wiring.client.api_key).send().await?;
    retry.error_for_status()?;
    let cancelled = stage.submit(stage.ask("cancelled", &["", "held"])).await?;
    stage.stored_at_least(&cancelled, 1).await?;
    keep_redis(&stage, dir, "at-work")?;
    stage.cancel(&cancelled).await?;
    stage.follow(wiring, &cancelled).await?;
    laws::quiet(&stage).await?;
    keep_redis(&stage, dir, "done")?;
    let files = recorder.write(&bucket::root(&stage.stack), dir)?;
    tell(&format!("{files} examples in {}", dir.display()));
    stage.end().await
}

/// What lies in Redis at this moment.
fn keep_redis(stage: &Stage, dir: &Path, moment: &str) -> anyhow::Result<()> {
    let prefix = &stage.stack.wiring()?.servers.redis_prefix;
    let contents = stage.redis.contents(prefix)?;
    let folder = dir.join("redis");
    std::fs::create_dir_all(&folder)?;
    let file = folder.join(format!("{moment}.json"));
    std::fs::write(&file, format!("{contents:#}\n"))
        .with_context(|| format!("write {}", file.display()))
}

#[expect(clippy::print_stdout, reason = "it is a program for people")]
fn tell(line: &str) {
    println!("{line}");
}
