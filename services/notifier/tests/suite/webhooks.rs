//! What becomes of webhook endpoints: tests, secrets, streaks, being disabled, and replays.

use crate::house::{ENDPOINT_SECRET, House, SOON, TENANT_SECRET, at, seal, verified};
use jiff::{SignedDuration, Timestamp};
use photofinish_broker::Route;
use photofinish_contract::messages::{
    DeliveryDue, NotifierMessage, Receiver as Whom, ReplayWanted, WebhookCommand,
};
use photofinish_kit::{Answer, Receiver, wait_until};
use photofinish_model::JobId;
use photofinish_model::delivery::DeliveryStatus;
use photofinish_model::webhook::{Cause, Failing, Former};
use photofinish_objects::WebhookEndpointRecord;
use photofinish_runtime::Clock;
use serde_json::Value;
use std::collections::BTreeSet;

async fn command(house: &House, command: WebhookCommand) {
    let message = NotifierMessage::Webhook(command);
    house.publish(Route::JobEvent, &message).await;
}

fn now() -> Timestamp {
    let now = Clock::system().now();
    Timestamp::from_millisecond(now.as_millisecond()).unwrap()
}

#[tokio::test]
async fn a_test_reaches_its_endpoint_alone_whatever_it_subscribes_to() {
    let (house, receiver) = (House::open().await, Receiver::start().await.unwrap());
    let (one, other) = (receiver.url("/one"), receiver.url("/other"));
    house.endpoint("whe_1", &one, &["job.failed"]).await;
    house.endpoint("whe_2", &other, &[]).await;
    let test = WebhookCommand::Test {
        tenant: house.tenant.clone(),
        endpoint: "whe_1".to_owned(),
        at: at(),
    };
    // Twice: the same wish is the same event.
    command(&house, test.clone()).await;
    command(&house, test).await;
    house.settled().await;
    let received = receiver.received();
    let tests: Vec<Value> = received
        .iter()
        .map(|one| verified(one, ENDPOINT_SECRET))
        .filter(|body| body["type"] == "endpoint.test")
        .collect();
    assert_eq!(tests.len(), 1, "{received:?}");
    assert_eq!(received[0].uri.path(), "/one");
    assert_eq!(tests[0]["data"]["id"], "whe_1");
    assert_eq!(tests[0]["data"]["url"], one);
    assert!(tests[0]["data"].get("secret").is_none());
    assert_eq!(tests[0]["timestamp"], "2026-11-22T10:00:00Z");
}

#[tokio::test]
async fn while_a_secret_is_replaced_both_sign_and_afterwards_one() {
    let (house, receiver) = (House::open().await, Receiver::start().await.unwrap());
    let hour = SignedDuration::from_hours(1);
    let former = |secret: &str, until: Timestamp| Former {
        sealed: seal(secret),
        until,
    };
    house
        .endpoint_with("whe_1", &receiver.url("/"), |record| {
            WebhookEndpointRecord {
                former_secrets: vec![
                    former(TENANT_SECRET, now() + hour),
                    former("whsec_AAAAAAAAAAAAAAAAAAAAAAAA", now() - hour),
                ],
                ..record
            }
        })
        .await;
    let job = house.job(1, None).await;
    house.tell(&house.complete(&job).await).await;
    let received = receiver.wait(1, SOON).await.unwrap();
    for secret in [ENDPOINT_SECRET, TENANT_SECRET] {
        verified(&received[0], secret);
    }
    let signatures = received[0].header("webhook-signature");
    assert_eq!(signatures.split(' ').count(), 2, "{signatures}");
}

/// Wishes an endpoint disabled, as a delivery does that was answered 410.
async fn wish_gone(house: &House, endpoint: &str, at: Timestamp) {
    let (tenant, endpoint) = (house.tenant.clone(), endpoint.to_owned());
    let cause = Cause::Gone;
    let wish = WebhookCommand::Disable {
        tenant,
        endpoint,
        at,
        cause,
    };
    command(house, wish).await;
}

/// A job that ended well, told of.
async fn job_ends(house: &House) -> JobId {
    let job = house.job(1, None).await;
    house.tell(&house.complete(&job).await).await;
    job.job
}

#[tokio::test]
async fn that_an_endpoint_is_gone_is_told_to_the_others_and_to_the_exchange() {
    let (house, receiver) = (House::open().await, Receiver::start().await.unwrap());
    house.bind("follower", "acme.endpoint.#").await;
    let others = Receiver::start().await.unwrap();
    house
        .endpoint("whe_gone", &receiver.url("/gone"), &[])
        .await;
    house.endpoint("whe_all", &others.url("/all"), &[]).await;
    let picky = others.url("/picky");
    house.endpoint("whe_picky", &picky, &["job.failed"]).await;
    receiver.always(Answer::status(410));
    job_ends(&house).await;
    let told = others.wait(2, SOON).await.unwrap();
    assert!(told.iter().all(|one| one.uri.path() == "/all"));
    let bodies: Vec<Value> = told
        .iter()
        .map(|one| verified(one, ENDPOINT_SECRET))
        .collect();
    let told = bodies.iter().find(|one| one["type"] == "endpoint.disabled");
    let data = &told.expect("it was told")["data"];
    assert_eq!(
        (&data["id"], &data["enabled"]),
        (&"whe_gone".into(), &false.into())
    );
    assert_eq!(data["disabled"]["cause"], "gone");
    let message = house.message("follower").await;
    assert_eq!(message["routing_key"], "acme.endpoint.disabled");
    let cloud: Value = serde_json::from_str(message["payload"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&cloud["type"], &cloud["subject"]),
        (&"endpoint.disabled".into(), &"whe_gone".into())
    );
}

#[tokio::test]
async fn what_a_disabled_endpoint_misses_is_listed_and_replayed() {
    let (house, receiver) = (House::open().await, Receiver::start().await.unwrap());
    let gone = receiver.url("/gone");
    house.endpoint("whe_gone", &gone, &["job.completed"]).await;
    receiver.always(Answer::status(410));
    let first = job_ends(&house).await;
    let (version, record) = house.disabled("whe_gone").await;
    // The same wish again, as after a crash, writes nothing; a later one is void.
    let disabled = record.disabled.unwrap();
    for at in [disabled.at, now()] {
        wish_gone(&house, "whe_gone", at).await;
    }
    // What happens meanwhile is not sent, and is listed.
    let second = job_ends(&house).await;
    let missed = house.delivery(&second, DeliveryStatus::Failed).await;
    let why = missed.attempts[0].error.as_deref();
    assert_eq!(why, Some("the webhook endpoint is disabled"));
    house.settled().await;
    assert_eq!(house.endpoint_record("whe_gone").await.0, version);
    assert_eq!(receiver.received().len(), 1);

    // Enabled again, with the gap.
    receiver.always(Answer::default());
    let enabled = WebhookEndpointRecord {
        enabled: true,
        enabled_at: Some(now()),
        disabled: None,
        ..record
    };
    house.put_endpoint(Some(version), &enabled).await;
    let replay = ReplayWanted {
        tenant: house.tenant.clone(),
        endpoint: "whe_gone".to_owned(),
        since: at(),
        until: now() + SignedDuration::from_secs(1),
        status: DeliveryStatus::Failed,
        at: now(),
        cursor: None,
    };
    command(&house, WebhookCommand::Replay(replay)).await;
    // The first one again, the second one, and the one by which the test saw that all was settled.
    let received = receiver.wait(4, SOON).await.unwrap();
    let id = |at: usize| received[at].header("webhook-id");
    let again: BTreeSet<&str> = (1..4).map(id).collect();
    assert_eq!(again.len(), 3);
    assert!(
        again.contains(id(0)),
        "the same id on every attempt and replay"
    );
    for job in [&first, &second] {
        let delivered = house.delivery_to("whe_gone", job, DeliveryStatus::Delivered);
        let delivered = delivered.await;
        assert!(delivered.replayed_at.is_some());
        assert_eq!(delivered.attempts.len(), 2);
    }
    // A wish from before it was enabled is void.
    wish_gone(&house, "whe_gone", disabled.at).await;
    house.settled().await;
    assert!(house.endpoint_record("whe_gone").await.1.enabled);
}

#[tokio::test]
async fn five_days_of_failure_disable_an_endpoint_also_when_redis_forgot_them() {
    let (house, receiver) = (House::open().await, Receiver::start().await.unwrap());
    receiver.always(Answer::status(500));
    let ago = |hours| now() - SignedDuration::from_hours(hours);
    let streak = |since| Failing {
        since: ago(since),
        last: ago(2),
    };
    let with = |failing| move |record| WebhookEndpointRecord { failing, ..record };
    let url = receiver.url("/");
    // One that only Redis knows of, one that only the bucket does, one of two days, and one that was enabled since.
    house.endpoint("whe_redis", &url, &[]).await;
    let kept = Some(streak(121));
    house
        .jobstore
        .keep_endpoint_failing("whe_redis", kept)
        .await
        .unwrap();
    house
        .endpoint_with("whe_bucket", &url, with(Some(streak(121))))
        .await;
    house
        .endpoint_with("whe_young", &url, with(Some(streak(48))))
        .await;
    house
        .endpoint_with("whe_mended", &url, |record| WebhookEndpointRecord {
            failing: Some(streak(121)),
            enabled_at: Some(ago(1)),
            ..record
        })
        .await;
    let job = house.job(1, None).await;
    house.tell(&house.complete(&job).await).await;
    for id in ["whe_redis", "whe_bucket"] {
        let (_, record) = house.disabled(id).await;
        assert_eq!(
            record.disabled.map(|one| one.cause),
            Some(Cause::Failing),
            "{id}"
        );
    }
    receiver.wait(4, SOON).await.unwrap();
    house.settled().await;
    let young = house.endpoint_record("whe_young").await;
    assert!(young.1.enabled && young.1.failing.is_some());
    assert!(house.endpoint_record("whe_mended").await.1.enabled);
    // A good call ends the streak, in the record as well.
    receiver.always(Answer::default());
    let next = house.job(1, None).await;
    house.tell(&house.complete(&next).await).await;
    wait_until(SOON, "the streak is over", || async {
        house.endpoint_record("whe_young").await.1.failing.is_none()
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_delivery_is_sent_again_once_however_often_its_messages_are_doubled() {
    let (house, receiver) = (House::open().await, Receiver::start().await.unwrap());
    let url = receiver.url("/job");
    let job = house.job(1, Some(&url)).await;
    house.tell(&house.complete(&job).await).await;
    let done = house.delivery(&job.job, DeliveryStatus::Delivered).await;
    let due = |replay| DeliveryDue {
        delivery: done.record.id.clone(),
        event: done.record.event.clone(),
        receiver: Whom::JobUrl { url: url.clone() },
        tries: 0,
        replay,
    };
    // Copies of what was delivered do nothing; a replay is one, doubled or clicked twice.
    let replay = now();
    let click = replay + SignedDuration::from_millis(400);
    for replay in [
        None,
        Some(replay),
        Some(replay),
        Some(click),
        None,
        Some(replay),
    ] {
        house.publish(Route::DeliveryDue, &due(replay)).await;
    }
    house.settled().await;
    wait_until(SOON, "the replay is delivered", || async {
        let view = house
            .jobstore
            .delivery(&done.record.id)
            .await
            .unwrap()
            .unwrap();
        view.status == DeliveryStatus::Delivered && view.attempts.len() == 2
    })
    .await
    .unwrap();
    house.settled().await;
    let received = receiver.received();
    assert_eq!(received.len(), 2, "{received:?}");
    assert_eq!(
        received[0].header("webhook-id"),
        received[1].header("webhook-id")
    );
}

#[tokio::test]
async fn copies_of_a_delivery_that_failed_come_to_one_next_try() {
    let (house, receiver) = (House::open().await, Receiver::start().await.unwrap());
    receiver.script([Answer {
        status: 503,
        headers: vec![("retry-after".to_owned(), "2".to_owned())],
        ..Answer::default()
    }]);
    let url = receiver.url("/job");
    let job = house.job(1, Some(&url)).await;
    let event = house.complete(&job).await;
    house.tell(&event).await;
    receiver.wait(1, SOON).await.unwrap();
    let waiting = house.delivery(&job.job, DeliveryStatus::Pending).await;
    // Its first message again, thrice: each is tried or dropped, and one chain of them lives on.
    for _ in 0..3 {
        let due = DeliveryDue {
            delivery: waiting.record.id.clone(),
            event: waiting.record.event.clone(),
            receiver: Whom::JobUrl { url: url.clone() },
            tries: 0,
            replay: None,
        };
        house.publish(Route::DeliveryDue, &due).await;
    }
    house.delivery(&job.job, DeliveryStatus::Delivered).await;
    house.settled().await;
    let good = receiver.received().len();
    assert_eq!(good, 2, "one that was refused, one that was taken");
}
