//! A cancel in every state, and against completion and deadline: one end, and nothing runs on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use photofinish_broker::{Disposition, Priority as Urgency, WorkQueue};
use photofinish_contract::messages::{AttemptEnd, Command, JobEvent};
use photofinish_kit::wait_for;
use photofinish_model::{JobId, JobStatus};
use serde_json::json;

use crate::house::{ENDPOINT, House, SOON};
use crate::scripted::Report;

const LANE: WorkQueue = WorkQueue::Submit {
    priority: Urgency::Normal,
    lane: 0,
};

async fn calls(house: &House, operation: &str) -> anyhow::Result<u64> {
    let state = house.sim_state().await?;
    Ok(state["calls"][operation].as_u64().unwrap_or_default())
}

/// The final events that the notifier is told of, by job; distinct, for one may be told twice.
async fn finals(house: &House) -> anyhow::Result<BTreeMap<JobId, BTreeSet<String>>> {
    let mut told: BTreeMap<JobId, BTreeSet<String>> = BTreeMap::new();
    while let Some(held) = house.broker.get(WorkQueue::Events).await? {
        let event: JobEvent = held.incoming().json()?;
        held.settle(Disposition::Ack).await;
        if event.sequence % 10_000_000 == 9_999_999 {
            let name = serde_json::to_value(event.event)?.to_string();
            told.entry(event.job).or_default().insert(name);
        }
    }
    Ok(told)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_waits_in_its_lane_when_its_job_is_cancelled_is_never_submitted()
-> anyhow::Result<()> {
    let house = House::with(&[("runpod.workers_max", "1"), ("runpod.backlog", "0")]).await?;
    house.submit(1, 600).await?;
    let first = house.watch().await?;
    let second = house.submit(1, 600).await?;
    wait_for(SOON, "it waits", || async {
        (house.broker.depth(LANE).await.ok()? == 1).then_some(())
    })
    .await?;
    house.command(&second, 1, Command::Cancel).await?;
    let end = house.end(&second, 1).await?;
    assert_eq!(end.status, JobStatus::Cancelled);
    assert_eq!(end.usage.attempts, 0);
    // Its message comes up when there is a slot, and comes to nothing.
    house.store(&first, &first.items).await?;
    house.report(&first, Report::completed("w1")).await?;
    house.end(&first.attempt.job, 1).await?;
    wait_for(SOON, "its message is gone and its slot free", || async {
        let depth = house.broker.depth(LANE).await.ok()?;
        let slots = house.jobstore.slots(ENDPOINT).await.ok()?;
        (depth == 0 && slots.is_empty()).then_some(())
    })
    .await?;
    assert_eq!(calls(&house, "run").await?, 1);
    let told = finals(&house).await?;
    assert_eq!(told.len(), 2);
    assert!(told.values().all(|finals| finals.len() == 1), "{told:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_while_the_submit_is_under_way_reaches_what_comes_of_it() -> anyhow::Result<()> {
    let mut house = House::open().await?;
    house.start("photofinish-fetcher").await?;
    house
        .fault(json!({"operation": "run", "delay_ms": 2500, "perform": true}))
        .await?;
    let job = house.submit(1, 600).await?;
    house.sim_status("IN_QUEUE").await?;
    // RunPod has it and has not said so.
    house.command(&job, 1, Command::Cancel).await?;
    let end = house.end(&job, 1).await?;
    assert_eq!(end.status, JobStatus::Cancelled);
    house.sim_status("CANCELLED").await?;
    wait_for(SOON, "its slot is free", || async {
        let slots = house.jobstore.slots(ENDPOINT).await.ok()?;
        slots.is_empty().then_some(())
    })
    .await?;
    assert_eq!(calls(&house, "run").await?, 1);
    assert_eq!(finals(&house).await?[&job].len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_that_runpod_does_not_take_at_first_gets_through() -> anyhow::Result<()> {
    let mut house = House::open().await?;
    house.start("photofinish-fetcher").await?;
    let job = house.submit(1, 600).await?;
    house.sim_status("IN_QUEUE").await?;
    house
        .fault(json!({"operation": "cancel", "status": 500, "count": 2}))
        .await?;
    house.command(&job, 1, Command::Cancel).await?;
    house.end(&job, 1).await?;
    house.sim_status("CANCELLED").await?;
    Ok(())
}

/// Completion, cancel and deadline at the same moment, job after job: one of them wins each.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_races_a_run_has_one_end_and_tells_it_once() -> anyhow::Result<()> {
    let house = House::with(&[("runpod.workers_max", "20")]).await?;
    let mut jobs = Vec::new();
    for _ in 0..6 {
        house.submit(2, 600).await?;
        jobs.push(house.watch().await?);
    }
    for (nth, watch) in jobs.iter().enumerate() {
        let job = &watch.attempt.job;
        house.store(watch, &watch.items).await?;
        let completed = async { house.report(watch, Report::completed("w1")).await };
        let cancelled = async {
            // paced: so that each of them is first at times
            tokio::time::sleep(Duration::from_millis(nth as u64 % 3 * 4)).await;
            house.command(job, 1, Command::Cancel).await
        };
        let late = async { house.command(job, 1, Command::Deadline).await };
        let (completed, cancelled, late) = tokio::join!(completed, cancelled, late);
        completed.and(cancelled).and(late)?;
    }
    for watch in &jobs {
        let end = house.end(&watch.attempt.job, 1).await?;
        // All is stored: whoever wins can only say so.
        assert_eq!(end.status, JobStatus::Completed);
    }
    // And half done, against a cancel alone.
    let mut halves = Vec::new();
    for _ in 0..4 {
        house.submit(2, 600).await?;
        halves.push(house.watch().await?);
    }
    let (lost, flying) = halves.split_at(2);
    for watch in &halves {
        let job = &watch.attempt.job;
        house.store(watch, &watch.items[..1]).await?;
        let gone = async {
            if lost.contains(watch) {
                return house.report(watch, Report::lost("w1", &[])).await;
            }
            Ok(())
        };
        let (cancelled, late, gone) = tokio::join!(
            house.command(job, 1, Command::Cancel),
            house.command(job, 1, Command::Deadline),
            gone,
        );
        cancelled.and(late).and(gone)?;
    }
    for watch in &halves {
        let end = house.end(&watch.attempt.job, 1).await?;
        assert_eq!(end.counts().stored, 1);
        assert_ne!(end.status, JobStatus::Completed);
        // Its slot, too, whoever reports it.
        let over = Report {
            end: AttemptEnd::RunOver,
            ..Report::lost("w1", &[])
        };
        house.report(watch, over).await?;
    }
    wait_for(SOON, "no slot is held and nothing waits", || async {
        let slots = house.jobstore.slots(ENDPOINT).await.ok()?;
        let depth = house.broker.depth(LANE).await.ok()?;
        (slots.is_empty() && depth == 0).then_some(())
    })
    .await?;
    for job in house.sim_jobs().await? {
        let mut ids = flying.iter().filter_map(|half| half.runpod_id.as_ref());
        if ids.any(|id| job["id"] == id.as_str()) {
            assert_eq!(job["status"], "CANCELLED");
        }
    }
    let told = finals(&house).await?;
    assert_eq!(told.len(), jobs.len() + halves.len());
    assert!(told.values().all(|finals| finals.len() == 1), "{told:?}");
    Ok(())
}
