//! The emulator of RunPod, told what to do wrong and asked what it knows.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;
use photofinish_kit::wait_until;
use reqwest::Method;
use serde_json::{Value, json};

const GONE_DEADLINE: Duration = Duration::from_secs(10);

/// Its control API.
#[derive(Debug, Clone, Copy)]
pub struct Emulator<'a> {
    http: &'a reqwest::Client,
    base: &'a str,
}

impl<'a> Emulator<'a> {
    /// That at `base`, `http://host:port`.
    pub fn new(http: &'a reqwest::Client, base: &'a str) -> Self {
        Self { http, base }
    }

    /// The next calls, webhooks, jobs or workers suffer this: `kind` is empty, `webhook`, `queue` or `worker`; the
    /// emulator's README has the bodies.
    pub async fn fault(&self, kind: &str, fault: Value) -> anyhow::Result<()> {
        let path = format!("/_sim/faults/{kind}");
        self.call(Method::POST, path.trim_end_matches('/'), Some(fault))
            .await
            .map(drop)
    }

    /// No fault is still to come.
    pub async fn forgive(&self) -> anyhow::Result<()> {
        self.call(Method::DELETE, "/_sim/faults", None)
            .await
            .map(drop)
    }

    /// Everything that it knows.
    pub async fn state(&self) -> anyhow::Result<Value> {
        self.call(Method::GET, "/_sim/state", None).await
    }

    /// How often an operation was called.
    pub async fn calls(&self, operation: &str) -> anyhow::Result<u64> {
        Ok(self.state().await?["calls"][operation]
            .as_u64()
            .unwrap_or(0))
    }

    /// The status of every job that it knows, in no order.
    pub async fn statuses(&self) -> anyhow::Result<Vec<String>> {
        let state = self.state().await?;
        let jobs = state["jobs"].as_array().into_iter().flatten();
        Ok(jobs
            .filter_map(|job| job["status"].as_str().map(str::to_owned))
            .collect())
    }

    /// Ends a worker that has a job with SIGKILL, without a word to the queue, and waits until it is gone.
    pub async fn kill_busy(&self) -> anyhow::Result<()> {
        let busy = self.workers("workers", |worker| {
            let jobs = worker["jobs"].as_array();
            worker["pid"].is_u64() && jobs.is_some_and(|jobs| !jobs.is_empty())
        });
        let busy = busy.await?.into_iter().next();
        let worker = busy.context("no worker has an attempt")?;
        let path = format!("/_sim/workers/{worker}/kill");
        self.call(Method::POST, &path, Some(json!({}))).await?;
        self.gone(|gone| gone["id"] == worker.as_str()).await
    }

    /// Waits until a worker has ended that `which` wants.
    pub async fn gone(&self, which: impl Fn(&Value) -> bool) -> anyhow::Result<()> {
        let which = &which;
        wait_until(GONE_DEADLINE, "a worker is gone", || async move {
            let gone = self.workers("gone", which);
            gone.await.is_ok_and(|gone| !gone.is_empty())
        })
        .await
    }

    /// The ids of workers that are listed there and that `which` wants.
    async fn workers(
        &self,
        list: &str,
        which: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<BTreeSet<String>> {
        let state = self.state().await?;
        let all = state[list].as_array().cloned().unwrap_or_default();
        let wanted = all.iter().filter(|worker| which(worker));
        Ok(wanted
            .filter_map(|worker| worker["id"].as_str().map(str::to_owned))
            .collect())
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
        let mut call = self
            .http
            .request(method.clone(), format!("{}{path}", self.base));
        if let Some(body) = body {
            call = call.json(&body);
        }
        let answer = call
            .send()
            .await
            .with_context(|| format!("{method} {path} at the emulator"))?;
        let status = answer.status();
        let text = answer.text().await.unwrap_or_default();
        anyhow::ensure!(
            status.is_success(),
            "{method} {path} at the emulator: {status}: {text}"
        );
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }
}
