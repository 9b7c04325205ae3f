//! What work takes is learned from what it took, and plans that were made stay as they are.

use std::time::Duration;

use photofinish_contract::messages::PlanMessage;
use photofinish_kit::wait_for;
use photofinish_model::Operation;
use photofinish_model::estimate::{Learned, Rate};

use crate::house::{House, SOON};
use crate::scripted::Report;

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_stays_as_decided_whatever_is_learned_later() -> anyhow::Result<()> {
    let house = House::open().await?;
    let mut accepted = house.accepted(60, 600);
    let first = accepted.job.clone();
    let planned = |job| {
        let house = &house;
        async move {
            let doc = wait_for(SOON, "a plan", || async {
                house.objects.run(&house.tenant, &job, 1).await.ok()?
            });
            doc.await
        }
    };
    house
        .publish(&PlanMessage::JobAccepted(accepted.clone()))
        .await?;
    let before = planned(first.clone()).await?;
    assert_eq!((before.plan.len(), before.forecast.items), (3, 60));
    let slow = Learned {
        rate: Rate::of_seconds(25.0, 0.001),
        samples: 9,
    };
    let nothing = house.jobstore.estimates().await?;
    assert!(
        house
            .jobstore
            .learn(Operation::Img2vid, &nothing, slow)
            .await?
    );
    // The same message once more, and then two others: with the figures of today, and with those
    // that the client was told.
    let again = PlanMessage::JobAccepted(accepted.clone());
    house.publish(&again).await?;
    let second = house.accepted(60, 600);
    house
        .publish(&PlanMessage::JobAccepted(second.clone()))
        .await?;
    accepted.job = house.accepted(1, 600).job;
    accepted.rate = Some(Rate::of_seconds(50.0, 0.001));
    let told = accepted.job.clone();
    house.publish(&PlanMessage::JobAccepted(accepted)).await?;
    // 60 pictures of 25 s, and of 50 s, with at most 300 s in a part: eleven of the one make 275 s
    // and a bit; five of the other.
    let second = planned(second.job).await?;
    assert_eq!(second.plan.len(), 6, "{:?}", second.plan);
    assert_eq!(planned(told).await?.plan.len(), 12);
    let depth = || house.broker.depth(photofinish_broker::WorkQueue::Plan);
    wait_for(SOON, "all is planned", || async {
        (depth().await.ok()? == 0).then_some(())
    })
    .await?;
    assert_eq!(planned(first).await?, before);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_is_over_teaches_once_what_it_took() -> anyhow::Result<()> {
    let house = House::open().await?;
    let job = house.submit(2, 600).await?;
    let watch = house.watch().await?;
    house.store(&watch, &[0]).await?;
    // It comes twice while the run goes on: one item is missing still.
    for _ in 0..2 {
        let report = Report {
            gpu_seconds: 3.0,
            ..Report::completed("w1")
        };
        house.report(&watch, report).await?;
    }
    let learned = || async {
        let estimates = house.jobstore.estimates().await.ok()?;
        estimates.learned(Operation::Img2vid)
    };
    let first = wait_for(SOON, "something is learned", learned).await?;
    assert_eq!(first.samples, 2, "the settings and one attempt");
    assert!(
        first.rate.item_us > 250_000,
        "slower than expected: {first:?}"
    );
    let watch = house.watch().await?;
    assert_eq!(
        (watch.attempt.attempt, watch.items.as_slice()),
        (2, &[1][..])
    );
    house.store(&watch, &[1]).await?;
    house.report(&watch, Report::completed("w1")).await?;
    let end = house.end(&job, 1).await?;
    assert_eq!(end.counts().stored, 2);
    assert!(Duration::from_millis(end.forecast.wall_ms) > Duration::ZERO);
    let second = learned().await;
    assert_eq!(second.map(|learned| learned.samples), Some(3));

    // What it spent on an item that another attempt was faster with is not what its own took.
    let job = house.submit(2, 600).await?;
    let watch = house.watch().await?;
    let mut faster = watch.clone();
    faster.attempt.attempt = 9;
    house.store(&faster, &[0]).await?;
    house.store(&watch, &[1]).await?;
    house.report(&watch, Report::completed("w1")).await?;
    house.end(&job, 1).await?;
    assert_eq!(learned().await, second);
    Ok(())
}
