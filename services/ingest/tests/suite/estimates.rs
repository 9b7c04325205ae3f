//! How long it takes: told before it runs, planned with, told while it runs.

use crate::house::{House, SOON, job};
use photofinish_contract::messages::PlanMessage;
use photofinish_kit::wait_for;
use photofinish_model::estimate::{Learned, Rate};
use photofinish_model::{ItemState, JobId, Operation, OutputSource, Priority, StoredOutput};
use serde_json::{Value, json};

fn seconds(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

#[tokio::test]
async fn what_was_learned_is_told_and_planned_with() {
    let house = House::open().await;
    let (_, before) = house.post("/v1/jobs?dry_run=true", &job(60)).await;
    assert_eq!(before["parts"].as_array().unwrap().len(), 3);
    let slow = Learned {
        rate: Rate::of_seconds(10.0, 0.1),
        samples: 9,
    };
    let nothing = house.jobstore.estimates().await.unwrap();
    let kept = house.jobstore.learn(Operation::Img2vid, &nothing, slow);
    assert!(kept.await.unwrap());
    let told = wait_for(SOON, "the new estimate", || async {
        let (_, told) = house.post("/v1/jobs?dry_run=true", &job(60)).await;
        (told["estimated_s"] != before["estimated_s"]).then_some(told)
    });
    let told = told.await.unwrap();
    // 60 pictures of 10 s, and 7,465 megapixels of a tenth of a second.
    assert!(
        (seconds(&told["estimated_s"]) - 1346.5).abs() < 1.0,
        "{told}"
    );
    let parts = told["parts"].as_array().unwrap();
    assert!(
        parts
            .iter()
            .all(|part| seconds(&part["estimated_s"]) <= 300.0)
    );
    assert_eq!(parts.len(), 5, "{told}");
    let (status, shown) = house.submit(None, &job(60)).await;
    assert_eq!((status, &shown["usage"]["parts"]), (202, &json!(5)));
    let PlanMessage::JobAccepted(accepted) = house.planned().await.0 else {
        unreachable!()
    };
    assert_eq!(
        accepted.rate,
        Some(slow.rate),
        "it is planned as it was told"
    );
}

async fn progress(house: &House, id: &str) -> Value {
    let (status, shown) = house.get(&format!("/v1/jobs/{id}")).await;
    assert_eq!(status, 200, "{shown}");
    let (_, list) = house.get("/v1/jobs").await;
    let (one, listed) = (&shown["progress"], &list["data"][0]["progress"]);
    assert_eq!(one["items_done"], listed["items_done"]);
    assert_eq!(
        one["eta_s"].is_null(),
        listed["eta_s"].is_null(),
        "{one} {listed}"
    );
    one.clone()
}

#[tokio::test]
async fn a_running_job_says_how_long_yet() {
    let house = House::open().await;
    let (_, shown) = house.submit(None, &job(60)).await;
    let id = shown["id"].as_str().unwrap();
    let job: JobId = id.parse().unwrap();
    let waits = progress(&house, id).await;
    assert!(waits["eta_s"].is_null(), "no worker has begun: {waits}");
    let created: jiff::Timestamp = shown["created_at"].as_str().unwrap().parse().unwrap();
    let started = created - jiff::SignedDuration::from_secs(9);
    let _started = house.jobstore.mark_started(&job, 1, started).await.unwrap();
    let begins = seconds(&progress(&house, id).await["eta_s"]);
    assert!(
        (1.5..=6.0).contains(&begins),
        "15 s less those that passed: {begins}"
    );
    for index in 0..30 {
        let stored = ItemState::Stored(StoredOutput {
            key: format!("k{index}"),
            bytes: 1,
            sha256: "ab".repeat(32),
            duration_s: 2.0,
            run: 1,
            attempt: 1,
            source: OutputSource::PulledInProgress,
        });
        let _settled = house
            .jobstore
            .settle_item(&job, 1, index, &stored)
            .await
            .unwrap();
    }
    let half = progress(&house, id).await;
    // Half of it by plan is 7.5 s, by the pace what has passed.
    assert_eq!(half["ratio"], 0.5);
    assert!((7.0..=30.0).contains(&seconds(&half["eta_s"])), "{half}");
    let mut end = house.jobstore.job(&job).await.unwrap().unwrap();
    end.status = photofinish_model::JobStatus::Cancelled;
    let _ended = house.jobstore.finish(&end).await.unwrap();
    assert!(progress(&house, id).await["eta_s"].is_null());
    assert_eq!(end.priority, Priority::Normal);
}
