//! Outputs on their way through the fetcher.

use std::time::Duration;

use axum::body::Bytes;
use photofinish_contract::announcement::{AnnouncementKind, ReadyOutput};
use photofinish_kit::{Fault, FaultProxy, wait_for};
use photofinish_model::{ItemState, JobId, JobStatus, OutputSource, StoredOutput};
use serde_json::json;

use crate::house::{House, SOON, Taken};
use crate::rendering_worker::{RenderingWorker, announcement};

pub const MIB: usize = 1024 * 1024;
/// The design's limit for one pull.
pub const GROWTH_BYTES_MAX: u64 = 24 * MIB as u64;

/// Bytes that do not repeat soon.
pub fn noise(length: usize, seed: u64) -> Bytes {
    let mut state = seed | 1;
    let words = (0..length.div_ceil(8)).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    let mut bytes: Vec<u8> = words.collect();
    bytes.truncate(length);
    bytes.into()
}

pub async fn open(proxy: &FaultProxy) -> anyhow::Result<House> {
    let template = RenderingWorker::template(proxy.addr());
    let mut house = House::with(&[("runpod.proxy_url", &template)]).await?;
    house.start("photofinish-fetcher").await?;
    Ok(house)
}

/// Announces one output by progress and waits until it is stored.
pub async fn pulled(
    house: &House,
    job: &JobId,
    taken: &Taken,
    worker: &RenderingWorker,
    index: u16,
    content: Bytes,
) -> anyhow::Result<StoredOutput> {
    let output = worker.has(taken, index, content);
    stored(house, job, taken, worker, index, output).await
}

/// The same for an output that lies there.
pub async fn stored(
    house: &House,
    job: &JobId,
    taken: &Taken,
    worker: &RenderingWorker,
    index: u16,
    output: ReadyOutput,
) -> anyhow::Result<StoredOutput> {
    let mut ready = announcement(taken, AnnouncementKind::Ready, vec![output.clone()]);
    ready.addresses.clone_from(&worker.addresses);
    let progress = json!({"status": "IN_PROGRESS", "output": ready});
    house.tell_runpod(&taken.id, progress).await?;
    let stored = wait_for(3 * SOON, "the output is stored", || async {
        let known = house.jobstore.job(job).await.ok()??;
        match &known.items[usize::from(index)].state {
            ItemState::Stored(stored) => Some(stored.clone()),
            ItemState::Pending | ItemState::Rendering | ItemState::Ready | ItemState::Failed(_) => {
                None
            }
        }
    });
    let stored = stored.await.map_err(|error| error.context(house.logs()))?;
    assert_eq!(stored.sha256, output.sha256);
    wait_for(SOON, "it is acknowledged", || async {
        worker
            .seen(|seen| seen.acknowledged.contains(&output.name))
            .then_some(())
    })
    .await?;
    Ok(stored)
}

/// A number that the fetcher tells of itself.
pub async fn metric(house: &House, name: &str) -> anyhow::Result<u64> {
    let spec = house.processes["photofinish-fetcher"].spec();
    let ports = std::fs::read(spec.dir.join(format!("{}.ports.json", spec.name)))?;
    let ports: serde_json::Value = serde_json::from_slice(&ports)?;
    let url = format!("http://{}/metrics", ports["admin"].as_str().unwrap());
    let text = photofinish_kit::client()?.get(url).send().await?;
    let text = text.text().await?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    Ok(line.map_or(0, |value| value.trim().parse().unwrap()))
}

/// `VmHWM` of a process: the most memory that it ever held.
pub fn memory_peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_output_passes_in_little_memory() -> anyhow::Result<()> {
    let worker = RenderingWorker::start().await?;
    let proxy = FaultProxy::start(worker.addr.to_string()).await?;
    let house = open(&proxy).await?;
    let job = house.submit(2, 600).await?;
    let taken = house.take().await?;
    let small = pulled(&house, &job, &taken, &worker, 0, noise(100_000, 1)).await?;
    assert_eq!(small.source, OutputSource::PulledInProgress);
    let pid = house.processes["photofinish-fetcher"].pid();
    let before = memory_peak(pid);
    let content = noise(64 * MIB, 2);
    let large = pulled(&house, &job, &taken, &worker, 1, content).await?;
    assert_eq!(large.bytes, 64 * MIB as u64);
    assert!(house.objects.output_exists(&large.key).await?);
    let growth = memory_peak(pid) - before;
    assert!(growth < GROWTH_BYTES_MAX, "grew by {growth} bytes");

    house.tell_runpod(&taken.id, json!({"output": {}})).await?;
    assert_eq!(house.end(&job, 1).await?.status, JobStatus::Completed);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_is_cut_anywhere_goes_on_where_it_broke() -> anyhow::Result<()> {
    let worker = RenderingWorker::start().await?;
    let proxy = FaultProxy::start(worker.addr.to_string()).await?;
    let house = open(&proxy).await?;
    let job = house.submit(1, 600).await?;
    let taken = house.take().await?;
    let content = noise(12 * MIB, 3);
    let cutting = async {
        // Every connection is cut somewhere between 1 KiB and 1.5 MiB; each of a dozen elsewhere.
        for step in 0_u64.. {
            let bytes = 1024 + step.wrapping_mul(7_919_113) % (3 * MIB as u64 / 2);
            proxy.set(Fault::CutAfter(bytes));
            tokio::time::sleep(Duration::from_millis(15)).await; // paced: this is the fault
        }
    };
    let pull = pulled(&house, &job, &taken, &worker, 0, content.clone());
    let stored = tokio::select! {
        stored = pull => stored?,
        () = cutting => unreachable!("it never ends"),
    };
    assert_eq!(stored.bytes, content.len() as u64);
    let reads = worker.seen(|seen| seen.reads);
    assert!(reads > 5, "it was cut: {reads} reads");
    assert!(reads < 2000, "it went on: {reads} reads");
    let came = metric(&house, "photofinish_pulled_bytes_total{route=\"proxy\"}").await?;
    assert_eq!(came, content.len() as u64, "no byte came twice");
    Ok(())
}

/// What the worker pushed while nobody came counts as stored, and the run ends by it.
#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_fetched_is_rescued() -> anyhow::Result<()> {
    let worker = RenderingWorker::start().await?;
    let proxy = FaultProxy::start(worker.addr.to_string()).await?;
    let house = open(&proxy).await?;
    house.processes["photofinish-fetcher"].freeze();
    let job = house.submit(1, 600).await?;
    let taken = house.take().await?;
    let content = noise(MIB, 4);
    let output = worker.has(&taken, 0, content.clone());
    let http = photofinish_kit::client()?;
    let put = http
        .put(&taken.input.rescue[0].put_url)
        .body(content)
        .send()
        .await?;
    assert!(put.status().is_success());
    let mut last = announcement(&taken, AnnouncementKind::Final, vec![output]);
    last.rescued = vec![0];
    let report = http
        .put(&taken.input.report_put_url)
        .json(&last)
        .send()
        .await?;
    assert!(report.status().is_success());
    // RunPod's result is lost, too: only the bucket knows.
    house.fail_job(&taken.id).await?;
    house.processes["photofinish-fetcher"].thaw();
    let end = house.end(&job, 1).await?;
    assert_eq!((end.status, end.usage.attempts), (JobStatus::Completed, 1));
    let ItemState::Stored(stored) = &end.items[0].state else {
        panic!("{:?}", end.items)
    };
    assert_eq!(stored.source, OutputSource::Rescued);
    assert_eq!(end.usage.rescued, 1);
    assert!(house.objects.output_exists(&stored.key).await?);
    let left = house.objects.list_rescued(&taken.input.attempt).await?;
    assert!(left.is_empty(), "{left:?}");
    Ok(())
}
