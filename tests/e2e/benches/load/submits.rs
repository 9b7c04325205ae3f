//! From a job's acceptance to the arrival of its submit at RunPod, at a steady rate of jobs over HTTP.

use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use photofinish_demo::wiring::{RunPod, Setting};
use photofinish_kit::measure::{Figure, Goal};
use photofinish_kit::wait_until;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::client::request;
use crate::house::House;
use crate::recorder::{Recorder, taken};

const PER_SECOND: u64 = 300;
const SECONDS: u64 = 10;
/// Jobs before anything is measured: connections are made, code is paged in.
const WARM_UP: u64 = 300;
const ALL_DEADLINE: Duration = Duration::from_secs(60);

pub(crate) async fn measure() -> anyhow::Result<Vec<Figure>> {
    let recorder = Recorder::bind().await?;
    let settings = vec![
        Setting::new(
            "dispatcher",
            "runpod.base_url",
            format!("{}/v2", recorder.url),
        ),
        Setting::new("dispatcher", "runpod.backlog", "1000000"),
        Setting::new("dispatcher", "runpod.run_per_10s_max", "100000"),
    ];
    let runpod = RunPod::stand_in()
        .flag("--workers-max", "0")
        .flag("--rate-limits", "off");
    let mut house = House::start("submits", runpod, settings).await?;
    let arrivals = recorder.open(&house.stack.wiring()?.runpod)?;
    // Without workers every attempt would wait in RunPod's queue and be asked for again and again.
    house.stack.end_service("fetcher").await?;
    let mut accepted = Vec::new();
    for jobs in [WARM_UP, PER_SECOND * SECONDS] {
        accepted = submit_all(&house, jobs).await?;
        wait_until(ALL_DEADLINE, "every job was submitted", || async {
            let taken = taken(&arrivals).unwrap_or_default();
            accepted.iter().all(|(job, _)| taken.contains_key(job))
        })
        .await?;
    }
    let arrived = taken(&arrivals)?;
    let mut waits = Vec::new();
    for (job, at) in &accepted {
        let then = arrived.get(job).context("a job was not submitted")?;
        waits.push(then.duration_since(*at).as_secs_f64() * 1000.0);
    }
    waits.sort_by(f64::total_cmp);
    house.end().await?;
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize];
    Ok(vec![Figure {
        name: "accept_to_submit_p99_ms",
        value: at(0.99),
        unit: "ms",
        goal: Goal::AtMost(50.0),
        against: format!(
            "{PER_SECOND} one-part jobs/s over HTTP for {SECONDS} s, created_at to the arrival of POST /run (median \
             {:.1} ms, worst {:.0} ms); no limit of slots or rates, no workers, the fetcher stopped",
            at(0.5),
            at(1.0)
        ),
    }])
}

/// Submits at the steady rate, however long answers take; gives each job with its time of acceptance.
async fn submit_all(house: &House, jobs: u64) -> anyhow::Result<Vec<(String, Timestamp)>> {
    let wiring = house.stack.wiring()?;
    let (url, key) = (format!("{}/v1/jobs", wiring.ingest), &wiring.client.api_key);
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / PER_SECOND as u32);
    let mut calls = JoinSet::new();
    for _ in 0..jobs {
        ticks.tick().await;
        let call = house.stack.http().post(&url).bearer_auth(key);
        let call = call.json(&request());
        calls.spawn(async move {
            let answer = call.send().await?.error_for_status()?;
            let job: Value = answer.json().await?;
            let id = job["id"].as_str().context("an id")?.to_owned();
            let at: Timestamp = job["created_at"].as_str().context("a time")?.parse()?;
            anyhow::Ok((id, at))
        });
    }
    let answers = calls.join_all().await;
    answers.into_iter().collect()
}
