//! From an admitted job to RunPod's: at once where nobody waits, once whatever comes twice or dies.

use photofinish_broker::{Priority as Urgency, WorkQueue};
use photofinish_contract::messages::PlanMessage;
use photofinish_kit::wait_for;
use serde_json::json;

use crate::house::{ENDPOINT, House, SOON};

const LANE: WorkQueue = WorkQueue::Submit {
    priority: Urgency::Normal,
    lane: 0,
};
const DISPATCHER: &str = "photofinish-dispatcher";

/// The sum of the dispatcher's counters of a name with a label.
async fn counted(house: &House, name: &str, label: &str) -> Option<u64> {
    let metrics = house.metrics(DISPATCHER).await.ok()?;
    let meant = metrics.lines();
    let meant = meant.filter(|line| line.starts_with(name) && line.contains(label));
    let counts = meant.filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok());
    Some(counts.sum())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_waits_in_its_lane_only_for_a_slot_or_for_others() -> anyhow::Result<()> {
    let house = House::with(&[("runpod.workers_max", "2"), ("runpod.backlog", "0")]).await?;
    for _ in 0..2 {
        house.submit(2, 600).await?;
    }
    house.jobs_reach(ENDPOINT, 2).await?;
    wait_for(SOON, "both jobs' messages are settled", || async {
        let (name, plan) = (
            "photofinish_broker_consumed_total",
            "queue=\"dispatcher.plan\"",
        );
        (counted(&house, name, plan).await? == 2).then_some(())
    })
    .await?;
    // Of each the event and the watch, and no part's message between them.
    let published = counted(&house, "photofinish_broker_published_total", "pipeline");
    assert_eq!(published.await, Some(4));
    for _ in 0..2 {
        house.submit(2, 600).await?;
    }
    wait_for(SOON, "the others wait", || async {
        (house.broker.depth(LANE).await.ok()? == 2).then_some(())
    })
    .await?;
    assert_eq!(house.jobs_at(ENDPOINT).await?.len(), 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_comes_twice_is_submitted_once() -> anyhow::Result<()> {
    let house = House::with(&[("runpod.workers_max", "20")]).await?;
    let message = PlanMessage::JobAccepted(house.accepted(2, 600));
    house.publish(&message).await?;
    house.publish(&message).await?;
    // Each hands the attempt to the fetcher, which takes it for one.
    wait_for(SOON, "two messages for the fetcher", || async {
        (house.broker.depth(WorkQueue::Watch).await.ok()? == 2).then_some(())
    })
    .await?;
    assert_eq!(house.sim_jobs().await?.len(), 1, "{}", house.logs());
    let slots = wait_for(SOON, "one slot", || async {
        let slots = house.jobstore.slots(ENDPOINT).await.ok()?;
        (slots.len() == 1).then_some(())
    });
    slots.await?;
    assert_eq!(house.broker.depth(LANE).await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submit_whose_process_is_killed_is_watched_and_not_repeated() -> anyhow::Result<()> {
    // One slot, which the killed submit holds: what comes again gets none.
    let settings = [("runpod.workers_max", "1"), ("runpod.backlog", "0")];
    let mut house = House::with(&settings).await?;
    house
        .fault(json!({"operation": "run", "delay_ms": 60_000, "perform": true}))
        .await?;
    house.submit(1, 600).await?;
    house.sim_status("IN_QUEUE").await?;
    // RunPod has it and has not said so.
    house.processes[DISPATCHER].kill().await?;
    house.start(DISPATCHER).await?;
    let watch = house.watch().await?;
    assert_eq!(watch.runpod_id, None);
    assert_eq!(house.sim_state().await?["calls"]["run"], 1);
    Ok(())
}
