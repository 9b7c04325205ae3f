//! Several of RunPod's endpoints: who gets what, who takes over, and what it cost where.

use std::time::{Duration, Instant};

use photofinish_contract::messages::Command;
use photofinish_kit::wait_for;
use photofinish_model::part::Part;
use photofinish_model::{Code, ItemState, JobStatus};
use serde_json::json;

use crate::house::{ENDPOINT, FURTHER, House, SOON};
use crate::scripted::Report;

async fn throttle(house: &House, workers: u32) -> anyhow::Result<()> {
    let url = format!("http://{}/_sim/throttle", house.sim.addr());
    let call = photofinish_kit::client()?.post(url);
    let answer = call.json(&json!({"workers": workers})).send().await?;
    anyhow::ensure!(answer.status().is_success());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_endpoint_takes_over_while_the_first_has_no_machines() -> anyhow::Result<()> {
    let house = House::with(&[("runpod.further_endpoints", FURTHER)]).await?;
    throttle(&house, 3).await?;
    house.said("other endpoints are preferred").await?;
    let job = house.submit(1, 600).await?;
    house.jobs_reach(FURTHER, 1).await?;
    assert!(house.jobs_at(ENDPOINT).await?.is_empty());
    let watch = house.watch().await?;
    assert_eq!(watch.endpoint, FURTHER);
    let text = house.jobstore.part(&job, 1, 0).await?.unwrap();
    let part: Part = serde_json::from_str(&text)?;
    assert_eq!(part.endpoint.as_deref(), Some(FURTHER));
    assert_eq!(house.jobstore.slots(FURTHER).await?.len(), 1);
    assert!(house.jobstore.slots(ENDPOINT).await?.is_empty());
    // What it was sent is cancelled there, and its slot is freed there.
    house.command(&job, 1, Command::Cancel).await?;
    house.end(&job, 1).await?;
    assert_eq!(house.jobs_at(FURTHER).await?[0]["status"], "CANCELLED");
    house.report(&watch, Report::lost("w1", &[])).await?;
    wait_for(SOON, "the slot is free", || async {
        let slots = house.jobstore.slots(FURTHER).await.ok()?;
        slots.is_empty().then_some(())
    })
    .await?;
    // The first is the first again as soon as it can.
    throttle(&house, 0).await?;
    house.said("the endpoint is well again").await?;
    house.submit(1, 600).await?;
    house.jobs_reach(ENDPOINT, 1).await?;
    assert_eq!(house.jobs_at(FURTHER).await?.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_fails_rests_and_is_tried_again_with_one_attempt() -> anyhow::Result<()> {
    let rest = Duration::from_secs(4);
    let house = House::with(&[
        ("runpod.further_endpoints", FURTHER),
        ("runpod.breaker_failures_max", "1"),
        ("runpod.breaker_open_min_s", "4"),
    ])
    .await?;
    house
        .fault(json!({"operation": "run", "endpoint": ENDPOINT, "status": 503}))
        .await?;
    house.submit(1, 600).await?;
    house.said("breaker open").await?;
    let failed_at = Instant::now();
    house.submit(1, 600).await?;
    house.jobs_reach(FURTHER, 1).await?;
    assert!(house.jobs_at(ENDPOINT).await?.is_empty());
    // paced: the breaker rests for so long at most
    tokio::time::sleep(rest.saturating_sub(failed_at.elapsed())).await;
    house.submit(1, 600).await?;
    house.jobs_reach(ENDPOINT, 1).await?;
    house.said("breaker closed").await?;
    assert_eq!(house.jobs_at(FURTHER).await?.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_goes_elsewhere_and_each_attempt_costs_what_its_endpoint_does() -> anyhow::Result<()>
{
    let further = format!("{FURTHER} workers_max=1 usd_per_gpu_second=0.02");
    let house = House::with(&[
        ("runpod.further_endpoints", &further),
        ("usage.usd_per_gpu_second", "0.01"),
    ])
    .await?;
    let job = house.submit(1, 600).await?;
    let mut places = Vec::new();
    for turn in 0..3 {
        let watch = house.watch().await?;
        places.push(watch.endpoint.clone());
        let report = Report::lost(&format!("w{turn}"), &[]);
        house.report(&watch, report).await?;
    }
    assert_eq!(places, [ENDPOINT, FURTHER, ENDPOINT]);
    let end = house.end(&job, 1).await?;
    assert_eq!(end.status, JobStatus::Failed);
    // Ten seconds each.
    assert!((end.usage.cost_usd - 0.4).abs() < 1e-9, "{:?}", end.usage);
    let manifest = house.objects.manifest(&house.tenant, &job).await?.unwrap();
    let cost = manifest.usage.cost_estimate.unwrap();
    assert!((cost.amount - 0.4).abs() < 1e-9, "{cost:?}");
    assert_eq!(manifest.usage.attempts, 3);
    let ItemState::Failed(fault) = &end.items[0].state else {
        panic!("{:?}", end.items)
    };
    assert_eq!(fault.code, Code::AttemptsExhausted);
    for told in ["w0", "w1", "w2", ENDPOINT, FURTHER, "it is gone"] {
        assert!(fault.detail.contains(told), "{told}: {}", fault.detail);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_does_not_tell_its_health_stops_nobody() -> anyhow::Result<()> {
    let redis = photofinish_kit::Redis::fresh()?;
    let settings = [("runpod.further_endpoints", FURTHER)];
    let mut house = House::empty(&redis.url, &redis.prefix, &settings).await?;
    house
        .fault(json!({"operation": "health", "endpoint": ENDPOINT, "rate": 1.0, "hang": true}))
        .await?;
    house.start("photofinish-dispatcher").await?;
    let began = Instant::now();
    house.submit(1, 600).await?;
    house.jobs_reach(ENDPOINT, 1).await?;
    assert!(began.elapsed() < Duration::from_secs(4), "{}", house.logs());
    Ok(())
}
