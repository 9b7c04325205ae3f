//! What becomes of job events.

use crate::house::{ENDPOINT_SECRET, House, SOON, TENANT_SECRET, event, stored, verified};
use photofinish_broker::{Outgoing, Route, Target, WorkQueue};
use photofinish_contract::event::EventType;
use photofinish_contract::messages::JobEvent;
use photofinish_jobstore::Created;
use photofinish_kit::{Receiver, RedisServer, wait_until};
use photofinish_model::delivery::DeliveryStatus;
use photofinish_model::sequence::{Moment, event_id};
use serde_json::json;
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_final_event_reaches_the_jobs_url_the_endpoint_and_the_exchange() {
    let (house, receiver) = (House::open().await, Receiver::start().await.unwrap());
    house.bind("follower", "acme.job.img2vid.#").await;
    house
        .endpoint("whe_1", &receiver.url("/endpoint"), &[])
        .await;
    house
        .endpoint("whe_2", &receiver.url("/failures"), &["job.failed"])
        .await;
    let job = house.job(2, Some(&receiver.url("/job"))).await;
    let event = house.complete(&job).await;
    house.tell(&event).await;

    let mut received = receiver.wait(2, SOON).await.unwrap();
    received.sort_by_key(|one| one.uri.path().to_owned());
    let id = event_id(&job.job, 1, "job.completed", event.sequence);
    for (one, path, secret) in [
        (&received[0], "/endpoint", ENDPOINT_SECRET),
        (&received[1], "/job", TENANT_SECRET),
    ] {
        assert_eq!(one.uri.path(), path);
        assert_eq!(one.header("webhook-id"), id);
        let body = verified(one, secret);
        assert_eq!(body["type"], "job.completed");
        assert_eq!(body["sequence"], event.sequence);
        assert_eq!(body["data"]["id"], job.job.as_str());
        assert_eq!(body["data"]["status"], "completed");
        assert_eq!(body["data"]["outputs"][1]["item"], "image1");
        let url = body["data"]["outputs"][1]["url"].as_str().unwrap();
        assert!(url.contains("X-Amz-Signature"), "{url}");
        let links = &body["data"]["links"];
        assert_eq!(
            links["self"],
            format!("https://photofinish.example/v1/jobs/{}", job.job)
        );
    }
    let message = house.message("follower").await;
    assert_eq!(message["routing_key"], "acme.job.img2vid.completed");
    assert_eq!(
        message["properties"]["content_type"],
        "application/cloudevents+json"
    );
    let cloud: serde_json::Value =
        serde_json::from_str(message["payload"].as_str().unwrap()).unwrap();
    assert_eq!(cloud["specversion"], "1.0");
    assert_eq!(cloud["id"], id);
    assert_eq!(cloud["source"], "/photofinish/acme");
    assert_eq!(cloud["subject"], job.job.as_str());
    assert_eq!(cloud["data"]["progress"]["items_done"], 2);
    let delivery = house.delivery(&job.job, DeliveryStatus::Delivered).await;
    assert_eq!(delivery.record.event_id, id);
    assert_eq!(delivery.attempts[0].status_code, Some(200));
}

#[tokio::test]
async fn a_tenants_full_queue_keeps_no_webhook_waiting_and_hears_of_it_once_there_is_room() {
    let (house, receiver) = (House::open().await, Receiver::start().await.unwrap());
    let one = json!({"x-max-length": 1, "x-overflow": "reject-publish"});
    house
        .bind_with("follower", "acme.job.img2vid.completed", one)
        .await;
    let queue = "follower".to_owned();
    let filler = Outgoing::new(Target::Reply { queue }, "{}");
    house.broker.publisher().publish(filler).await.unwrap();
    let job = house.job(1, Some(&receiver.url("/job"))).await;
    let event = house.complete(&job).await;
    house.tell(&event).await;
    receiver.wait(1, SOON).await.unwrap();
    house.delivery(&job.job, DeliveryStatus::Delivered).await;
    assert_eq!(house.message("follower").await["payload"], "{}");
    let message = house.message("follower").await;
    let cloud = message["payload"].as_str().unwrap();
    let cloud: serde_json::Value = serde_json::from_str(cloud).unwrap();
    assert_eq!(cloud["subject"], job.job.as_str());
    house.settled().await;
    assert_eq!(receiver.received().len(), 1, "the webhook is sent once");
}

#[tokio::test]
async fn events_before_the_end_tell_what_happened_then() {
    let (house, receiver) = (House::open().await, Receiver::start().await.unwrap());
    let job = house.job(2, Some(&receiver.url("/job"))).await;
    // Not in Redis yet: rebuilt from the plan, and restored.
    house
        .tell(&event(&job, EventType::JobAccepted, Moment::Accepted))
        .await;
    let received = receiver.wait(1, SOON).await.unwrap();
    let body = verified(&received[0], TENANT_SECRET);
    assert_eq!(body["type"], "job.accepted");
    assert_eq!(body["data"]["status"], "accepted");
    assert_eq!(body["data"]["progress"]["items_total"], 2);
    assert!(body["data"].get("outputs").is_none());
    let restored = house.jobstore.job(&job.job).await.unwrap();
    assert_eq!(restored.map(|restored| restored.items.len()), Some(2));
    // The job is over by the time its start is told.
    house.complete(&job).await;
    house
        .tell(&event(&job, EventType::JobStarted, Moment::Started))
        .await;
    let received = receiver.wait(2, SOON).await.unwrap();
    assert_eq!(
        verified(&received[1], TENANT_SECRET)["data"]["status"],
        "running"
    );
}

#[tokio::test]
async fn a_large_jobs_final_event_names_where_its_outputs_are() {
    let (house, receiver) = (House::open().await, Receiver::start().await.unwrap());
    let job = house.job(101, Some(&receiver.url("/job"))).await;
    house.tell(&house.complete(&job).await).await;
    let received = receiver.wait(1, SOON).await.unwrap();
    let body = verified(&received[0], TENANT_SECRET);
    assert!(body["data"].get("outputs").is_none());
    let outputs = body["data"]["links"]["outputs"].as_str().unwrap();
    assert!(
        outputs.ends_with(&format!("/v1/jobs/{}/outputs", job.job)),
        "{outputs}"
    );
}

#[tokio::test]
async fn an_event_that_comes_again_is_one_delivery() {
    let (house, receiver) = (House::open().await, Receiver::start().await.unwrap());
    let job = house.job(1, Some(&receiver.url("/first"))).await;
    let event = house.complete(&job).await;
    house.tell(&event).await;
    house.tell(&event).await;
    house.delivery(&job.job, DeliveryStatus::Delivered).await;
    house.tell(&event).await;
    // Whatever came before this one has been handled by the time the queues are empty again.
    let last = house.job(1, Some(&receiver.url("/last"))).await;
    house.tell(&house.complete(&last).await).await;
    house.delivery(&last.job, DeliveryStatus::Delivered).await;
    let first = receiver
        .received()
        .into_iter()
        .filter(|one| one.uri.path() == "/first");
    assert_eq!(first.count(), 1);
}

#[tokio::test]
async fn progress_is_opt_in_paced_and_tells_the_newest_state() {
    let (house, receiver) = (House::open().await, Receiver::start().await.unwrap());
    house.endpoint("whe_all", &receiver.url("/all"), &[]).await;
    house
        .endpoint(
            "whe_progress",
            &receiver.url("/progress"),
            &["job.progress"],
        )
        .await;
    let mut job = house.job(9, Some(&receiver.url("/job"))).await;
    for index in 0..6 {
        job.items[index].state = stored(&house.tenant, &job.job, index as u16);
    }
    assert_eq!(house.jobstore.create(&job).await.unwrap(), Created::Created);
    let begun = Instant::now();
    for settled in 1..=6_u16 {
        let progress = event(
            &job,
            EventType::JobProgress,
            Moment::Progress(settled.into()),
        );
        house
            .tell(&JobEvent {
                changed: vec![settled - 1],
                ..progress
            })
            .await;
    }
    let received = receiver.wait(2, SOON).await.unwrap();
    assert!(received.iter().all(|one| one.uri.path() == "/progress"));
    let mut bodies: Vec<_> = received
        .iter()
        .map(|one| verified(one, ENDPOINT_SECRET))
        .collect();
    bodies.sort_by_key(|body| body["sequence"].as_u64());
    // From the telling on: how long a POST takes on a busy machine is no part of the pace.
    assert!(received[1].at - begun >= Duration::from_secs(1));
    let newest = event(&job, EventType::JobProgress, Moment::Progress(6));
    assert_eq!(bodies[1]["sequence"], newest.sequence);
    assert_eq!(bodies[1]["data"]["status"], "running");
    assert!(bodies[1]["data"].get("outputs").is_none());
    let changed = |body: &serde_json::Value| body["changed"].as_array().unwrap().len();
    assert_eq!(changed(&bodies[0]) + changed(&bodies[1]), 6, "{bodies:#?}");
    assert!(bodies[1]["changed"][0]["url"].as_str().is_some());
}

#[tokio::test]
async fn with_redis_away_a_final_event_is_delivered() {
    let mut redis = RedisServer::start().await.unwrap();
    let (house, receiver) = (
        House::with_redis(&redis.url()).await,
        Receiver::start().await.unwrap(),
    );
    house
        .endpoint("whe_1", &receiver.url("/endpoint"), &[])
        .await;
    let job = house.job(2, Some(&receiver.url("/job"))).await;
    redis.kill();
    receiver.script([photofinish_kit::Answer {
        status: 503,
        headers: vec![("retry-after".to_owned(), "1".to_owned())],
        ..Default::default()
    }]);
    house.tell(&house.complete(&job).await).await;
    let received = receiver.wait(3, SOON).await.unwrap();
    let paths = |path: &str| received.iter().filter(|one| one.uri.path() == path).count();
    assert_eq!((paths("/job") >= 1, paths("/endpoint") >= 1), (true, true));
    redis.restart().await.unwrap();
}

#[tokio::test]
async fn a_body_that_is_none_of_ours_is_parked() {
    let house = House::open().await;
    for route in [Route::JobEvent, Route::DeliveryDue] {
        let body = json!({"nonsense": true});
        let outgoing = Outgoing::json(Target::Pipeline(route), &body).unwrap();
        house.broker.publisher().publish(outgoing).await.unwrap();
    }
    wait_until(SOON, "two parked messages", || async {
        house
            .broker
            .depth(WorkQueue::Parked)
            .await
            .is_ok_and(|depth| depth == 2)
    })
    .await
    .unwrap();
}
