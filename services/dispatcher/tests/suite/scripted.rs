//! The fetcher as a script: the test takes the watches and says how each attempt ended.

use photofinish_broker::{Disposition, Outgoing, Route, Target, WorkQueue};
use photofinish_contract::messages::{AttemptEnd, AttemptUsage, PartFinished, PartSubmitted};
use photofinish_kit::wait_for;
use photofinish_model::{ItemIndex, ItemState, OutputSource, StoredOutput};
use serde_json::Value;

use crate::house::{House, SOON};

/// An end that is reported.
pub struct Report {
    pub end: AttemptEnd,
    /// Seconds of GPU.
    pub gpu_seconds: f64,
    pub worker: Option<String>,
    pub suspects: Vec<ItemIndex>,
    /// Its worker said at last that it pushed nothing.
    pub nothing_pushed: bool,
}

impl Report {
    /// The worker died.
    pub fn lost(worker: &str, suspects: &[ItemIndex]) -> Self {
        Self {
            end: AttemptEnd::Lost {
                reason: "it is gone".to_owned(),
            },
            gpu_seconds: 10.0,
            worker: Some(worker.to_owned()),
            suspects: suspects.to_vec(),
            nothing_pushed: false,
        }
    }

    /// The worker returned.
    pub fn completed(worker: &str) -> Self {
        Self {
            end: AttemptEnd::Completed,
            ..Self::lost(worker, &[])
        }
    }
}

impl House {
    /// The next attempt that is to be watched.
    pub async fn watch(&self) -> anyhow::Result<PartSubmitted> {
        let held = wait_for(SOON, "a watch", || async {
            self.broker.get(WorkQueue::Watch).await.ok()?
        });
        let held = held
            .await
            .map_err(|error| anyhow::anyhow!("{error}\n{}", self.logs()))?;
        let watch = held.incoming().json()?;
        held.settle(Disposition::Ack).await;
        Ok(watch)
    }

    /// The bytes of these items are in the bucket, as far as the record goes.
    pub async fn store(&self, watch: &PartSubmitted, items: &[ItemIndex]) -> anyhow::Result<()> {
        let attempt = &watch.attempt;
        for index in items {
            let state = ItemState::Stored(StoredOutput {
                key: format!("{}/{index:04}.mp4", attempt.job),
                bytes: 1,
                sha256: "0".repeat(64),
                duration_s: 1.0,
                run: attempt.run,
                attempt: attempt.attempt,
                source: OutputSource::PulledInProgress,
            });
            let _settled = self
                .jobstore
                .settle_item(&attempt.job, attempt.run, *index, &state)
                .await?;
        }
        Ok(())
    }

    /// An attempt is over.
    pub async fn report(&self, watch: &PartSubmitted, report: Report) -> anyhow::Result<()> {
        let message = PartFinished {
            attempt: watch.attempt.clone(),
            endpoint: watch.endpoint.clone(),
            end: report.end,
            errors: Vec::new(),
            usage: AttemptUsage {
                gpu_seconds: report.gpu_seconds,
                ..AttemptUsage::default()
            },
            worker_id: report.worker,
            items: watch.items.clone(),
            suspects: report.suspects,
            state: watch.state.clone(),
            nothing_pushed: report.nothing_pushed,
        };
        let outgoing = Outgoing::json(Target::Pipeline(Route::PartFinished), &message)?;
        Ok(self.broker.publisher().publish(outgoing).await?)
    }

    /// RunPod's jobs of an endpoint.
    pub async fn jobs_at(&self, endpoint: &str) -> anyhow::Result<Vec<Value>> {
        let state = self.sim_state().await?;
        let jobs = state["endpoints"][endpoint]["jobs"].as_array().cloned();
        Ok(jobs.unwrap_or_default())
    }

    /// Waits until an endpoint has so many jobs, whatever became of them.
    pub async fn jobs_reach(&self, endpoint: &str, count: usize) -> anyhow::Result<Vec<Value>> {
        let what = format!("{count} jobs at {endpoint}");
        let jobs = wait_for(SOON, &what, || async {
            let jobs = self.jobs_at(endpoint).await.ok()?;
            (jobs.len() == count).then_some(jobs)
        });
        jobs.await
            .map_err(|error| anyhow::anyhow!("{error}\n{}", self.logs()))
    }

    /// Waits until a process has said so.
    pub async fn said(&self, text: &str) -> anyhow::Result<()> {
        let said = wait_for(SOON, text, || async {
            self.logs().contains(text).then_some(())
        });
        said.await
            .map_err(|error| anyhow::anyhow!("{error}\n{}", self.logs()))
    }
}
