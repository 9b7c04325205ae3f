//! What becomes of deliveries.

use crate::house::{ENDPOINT_SECRET, House, SOON, TENANT_SECRET, verified};
use photofinish_kit::{Answer, Receiver};
use photofinish_model::delivery::DeliveryStatus;
use photofinish_model::webhook::Cause;

fn later(status: u16) -> Answer {
    Answer {
        status,
        headers: vec![("retry-after".to_owned(), "1".to_owned())],
        body: "not now".to_owned(),
        ..Answer::default()
    }
}

#[tokio::test]
async fn a_receiver_that_is_busy_twice_gets_the_same_webhook_three_times() {
    let (house, receiver) = (House::open().await, Receiver::start().await.unwrap());
    receiver.script([later(503), later(429)]);
    let job = house.job(1, Some(&receiver.url("/job"))).await;
    house.tell(&house.complete(&job).await).await;
    let received = receiver.wait(3, SOON).await.unwrap();
    let delivery = house.delivery(&job.job, DeliveryStatus::Delivered).await;
    assert_eq!(received.len(), 3);
    for one in &received {
        assert_eq!(one.header("webhook-id"), received[0].header("webhook-id"));
        assert_eq!(one.header("content-type"), "application/json");
        verified(one, TENANT_SECRET);
    }
    let seen: Vec<_> = delivery
        .attempts
        .iter()
        .map(|one| (one.number, one.status_code))
        .collect();
    assert_eq!(seen, [(1, Some(503)), (2, Some(429)), (3, Some(200))]);
    assert_eq!(delivery.attempts[0].response.as_deref(), Some("not now"));
    assert!(
        delivery.attempts[0]
            .timing
            .and_then(|timing| timing.first_byte_ms)
            .is_some()
    );
}

#[tokio::test]
async fn a_server_error_is_tried_again_after_the_schedules_first_pause() {
    let (house, receiver) = (House::open().await, Receiver::start().await.unwrap());
    receiver.script([Answer::status(500)]);
    let job = house.job(1, Some(&receiver.url("/job"))).await;
    house.tell(&house.complete(&job).await).await;
    let pending = house.delivery(&job.job, DeliveryStatus::Pending).await;
    assert!(pending.attempts.len() <= 1);
    let received = receiver.wait(2, SOON).await.unwrap();
    let pause = (received[1].at - received[0].at).as_secs_f64();
    assert!((4.4..10.0).contains(&pause), "{pause} s");
    house.delivery(&job.job, DeliveryStatus::Delivered).await;
}

#[tokio::test]
async fn loopback_is_refused_without_the_allow_list_and_noted_as_failed() {
    let (house, receiver) = (House::guarded().await, Receiver::start().await.unwrap());
    let job = house.job(1, Some(&receiver.url("/job"))).await;
    house.tell(&house.complete(&job).await).await;
    let failed = house.delivery(&job.job, DeliveryStatus::Failed).await;
    assert_eq!(failed.attempts.len(), 1);
    assert_eq!(failed.attempts[0].status_code, None);
    let why = failed.attempts[0].error.as_deref().unwrap();
    assert!(why.contains("not called"), "{why}");
    assert!(receiver.received().is_empty());
}

#[tokio::test]
async fn gone_disables_the_endpoint() {
    let (house, receiver) = (House::open().await, Receiver::start().await.unwrap());
    receiver.always(Answer::status(410));
    house
        .endpoint("whe_gone", &receiver.url("/gone"), &[])
        .await;
    let job = house.job(1, None).await;
    house.tell(&house.complete(&job).await).await;
    let failed = house.delivery(&job.job, DeliveryStatus::Failed).await;
    assert_eq!(failed.attempts[0].status_code, Some(410));
    verified(&receiver.received()[0], ENDPOINT_SECRET);
    let (version, record) = house.disabled("whe_gone").await;
    assert_eq!(version, 2);
    assert_eq!(
        record.disabled.map(|disabled| disabled.cause),
        Some(Cause::Gone)
    );
    // The next event does not go there.
    let other = Receiver::start().await.unwrap();
    let next = house.job(1, Some(&other.url("/job"))).await;
    house.tell(&house.complete(&next).await).await;
    house.delivery(&next.job, DeliveryStatus::Delivered).await;
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (house, receiver) = (House::open().await, Receiver::start().await.unwrap());
    let elsewhere = receiver.url("/elsewhere");
    receiver.script([Answer {
        status: 307,
        headers: vec![("location".to_owned(), elsewhere)],
        ..Answer::default()
    }]);
    let job = house.job(1, Some(&receiver.url("/job"))).await;
    house.tell(&house.complete(&job).await).await;
    let delivered = house.delivery(&job.job, DeliveryStatus::Delivered).await;
    assert_eq!(delivered.attempts[0].status_code, Some(307));
    assert!(
        receiver
            .received()
            .iter()
            .all(|one| one.uri.path() == "/job")
    );
}
