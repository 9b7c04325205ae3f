//! From a part's message to RunPod's job: once, and slots that are never lost.

use std::time::{Duration, Instant};

use photofinish_broker::{Outgoing, Priority as Urgency, Target, WorkQueue};
use photofinish_contract::messages::PartReady;
use photofinish_kit::wait_for;
use photofinish_model::part::{Part, Phase};
use photofinish_model::{JobId, Nonce, Priority, SlotName};
use serde_json::json;

use crate::house::{ENDPOINT, House, SOON};

const LANE: WorkQueue = WorkQueue::Submit {
    priority: Urgency::Normal,
    lane: 0,
};

async fn part(house: &House, job: &JobId) -> Part {
    let text = house.jobstore.part(job, 1, 0).await.unwrap().unwrap();
    serde_json::from_str(&text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_comes_twice_is_one_job_of_runpod() -> anyhow::Result<()> {
    let house = House::open().await?;
    let job = house.submit(2, 600).await?;
    house.sim_status("IN_QUEUE").await?;
    let ready = PartReady {
        job: job.clone(),
        tenant: house.tenant.clone(),
        run: 1,
        part: 0,
        attempt: 1,
        priority: Priority::Normal,
        state: None,
    };
    let copy = Outgoing::json(Target::Queue(LANE), &ready)?;
    house.broker.publisher().publish(copy).await?;
    // The copy hands the attempt to the fetcher once more, and nothing else.
    let what = "two messages for the fetcher";
    wait_for(SOON, what, || async {
        let depth = house.broker.depth(WorkQueue::Watch).await.ok()?;
        (depth == 2).then_some(())
    })
    .await?;
    assert_eq!(house.sim_jobs().await?.len(), 1, "{}", house.logs());
    assert_eq!(house.jobstore.slots(ENDPOINT).await?.len(), 1);
    assert_eq!(part(&house, &job).await.attempt, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_part_waits_as_long_as_runpod_asks() -> anyhow::Result<()> {
    let house = House::open().await?;
    let began = Instant::now();
    let refusal = json!({"operation": "run", "status": 429, "count": 1, "retry_after": 3});
    house.fault(refusal).await?;
    let job = house.submit(1, 600).await?;
    house.sim_status("IN_QUEUE").await?;
    let waited = began.elapsed();
    assert!(waited >= Duration::from_secs(3), "{waited:?}");
    assert!(
        waited < Duration::from_secs(20),
        "{waited:?}: its lane was not looked at"
    );
    assert_eq!(house.sim_state().await?["calls"]["run"], 2);
    let part = part(&house, &job).await;
    assert_eq!(
        (part.attempt, part.open[&0]),
        (1, 0),
        "a refusal spends nothing"
    );
    assert_eq!(house.jobstore.slots(ENDPOINT).await?.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submit_without_an_answer_is_watched_and_not_repeated() -> anyhow::Result<()> {
    let house = House::open().await?;
    house
        .fault(json!({"operation": "run", "status": 500, "perform": true}))
        .await?;
    let job = house.submit(1, 600).await?;
    house.sim_status("IN_QUEUE").await?;
    let held = wait_for(SOON, "a watch", || async {
        house.broker.get(WorkQueue::Watch).await.ok()?
    });
    let held = held.await?;
    let watch: photofinish_contract::messages::PartSubmitted = held.incoming().json()?;
    assert_eq!(watch.runpod_id, None);
    let phase = Phase::InFlight {
        nonce: watch.attempt.nonce,
        runpod_id: None,
    };
    assert_eq!(part(&house, &job).await.phase, phase);
    assert_eq!(house.sim_state().await?["calls"]["run"], 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn while_runpod_keeps_failing_parts_wait_in_their_lane_and_spend_nothing()
-> anyhow::Result<()> {
    let settings = [
        ("runpod.breaker_failures_max", "2"),
        ("runpod.breaker_open_min_s", "4"),
    ];
    let house = House::with(&settings).await?;
    house
        .fault(json!({"operation": "run", "status": 503, "count": 2}))
        .await?;
    let calls = || async { house.sim_state().await.ok()?["calls"]["run"].as_u64() };
    for sent in [1, 2] {
        house.submit(1, 600).await?;
        wait_for(SOON, "a submit", || async {
            (calls().await? == sent).then_some(())
        })
        .await?;
    }
    let failed_at = Instant::now();
    let waiting = [house.submit(1, 600).await?, house.submit(1, 600).await?];
    wait_for(SOON, "both wait in the lane", || async {
        (house.broker.depth(LANE).await.ok()? == 2).then_some(())
    })
    .await?;
    assert_eq!(calls().await, Some(2), "nothing is sent");
    wait_for(SOON, "both are submitted", || async {
        (house.sim_jobs().await.ok()?.len() == 2).then_some(())
    })
    .await?;
    let waited = failed_at.elapsed();
    assert!(waited >= Duration::from_secs(1), "{waited:?}");
    assert_eq!(calls().await, Some(4), "one each");
    for job in &waiting {
        let part = part(&house, job).await;
        assert_eq!((part.attempt, part.open[&0]), (1, 0), "{}", house.logs());
    }
    let logs = house.logs();
    assert!(
        logs.contains("breaker open") && logs.contains("breaker closed"),
        "{logs}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_that_nobody_vouches_for_are_asked_after() -> anyhow::Result<()> {
    let house = House::open().await?;
    let job = house.submit(1, 600).await?;
    house.sim_status("IN_QUEUE").await?;
    let flight = wait_for(SOON, "the part is in flight", || async {
        match part(&house, &job).await.phase {
            Phase::InFlight { nonce, .. } => Some(nonce),
            Phase::Waiting | Phase::Submitting { .. } | Phase::Done => None,
        }
    });
    let nonce = flight.await?;
    let slot = |nonce: &Nonce| {
        SlotName {
            tenant: house.tenant.clone(),
            job: job.clone(),
            run: 1,
            part: 0,
            nonce: nonce.clone(),
        }
        .to_string()
    };
    // One whose record nobody can read comes first, and stops nobody.
    let unreadable = SlotName {
        tenant: house.tenant.clone(),
        job: JobId::from_random(1),
        run: 1,
        part: 0,
        nonce: Nonce::from_random(1),
    };
    let (lost, name) = (unreadable.job.clone(), unreadable.to_string());
    let _swapped = house.jobstore.part_cas(&lost, 1, 0, None, "{}").await?;
    house
        .jobstore
        .bind(ENDPOINT, &name, &name, Duration::ZERO)
        .await?;
    let brief = Duration::from_millis(1);
    let superseded = slot(&Nonce::from_random(7));
    for name in [&slot(&nonce), &superseded, "no-owner"] {
        house.jobstore.bind(ENDPOINT, name, name, brief).await?;
    }
    let names = || async {
        let slots = house.jobstore.slots(ENDPOINT).await.ok()?;
        Some(slots.into_iter().map(|slot| slot.name).collect::<Vec<_>>())
    };
    let what = "only the slot of the attempt in flight is kept";
    wait_for(SOON, what, || async {
        (names().await? == [name.clone(), slot(&nonce)]).then_some(())
    })
    .await?;
    // It lost its watch, as far as anyone can tell, so it is watched again.
    wait_for(SOON, "a second watch", || async {
        let depth = house.broker.depth(WorkQueue::Watch).await.ok()?;
        (depth == 2).then_some(())
    })
    .await?;
    let slots = house.jobstore.slots(ENDPOINT).await?;
    assert!(
        slots[1].left_ms > 60_000,
        "copies must not pile up: {slots:?}"
    );
    Ok(())
}
