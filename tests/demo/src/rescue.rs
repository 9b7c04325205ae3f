//! The rescue: the fetcher is stopped, so nobody comes for the outputs, and the worker pushes them itself.

use std::time::Duration;

use anyhow::Context as _;
use photofinish_kit::wait_until;
use serde_json::Value;

use crate::jobs::{self, Ask, Finished};
use crate::progress;
use crate::say::say;
use crate::stack::Stack;
use crate::wiring::{ENDPOINT_ID, Wiring};

const WORKER_DEADLINE: Duration = Duration::from_mins(1);
const JOB_DEADLINE: Duration = Duration::from_mins(1);

/// Submits a job while the fetcher is stopped; starts the fetcher again when the worker has given up waiting, has
/// pushed its outputs and is done; follows the job to its end.
pub async fn run(stack: &mut Stack, ask: Ask) -> anyhow::Result<Finished> {
    let done_before = attempts_done(stack.http(), stack.wiring()?).await?;
    stack
        .end_service("fetcher")
        .await
        .context("stop the fetcher")?;
    let submitted = jobs::submit(stack.http(), stack.wiring()?, ask).await?;
    say("  the fetcher is stopped; the worker renders, lingers, and pushes what nobody fetched");
    let (http, wiring) = (stack.http(), stack.wiring()?);
    let what = "the worker ends its job with nobody to fetch from it";
    let is_done = || async {
        attempts_done(http, wiring)
            .await
            .is_ok_and(|done| done > done_before)
    };
    let waited = wait_until(WORKER_DEADLINE, what, is_done).await;
    stack
        .restart_service("fetcher")
        .await
        .context("start the fetcher again")?;
    waited?;
    say("  the worker is done; the fetcher runs again");
    let wiring = stack.wiring()?;
    let mut finished =
        progress::follow(stack.http(), wiring, vec![submitted], JOB_DEADLINE).await?;
    finished.pop().context("the job that was followed")
}

/// How many jobs of RunPod have ended well.
async fn attempts_done(http: &reqwest::Client, wiring: &Wiring) -> anyhow::Result<u64> {
    let health = http
        .get(format!("{}/v2/{ENDPOINT_ID}/health", wiring.runpod))
        .bearer_auth(&wiring.secrets.runpod_key)
        .send()
        .await
        .context("ask the emulator's /health")?;
    let status = health.status();
    anyhow::ensure!(
        status.is_success(),
        "the emulator's /health answers {status}"
    );
    let health: Value = health.json().await.context("read the emulator's /health")?;
    health["jobs"]["completed"]
        .as_u64()
        .context("no jobs.completed in the emulator's /health")
}
