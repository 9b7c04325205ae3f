//! Outputs that do not fit into anything: in parts, cut, handed on.

use std::time::Duration;

use photofinish_contract::announcement::AnnouncementKind;
use photofinish_contract::messages::Command;
use photofinish_kit::{FaultProxy, wait_for};
use photofinish_model::{Code, ItemState, JobStatus};
use photofinish_objects::{PART_BYTES, WHOLE_BYTES_MAX};
use serde_json::json;

use crate::house::{House, SOON};
use crate::pulls::{GROWTH_BYTES_MAX, MIB, memory_peak, metric, noise, open, pulled, stored};
use crate::rendering_worker::{Content, RenderingWorker, announcement};

const GIB: u64 = 1 << 30;

/// No part begins where a block does.
fn block() -> axum::body::Bytes {
    noise(4 * MIB + 3, 5)
}

#[tokio::test(flavor = "multi_thread")]
async fn three_gib_arrive_whole_in_little_memory() -> anyhow::Result<()> {
    let worker = RenderingWorker::start().await?;
    let proxy = FaultProxy::start(worker.addr.to_string()).await?;
    let house = open(&proxy).await?;
    let job = house.submit(2, 600).await?;
    let taken = house.take().await?;
    pulled(&house, &job, &taken, &worker, 0, noise(100_000, 1)).await?;
    let pid = house.processes["photofinish-fetcher"].pid();
    let before = memory_peak(pid);
    let content = Content::new(block(), 3 * GIB + 5);
    let output = worker.has_made(&taken, 1, content.clone());
    // Its hash is checked on the way in: what is not as announced never appears.
    let large = stored(&house, &job, &taken, &worker, 1, output).await?;
    let growth = memory_peak(pid) - before;
    assert!(growth < GROWTH_BYTES_MAX, "grew by {growth} bytes");
    assert_eq!(large.bytes, content.bytes);
    let came = metric(&house, "photofinish_pulled_bytes_total{route=\"proxy\"}").await?;
    assert_eq!(came, content.bytes + 100_000, "no byte came twice");
    assert!(house.jobstore.kept_uploads(&job).await?.is_empty());
    let (url, _) = house
        .objects
        .presign_get(&large.key, Duration::from_mins(5), crate::house::now())
        .await?;
    // Where parts meet, and the end.
    for at in (1..48).map(|part| part * PART_BYTES).chain([content.bytes]) {
        let (from, to) = (at - 1000, (at + 1000).min(content.bytes));
        let get = photofinish_kit::client()?.get(&url);
        let get = get.header("range", format!("bytes={from}-{}", to - 1));
        let got = get.send().await?.error_for_status()?.bytes().await?;
        let mut expected = Vec::new();
        while from + (expected.len() as u64) < to {
            expected.extend_from_slice(&content.piece(from + expected.len() as u64, to));
        }
        assert!(got == expected, "from {from} on");
    }
    Ok(())
}

/// kill -9 in the middle of an upload in parts: whoever pulls next aborts it, or the run's end.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_fetcher_died_is_aborted() -> anyhow::Result<()> {
    let worker = RenderingWorker::start().await?;
    let proxy = FaultProxy::start(worker.addr.to_string()).await?;
    let mut house = open(&proxy).await?;
    for cancelled in [false, true] {
        let job = house.submit(1, 600).await?;
        let taken = house.take().await?;
        let mut content = Content::new(block(), WHOLE_BYTES_MAX + 5);
        content.pause = Duration::from_millis(100);
        let output = worker.has_made(&taken, 0, content);
        let ready = announcement(&taken, AnnouncementKind::Ready, vec![output.clone()]);
        let progress = json!({"status": "IN_PROGRESS", "output": ready});
        house.tell_runpod(&taken.id, progress).await?;
        let kept = wait_for(SOON, "an upload is under way", || async {
            let kept = house.jobstore.kept_uploads(&job).await.ok()?;
            (!kept.is_empty()).then_some(kept)
        });
        let kept = kept.await.map_err(|error| error.context(house.logs()))?;
        assert_eq!(kept[0].nonce, taken.input.attempt.nonce);
        house.processes["photofinish-fetcher"].kill().await?;
        assert_eq!(house.jobstore.kept_uploads(&job).await?, kept);
        if cancelled {
            house.command(&job, 1, Command::Cancel).await?;
            let end = house.end(&job, 1).await?;
            assert_eq!(end.status, JobStatus::Cancelled);
        } else {
            worker.hurry();
            house.start("photofinish-fetcher").await?;
            stored(&house, &job, &taken, &worker, 0, output).await?;
            house.tell_runpod(&taken.id, json!({"output": {}})).await?;
            assert_eq!(house.end(&job, 1).await?.status, JobStatus::Completed);
        }
        assert!(house.jobstore.kept_uploads(&job).await?.is_empty());
        let key = &kept[0].key;
        let gone = house.objects.abort_upload(key, &kept[0].id).await;
        assert!(gone.is_err(), "it was aborted before");
    }
    Ok(())
}

/// A proxy that ends its answer early, but as if that were all.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_ends_early_and_cleanly_goes_on_where_it_ended() -> anyhow::Result<()> {
    let worker = RenderingWorker::start().await?;
    let proxy = FaultProxy::start(worker.addr.to_string()).await?;
    let house = open(&proxy).await?;
    let job = house.submit(1, 600).await?;
    let taken = house.take().await?;
    let mut content = Content::new(block(), 5 * MIB as u64);
    content.ends_after = Some(1_234_567);
    let output = worker.has_made(&taken, 0, content.clone());
    stored(&house, &job, &taken, &worker, 0, output).await?;
    assert_eq!(worker.seen(|seen| seen.reads), 5);
    let came = metric(&house, "photofinish_pulled_bytes_total{route=\"proxy\"}").await?;
    assert_eq!(came, content.bytes, "no byte came twice");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_that_is_too_large_fails_its_item() -> anyhow::Result<()> {
    let worker = RenderingWorker::start().await?;
    let template = RenderingWorker::template(worker.addr);
    let settings = [
        ("runpod.proxy_url", template.as_str()),
        ("fetcher.output_bytes_max", "1000"),
    ];
    let mut house = House::with(&settings).await?;
    house.start("photofinish-fetcher").await?;
    let job = house.submit(1, 600).await?;
    let taken = house.take().await?;
    let output = worker.has(&taken, 0, noise(1001, 1));
    let last = announcement(&taken, AnnouncementKind::Ready, vec![output.clone()]);
    let progress = json!({"status": "IN_PROGRESS", "output": last});
    house.tell_runpod(&taken.id, progress).await?;
    let freed = wait_for(SOON, "the worker may free it", || async {
        worker
            .seen(|seen| seen.acknowledged.contains(&output.name))
            .then_some(())
    });
    freed.await.map_err(|error| error.context(house.logs()))?;
    let end = house.end(&job, 1).await?;
    let ItemState::Failed(fault) = &end.items[0].state else {
        panic!("{:?}", end.items)
    };
    assert_eq!(fault.code, Code::OutputTooLarge);
    assert_eq!(worker.seen(|seen| seen.reads), 0, "nothing of it was read");
    Ok(())
}

/// Two fetchers: the one that ends finishes the pull that will be done in time, and hands the
/// other one on at once.
#[tokio::test(flavor = "multi_thread")]
async fn at_shutdown_a_pull_is_finished_or_handed_on() -> anyhow::Result<()> {
    let worker = RenderingWorker::start().await?;
    let proxy = FaultProxy::start(worker.addr.to_string()).await?;
    let mut house = open(&proxy).await?;
    let job = house.submit(2, 600).await?;
    let taken = house.take().await?;
    let paced = |bytes: u64, pause: u64| Content {
        pause: Duration::from_millis(pause),
        ..Content::new(block(), bytes)
    };
    let short = worker.has_made(&taken, 0, paced(24 * MIB as u64, 150));
    let long = worker.has_made(&taken, 1, paced(300 * MIB as u64, 150));
    let ready = announcement(
        &taken,
        AnnouncementKind::Ready,
        vec![short.clone(), long.clone()],
    );
    let progress = json!({"status": "IN_PROGRESS", "output": ready});
    house.tell_runpod(&taken.id, progress).await?;
    let begun = wait_for(SOON, "both are read", || async {
        (worker.seen(|seen| seen.reads_of.len()) == 2).then_some(())
    });
    begun.await.map_err(|error| error.context(house.logs()))?;
    tokio::time::sleep(Duration::from_secs(1)).await; // paced: some of both is to come
    let leaving = house.processes.remove("photofinish-fetcher").unwrap();
    house.start("photofinish-fetcher").await?;
    let ended = leaving.terminate(Duration::from_secs(28)).await?;
    assert!(ended.success(), "{ended:?}: {}", leaving.log_tail());
    worker.hurry();
    for (index, output) in [(0, &short), (1, &long)] {
        let output = output.clone();
        stored(&house, &job, &taken, &worker, index, output).await?;
    }
    let reads = |name: &str| worker.seen(|seen| seen.reads_of[name]);
    assert_eq!(reads(&short.name), 1, "finished by the one that ended");
    assert_eq!(reads(&long.name), 2, "begun anew by the other");
    house.tell_runpod(&taken.id, json!({"output": {}})).await?;
    let end = house.end(&job, 1).await?;
    assert_eq!((end.status, end.usage.attempts), (JobStatus::Completed, 1));
    Ok(())
}
