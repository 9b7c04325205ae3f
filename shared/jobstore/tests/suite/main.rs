//! The job store, on a real Redis.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod deliveries;
mod estimates;
mod fairness;
mod lists;
mod older;
mod records;
mod slots;
mod telling;
mod tenants;
mod tls;

use jiff::Timestamp;
use photofinish_jobstore::{JobStore, Settings};
use photofinish_kit::Redis;
use photofinish_model::estimate::Forecast;
use photofinish_model::{
    Code, Fault, ItemRow, ItemState, JobId, JobSnapshot, JobStatus, OnItemError, Operation,
    OutputSource, Priority, StoredOutput, Tenant, Usage,
};
use secrecy::SecretString;
use std::time::Duration;

type Outcome = anyhow::Result<()>;

fn store_at(url: &str, prefix: &str) -> JobStore {
    JobStore::connect(&Settings {
        url: SecretString::from(url),
        prefix: prefix.to_owned(),
        epoch_age_min: Duration::ZERO,
        ..Settings::default()
    })
    .unwrap()
}

fn store() -> anyhow::Result<JobStore> {
    let redis = Redis::fresh()?;
    Ok(store_at(&redis.url, &redis.prefix))
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn tenant() -> Tenant {
    "acme".parse().unwrap()
}

fn snapshot(job: u128, run: u32, items: u16) -> JobSnapshot {
    JobSnapshot {
        job: JobId::from_random(job),
        tenant: tenant(),
        run,
        operation: Operation::Img2vid,
        priority: Priority::Normal,
        status: JobStatus::Accepted,
        created_at: time("2026-11-22T10:00:00Z"),
        started_at: None,
        finished_at: None,
        deadline_at: time("2026-11-22T11:00:00Z"),
        on_item_error: OnItemError::Skip,
        items: (0..items)
            .map(|index| ItemRow {
                index,
                item: format!("i{index}"),
                state: ItemState::Pending,
            })
            .collect(),
        parts: 1,
        forecast: Forecast::default(),
        error: None,
        usage: Usage::default(),
        metadata: None,
        receivers: None,
        outputs_deleted_at: None,
        body_sha256: "00".repeat(32),
    }
}

fn stored(attempt: u16) -> ItemState {
    ItemState::Stored(StoredOutput {
        key: format!("k{attempt}"),
        bytes: 10,
        sha256: "ab".repeat(32),
        duration_s: 2.0,
        run: 1,
        attempt,
        source: OutputSource::PulledInProgress,
    })
}

fn failed(detail: &str) -> ItemState {
    ItemState::Failed(Fault::new(Code::NotAnImage, detail))
}
