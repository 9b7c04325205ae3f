//! Jobs accepted over HTTP: how many a second, and how soon each is answered at a steady rate.
//!
//! An accept is durable: the answer comes when the job's message is confirmed by the broker and its record written.

use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use photofinish_demo::wiring::RunPod;
use photofinish_kit::measure::{Figure, Goal};
use reqwest::RequestBuilder;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::request;
use crate::house::House;

const PER_SECOND: u32 = 500;
const SECONDS: u32 = 10;
/// Calls before anything is measured: connections are made, code is paged in.
const WARM_UP: u32 = 500;
/// Calls at once when as many as possible are to be accepted.
const AT_ONCE: usize = 64;
const MOST_SECONDS: u64 = 5;

pub(crate) async fn measure() -> anyhow::Result<Vec<Figure>> {
    let mut house = House::start("accept", RunPod::stand_in(), Vec::new()).await?;
    // What becomes of the jobs is not measured here: their messages wait.
    for service in ["dispatcher", "fetcher", "notifier"] {
        house.stack.end_service(service).await?;
    }
    steady(&house, WARM_UP).await?;
    let mut waits = steady(&house, PER_SECOND * SECONDS).await?;
    let per_second = most(&house).await?;
    house.end().await?;
    waits.sort_by(f64::total_cmp);
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize];
    Ok(vec![
        Figure {
            name: "http_accept_p99_ms",
            value: at(0.99),
            unit: "ms",
            goal: Goal::AtMost(25.0),
            against: format!(
                "{PER_SECOND} jobs/s over HTTP for {SECONDS} s, from the instant at which each was due to its 202 (median \
                 {:.1} ms, worst {:.0} ms): one confirmed publish, one record; nobody works on the jobs",
                at(0.5),
                at(1.0)
            ),
        },
        Figure {
            name: "http_accept_per_s",
            value: per_second,
            unit: "jobs/s",
            goal: Goal::AtLeast(f64::from(PER_SECOND)),
            against: format!("{AT_ONCE} clients, each with its next job when the last is accepted"),
        },
    ])
}

fn call(house: &House) -> anyhow::Result<RequestBuilder> {
    let wiring = house.stack.wiring()?;
    let call = house
        .stack
        .http()
        .post(format!("{}/v1/jobs", wiring.ingest));
    Ok(call.bearer_auth(&wiring.client.api_key).json(&request()))
}

/// Submits at the steady rate, however long answers take; gives each one's milliseconds since it was due.
async fn steady(house: &House, jobs: u32) -> anyhow::Result<Vec<f64>> {
    let begin = Instant::now();
    let mut calls = JoinSet::new();
    for number in 0..jobs {
        let due = begin + Duration::from_secs(1) * number / PER_SECOND;
        tokio::time::sleep_until(due).await; // paced: the rate is what is measured
        let call = call(house)?;
        calls.spawn(async move {
            let answer = call.send().await?.error_for_status()?;
            anyhow::ensure!(answer.status() == 202, "not accepted");
            answer.bytes().await?;
            anyhow::Ok(due.elapsed().as_secs_f64() * 1000.0)
        });
    }
    calls.join_all().await.into_iter().collect()
}

/// Jobs accepted in a second when clients never wait for anything but the answer.
async fn most(house: &House) -> anyhow::Result<f64> {
    let begin = Instant::now();
    let end = begin + Duration::from_secs(MOST_SECONDS);
    let one = |_number| async {
        call(house)?
            .send()
            .await?
            .error_for_status()?
            .bytes()
            .await
            .context("an answer")
    };
    let in_time = |_number: &u64| std::future::ready(Instant::now() < end);
    let mut answers = futures_util::stream::iter(0_u64..)
        .take_while(in_time)
        .map(one)
        .buffer_unordered(AT_ONCE);
    let mut accepted = 0_u32;
    while let Some(answer) = answers.next().await {
        answer?;
        accepted += 1;
    }
    Ok(f64::from(accepted) / begin.elapsed().as_secs_f64())
}
