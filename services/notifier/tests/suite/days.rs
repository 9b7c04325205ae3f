//! Three days of a dead receiver, in seconds: the notifier's clock stands still, and the test is the tiers' clock. It
//! takes each waiting message out of its tier, moves the clock by that tier's wait, and gives the message back as
//! RabbitMQ would.

use crate::house::{House, SOON, TENANT_SECRET, at};
use jiff::{SignedDuration, Timestamp};
use photofinish_broker::topology::Tier;
use photofinish_kit::{Answer, Method, Receiver, RedisServer, wait_for};
use photofinish_model::delivery::{DeliveryStatus, SCHEDULE};
use photofinish_runtime::Clock;
use serde_json::{Value, json};
use standardwebhooks::Webhook;

/// Calls of a receiver that never takes it.
const TRIES: usize = SCHEDULE.len() + 1;

/// A message that waits in a tier, taken out of it.
async fn waiting(house: &House) -> Option<(Tier, Value)> {
    for tier in Tier::ALL {
        let path = format!("/api/queues/{}/{}/get", house.rabbit.vhost(), tier.name);
        let body = json!({"count": 1, "ackmode": "ack_requeue_false", "encoding": "auto"});
        let got = house.rabbit.call(Method::POST, &path, Some(body)).await;
        if let Some(message) = got.ok()?.as_array()?.first().cloned() {
            return Some((tier, message));
        }
    }
    None
}

/// Gives it back to the queue that its key names.
async fn give_back(house: &House, message: &Value) {
    let path = format!(
        "/api/exchanges/{}/amq.default/publish",
        house.rabbit.vhost()
    );
    let body = json!({"properties": message["properties"], "routing_key": message["routing_key"],
        "payload": message["payload"], "payload_encoding": message["payload_encoding"]});
    let answer = house.rabbit.call(Method::POST, &path, Some(body)).await;
    assert_eq!(answer.unwrap()["routed"], true);
}

/// Plays the tiers until the receiver was called so often.
async fn walk(house: &House, receiver: &Receiver, clock: &Clock, calls: usize) {
    loop {
        let next = wait_for(SOON, "a message in a tier, or the last call", || async {
            if receiver.received().len() == calls {
                return Some(None);
            }
            waiting(house).await.map(Some)
        });
        let Some((tier, message)) = next.await.unwrap() else {
            break;
        };
        clock.advance(SignedDuration::try_from(tier.wait).unwrap());
        give_back(house, &message).await;
    }
}

/// The moments at which it is to be called.
fn by_the_schedule() -> Vec<Timestamp> {
    let mut expected = vec![at()];
    for pause in SCHEDULE {
        let last = expected[expected.len() - 1];
        expected.push(last + SignedDuration::try_from(pause).unwrap());
    }
    expected
}

#[tokio::test]
async fn a_receiver_that_is_dead_for_three_days_is_called_by_the_schedule_and_then_listed() {
    let clock = Clock::standing_at(at());
    let (house, receiver) = (
        House::at(clock.clone()).await,
        Receiver::start().await.unwrap(),
    );
    receiver.always(Answer::status(500));
    let job = house.job(1, Some(&receiver.url("/dead"))).await;
    house.tell(&house.complete(&job).await).await;
    walk(&house, &receiver, &clock, TRIES).await;
    let failed = house.delivery(&job.job, DeliveryStatus::Failed).await;
    let seen: Vec<Timestamp> = failed.attempts.iter().map(|one| one.at).collect();
    let expected = by_the_schedule();
    assert_eq!(seen, expected, "the contract's schedule, to the second");
    let received = receiver.received();
    assert_eq!(received.len(), 10);
    for (one, at) in received.iter().zip(expected) {
        let id = one.header("webhook-id");
        assert_eq!(id, received[0].header("webhook-id"));
        assert_eq!(one.header("webhook-timestamp"), at.as_second().to_string());
        let signed = Webhook::new(TENANT_SECRET).unwrap();
        let signed = signed.sign(id, at.as_second(), &one.body).unwrap();
        assert_eq!(one.header("webhook-signature"), signed);
    }
}

#[tokio::test]
async fn a_redis_that_was_emptied_does_not_begin_the_schedule_anew() {
    let (clock, redis) = (
        Clock::standing_at(at()),
        RedisServer::start().await.unwrap(),
    );
    let house = House::at_with_redis(clock.clone(), &redis.url()).await;
    let receiver = Receiver::start().await.unwrap();
    receiver.always(Answer::status(500));
    let job = house.job(1, Some(&receiver.url("/dead"))).await;
    house.tell(&house.complete(&job).await).await;
    walk(&house, &receiver, &clock, 4).await;
    redis.flush().unwrap();
    walk(&house, &receiver, &clock, TRIES).await;
    let expected: Vec<String> = by_the_schedule()
        .iter()
        .map(|at| at.as_second().to_string())
        .collect();
    let received = receiver.received();
    let called: Vec<&str> = received
        .iter()
        .map(|one| one.header("webhook-timestamp"))
        .collect();
    assert_eq!(called, expected);
}
