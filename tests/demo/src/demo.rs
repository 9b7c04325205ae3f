//! `demo`: the product's main job on real input, checked.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::Value;

use crate::checks::{self, Report, Sources};
use crate::jobs::{self, Ask, Door, Finished};
use crate::receiver::{Ear, Files};
use crate::samples::{PICTURES, Samples};
use crate::say::say;
use crate::stack::{Options, Stack};
use crate::wiring::{RunPod, Setting, Wiring};
use crate::{media, progress, rescue, tables, up};

/// All of it, from the first start to the last check; stopping comes on top.
const DEMO_DEADLINE: Duration = Duration::from_secs(160);
const JOBS_DEADLINE: Duration = Duration::from_secs(90);
/// Short, so that the rescue needs no minute; in production a worker waits longer.
const LINGER_S: &str = "4";
const RESCUE_PICTURES: u32 = 3;

/// Runs the demo in a directory: an error if anything does not hold.
pub async fn run(dir: &Path) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut stack = Stack::claim(Options {
        dir: dir.to_path_buf(),
        lasting: false,
        tenant: up::TENANT.to_owned(),
        servers: None,
        settings: vec![Setting::new("dispatcher", "race.linger_s", LINGER_S)],
        runpod: RunPod::default(),
    })?;
    let outcome = tokio::select! {
        outcome = show(&mut stack) => outcome,
        signal = up::interrupted() => Err(anyhow::anyhow!("{signal}")),
        () = tokio::time::sleep(DEMO_DEADLINE) => { // paced: the deadline of the whole demo
            Err(anyhow::anyhow!("the demo took longer than {DEMO_DEADLINE:?}"))
        }
    };
    let stopped = stack.stop().await;
    let logs = stack.dir().join("logs");
    let checks = outcome.with_context(|| format!("the logs lie in {}", logs.display()))?;
    stopped?;
    let seconds = begun.elapsed().as_secs_f64();
    say(format!(
        "\nall {checks} checks held; everything is stopped; {seconds:.0} s in all"
    ));
    say(format!(
        "outputs to look at: {}",
        stack.dir().join("outputs").display()
    ));
    Ok(())
}

/// Gives how many checks held; an error if one did not.
async fn show(stack: &mut Stack) -> anyhow::Result<usize> {
    let began = Instant::now();
    say("starting RabbitMQ, Redis, an S3 server, the RunPod emulator and the four services");
    let samples_dir = tempfile::tempdir().context("make a directory for the samples")?;
    let (started, samples) =
        tokio::join!(stack.start(), Samples::make(samples_dir.path(), PICTURES));
    let (samples, ()) = (samples?, started?);
    say(format!(
        "ready after {:.1} s; {PICTURES} pictures painted",
        began.elapsed().as_secs_f64()
    ));
    let files = Files::start(samples.dir.clone()).await?;
    let ear = Ear::start().await?;

    say("\nfour jobs: two over AMQP (bare lapin, the tenant's own user), two over HTTP");
    let asks = asks(&samples, &files, &ear).await?;
    let (finished, workers) = run_jobs(stack, asks).await?;
    say("\nthe rescue");
    let ask = jobs::img2vid(
        "img2vid-rescue",
        Door::Http,
        (RESCUE_PICTURES, PICTURES),
        &files.url(),
        &ear.url(),
    );
    let rescued = rescue::run(stack, ask).await?;

    say("\nchecking every file, hash and webhook");
    let mut report = Report::default();
    let mut rows: Vec<(&Finished, Sources)> = Vec::new();
    for job in finished.iter().chain([&rescued]) {
        rows.push((job, checks::check_job(stack, &ear, job, &mut report).await?));
    }
    check_sources(&rows, &rescued, &mut report);
    say(format!("\n{}\n", tables::processes(stack, &workers).await?));
    say(tables::jobs(&rows));
    report.verdict()
}

/// The three jobs: two over AMQP, one over HTTP.
pub(crate) async fn asks(samples: &Samples, files: &Files, ear: &Ear) -> anyhow::Result<Vec<Ask>> {
    let audio_s = media::probe(&samples.audio()).await?.audio_s;
    let (files, hook) = (files.url(), ear.url());
    Ok(vec![
        jobs::img2vid(
            "img2vid-split",
            Door::Amqp,
            (PICTURES, PICTURES),
            &files,
            &hook,
        ),
        jobs::caption(Door::Http, &files, &hook),
        jobs::addaudio(Door::Amqp, audio_s, &files, &hook),
    ])
}

async fn run_jobs(
    stack: &Stack,
    asks: Vec<Ask>,
) -> anyhow::Result<(Vec<Finished>, Vec<(String, u32)>)> {
    let (http, wiring) = (stack.http(), stack.wiring()?);
    let mut submitted = Vec::new();
    for ask in asks {
        let job = jobs::submit(http, wiring, ask).await?;
        say(format!(
            "  {} over {}: {}",
            job.ask.name, job.ask.door, job.id
        ));
        submitted.push(job);
    }
    let finished = progress::follow(http, wiring, submitted, JOBS_DEADLINE).await?;
    Ok((finished, workers(http, wiring).await?))
}

/// The workers that the emulator runs now, by RunPod's id.
async fn workers(http: &reqwest::Client, wiring: &Wiring) -> anyhow::Result<Vec<(String, u32)>> {
    let state = http
        .get(format!("{}/_sim/state", wiring.runpod))
        .send()
        .await?;
    let state: Value = state.json().await.context("read the emulator's state")?;
    let rows = state["workers"].as_array().cloned().unwrap_or_default();
    let pids: BTreeMap<_, _> = rows
        .iter()
        .filter_map(|row| {
            let pid = u32::try_from(row["pid"].as_u64()?).ok()?;
            Some((row["id"].as_str()?.to_owned(), pid))
        })
        .collect();
    Ok(pids.into_iter().collect())
}

/// At least one output came while its worker's job was IN_PROGRESS; the rescue job's came by rescue.
fn check_sources(rows: &[(&Finished, Sources)], rescued: &Finished, report: &mut Report) {
    report.check_in_progress(rows.iter().map(|(_, sources)| sources));
    for (job, sources) in rows {
        let name = job.ask.name;
        report.check(sources.unknown == 0, || {
            format!(
                "{name}: the bucket does not say how {} outputs came",
                sources.unknown
            )
        });
        let told = job.job.usage.rescued as usize;
        report.check(told == sources.rescued, || {
            format!(
                "{name}: usage says {told} rescued, the bucket {}",
                sources.rescued
            )
        });
    }
    let by_rescue = rows.iter().filter(|(job, _)| job.job.id == rescued.job.id);
    let by_rescue: usize = by_rescue.map(|(_, sources)| sources.rescued).sum();
    report.check(by_rescue >= 1, || {
        "the rescue job has no rescued output".to_owned()
    });
}
