//! Watches: what they find out, and what they put back.

use std::time::{Duration, Instant};

use axum::body::Bytes;
use photofinish_broker::{Outgoing, Target, WorkQueue};
use photofinish_contract::announcement::{AnnouncementKind, ItemError};
use photofinish_contract::messages::{Heard, PartReady, Signal};
use photofinish_jobstore::JobStore;
use photofinish_kit::{RedisServer, wait_for};
use photofinish_model::part::{Part, Phase};
use photofinish_model::{Code, Fault, JobId, JobStatus, Priority, SlotName};
use serde_json::json;

use crate::house::{ENDPOINT, House, SOON, Taken};
use crate::rendering_worker::{RenderingWorker, announcement};

async fn phase(jobstore: &JobStore, job: &JobId) -> Option<Phase> {
    let text = jobstore.part(job, 1, 0).await.ok()??;
    let part: Part = serde_json::from_str(&text).ok()?;
    Some(part.phase)
}

async fn signal(house: &House, taken: &Taken, heard: Heard) -> anyhow::Result<()> {
    let attempt = taken.input.attempt.clone();
    let outgoing = Outgoing::json(Target::Signals, &Signal { attempt, heard })?;
    Ok(house.broker.publisher().publish(outgoing).await?)
}

async fn finish(house: &House, worker: &RenderingWorker, taken: &Taken) -> anyhow::Result<()> {
    let output = worker.has(taken, 0, Bytes::from_static(b"a clip"));
    let ready = announcement(taken, AnnouncementKind::Ready, vec![output.clone()]);
    let progress = json!({"status": "IN_PROGRESS", "output": ready});
    house.tell_runpod(&taken.id, progress).await?;
    signal(house, taken, Heard::Announcement(Box::new(ready))).await?;
    let acknowledged = wait_for(SOON, "it is acknowledged", || async {
        worker
            .seen(|seen| seen.acknowledged.contains(&output.name))
            .then_some(())
    });
    acknowledged
        .await
        .map_err(|error| error.context(house.logs()))?;
    let last = announcement(taken, AnnouncementKind::Final, vec![output]);
    house
        .tell_runpod(&taken.id, json!({"output": last}))
        .await?;
    signal(house, taken, Heard::Completed).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_whose_submit_was_never_answered_is_adopted() -> anyhow::Result<()> {
    let worker = RenderingWorker::start().await?;
    let template = RenderingWorker::template(worker.addr);
    let mut house = House::with(&[("runpod.proxy_url", &template)]).await?;
    house.start("photofinish-fetcher").await?;
    house
        .fault(json!({"operation": "run", "status": 500, "perform": true}))
        .await?;
    let job = house.submit(1, 600).await?;
    let taken = house.take().await?;
    // The worker calls home; its first call may come before anybody watches.
    let started = announcement(&taken, AnnouncementKind::Started, Vec::new());
    let adopted = wait_for(SOON, "it is adopted", || async {
        let heard = Heard::Announcement(Box::new(started.clone()));
        signal(&house, &taken, heard).await.ok()?;
        tokio::time::sleep(Duration::from_millis(200)).await; // paced: a worker's signals
        worker.seen(|seen| seen.greeted).then_some(())
    });
    adopted.await.map_err(|error| error.context(house.logs()))?;
    // From the first announcement on, with nothing to fetch yet: the worker would not linger else.
    finish(&house, &worker, &taken).await?;
    let end = house.end(&job, 1).await?;
    assert_eq!((end.status, end.usage.attempts), (JobStatus::Completed, 1));
    assert_eq!(house.sim_jobs().await?.len(), 1, "one attempt");
    Ok(())
}

/// RunPod's webhook says that it is over before RunPod's own status does. Where signals come, polls are rare.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_runpod_tells_before_its_status_is_seen_soon() -> anyhow::Result<()> {
    let worker = RenderingWorker::start().await?;
    let template = RenderingWorker::template(worker.addr);
    let mut house = House::with(&[("runpod.proxy_url", &template)]).await?;
    house.start("photofinish-fetcher").await?;
    let job = house.submit(1, 600).await?;
    let taken = house.take().await?;
    let output = worker.has(&taken, 0, Bytes::from_static(b"a clip"));
    let ready = announcement(&taken, AnnouncementKind::Ready, vec![output.clone()]);
    let acknowledged = wait_for(SOON, "it is acknowledged", || async {
        let heard = Heard::Announcement(Box::new(ready.clone()));
        signal(&house, &taken, heard).await.ok()?;
        tokio::time::sleep(Duration::from_millis(200)).await; // paced: a worker's signals
        worker
            .seen(|seen| seen.acknowledged.contains(&output.name))
            .then_some(())
    });
    acknowledged
        .await
        .map_err(|error| error.context(house.logs()))?;
    let stale =
        json!({"operation": "status", "set": {"status": "IN_PROGRESS"}, "remove": ["output"]});
    house.fault(stale).await?;
    let last = announcement(&taken, AnnouncementKind::Final, vec![output]);
    house
        .tell_runpod(&taken.id, json!({"output": last}))
        .await?;
    let told = Instant::now();
    signal(&house, &taken, Heard::Completed).await?;
    let end = house.end(&job, 1).await?;
    assert_eq!((end.status, end.usage.attempts), (JobStatus::Completed, 1));
    let took = told.elapsed();
    assert!(took < Duration::from_secs(20), "seen after {took:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_ends_cancels_its_attempt_and_frees_its_slot() -> anyhow::Result<()> {
    let worker = RenderingWorker::start().await?;
    let template = RenderingWorker::template(worker.addr);
    let mut house = House::with(&[("runpod.proxy_url", &template)]).await?;
    house.start("photofinish-fetcher").await?;
    let job = house.submit(1, 5).await?;
    let _taken = house.take().await?;
    // Neither the dispatcher's cancel nor the watch's first gets through.
    house
        .fault(json!({"operation": "cancel", "status": 500, "count": 2}))
        .await?;
    let end = house.end(&job, 1).await?;
    assert_eq!(
        end.error.map(|fault| fault.code),
        Some(Code::DeadlineExceeded)
    );
    house.sim_status("CANCELLED").await?;
    wait_for(SOON, "its slot is free", || async {
        house
            .jobstore
            .slots(ENDPOINT)
            .await
            .ok()?
            .is_empty()
            .then_some(())
    })
    .await?;
    Ok(())
}

/// More than fits into a message if every detail is kept.
#[tokio::test(flavor = "multi_thread")]
async fn many_failed_items_are_reported_all_the_same() -> anyhow::Result<()> {
    let worker = RenderingWorker::start().await?;
    let template = RenderingWorker::template(worker.addr);
    let settings = [
        ("runpod.proxy_url", template.as_str()),
        ("plan.parallel_max", "1"),
    ];
    let mut house = House::with(&settings).await?;
    house.start("photofinish-fetcher").await?;
    let job = house.submit(300, 600).await?;
    let taken = house.take().await?;
    let mut last = announcement(&taken, AnnouncementKind::Final, Vec::new());
    last.errors = (0..300)
        .map(|index| ItemError {
            index,
            fault: Fault::new(Code::NotAnImage, "this is no picture; ".repeat(20)),
            permanent: true,
        })
        .collect();
    house
        .tell_runpod(&taken.id, json!({"output": last}))
        .await?;
    let end = house.end(&job, 1).await?;
    assert_eq!((end.status, end.counts().failed), (JobStatus::Failed, 300));
    assert_eq!(end.usage.attempts, 1);
    Ok(())
}

/// FLUSHALL while an attempt is in flight: its watch puts record and slot back, and a copy of the
/// part's message posts nothing.
#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_redis_submits_nothing_twice() -> anyhow::Result<()> {
    let redis = RedisServer::start().await?;
    let worker = RenderingWorker::start().await?;
    let template = RenderingWorker::template(worker.addr);
    let settings = [
        ("runpod.proxy_url", template.as_str()),
        // Longer than a watch's tick.
        ("redis.epoch_age_min_s", "15"),
    ];
    let mut house = House::empty(&redis.url(), "pf:", &settings).await?;
    house.start("photofinish-dispatcher").await?;
    house.start("photofinish-fetcher").await?;
    let job = house.submit(1, 600).await?;
    let taken = house.take().await?;
    let flight = |phase: Option<Phase>| match phase {
        Some(Phase::InFlight { nonce, runpod_id }) => {
            (nonce == taken.input.attempt.nonce && runpod_id.is_some()).then_some(())
        }
        Some(Phase::Waiting | Phase::Submitting { .. } | Phase::Done) | None => None,
    };
    let before = wait_for(SOON, "it is in flight", || async {
        flight(phase(&house.jobstore, &job).await)
    });
    before.await?;
    redis.flush()?;
    let ready = PartReady {
        job: job.clone(),
        tenant: house.tenant.clone(),
        run: 1,
        part: 0,
        attempt: 1,
        priority: Priority::Normal,
        state: None,
    };
    let lane = WorkQueue::Submit {
        priority: photofinish_broker::Priority::Normal,
        lane: 0,
    };
    let copy = Outgoing::json(Target::Queue(lane), &ready)?;
    house.broker.publisher().publish(copy).await?;
    let after = wait_for(SOON, "its record is back", || async {
        flight(phase(&house.jobstore, &job).await)
    });
    after.await.map_err(|error| error.context(house.logs()))?;
    let taken_up = wait_for(SOON, "the copy was taken up", || async {
        (house.broker.depth(lane).await.ok()? == 0).then_some(())
    });
    taken_up
        .await
        .map_err(|error| error.context(house.logs()))?;
    let slots = house.jobstore.slots(ENDPOINT).await?;
    let slot = SlotName::from(&taken.input.attempt).to_string();
    assert!(slots.iter().any(|held| held.name == slot), "{slots:?}");
    finish(&house, &worker, &taken).await?;
    let end = house.end(&job, 1).await?;
    assert_eq!(end.status, JobStatus::Completed, "{}", house.logs());
    assert_eq!(house.sim_jobs().await?.len(), 1, "{}", house.logs());
    Ok(())
}
