use std::time::{Duration, Instant};

use lapin::BasicProperties;
use lapin::options::BasicGetOptions;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use photofinish_broker::{Disposition, Outgoing, Route, Target, WorkQueue};
use photofinish_kit::wait_until;

use crate::rig::{Outside, Process, SOON, next, one};

fn accepted(body: &str) -> Outgoing {
    Outgoing::new(Target::Pipeline(Route::JobAccepted), body.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_walks_a_tier_and_comes_back_as_the_next_attempt() -> anyhow::Result<()> {
    let (_rabbit, process) = one().await?;
    let mut plan = process.collect(WorkQueue::Plan, 4);
    process
        .broker
        .publisher()
        .publish(accepted("1").message_id("m-1"))
        .await?;
    let began = Instant::now();
    let retry = |millis| Disposition::RetryLater(Duration::from_millis(millis));
    next(&mut plan).await?.answer(retry(1000));
    let again = next(&mut plan).await?;
    let waited = began.elapsed();
    assert!((1.0..3.0).contains(&waited.as_secs_f64()), "{waited:?}");
    assert_eq!(again.incoming.attempt, 1);
    assert_eq!(again.incoming.message_id.as_deref(), Some("m-1"));
    assert_eq!(again.incoming.routing_key, "job.accepted");
    let first_turn = again.incoming.turn.expect("a turn");
    assert_eq!(first_turn.turn, 1);

    // Twice through the tier of a second, the rest in hand.
    let began = Instant::now();
    again.answer(retry(2500));
    let third = next(&mut plan).await?;
    let waited = began.elapsed();
    assert!((2.5..6.0).contains(&waited.as_secs_f64()), "{waited:?}");
    assert_eq!(third.incoming.attempt, 2);
    let turn = third.incoming.turn.expect("a turn");
    assert_eq!(turn.turn, 2);
    assert_ne!(turn.turn_id, first_turn.turn_id);

    // Less than any tier: in hand only.
    let began = Instant::now();
    third.answer(retry(300));
    let fourth = next(&mut plan).await?.answer(Disposition::Ack);
    assert!((0.3..2.0).contains(&began.elapsed().as_secs_f64()));
    assert_eq!(fourth.attempt, 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_is_the_same_message_with_the_allow_list_only() -> anyhow::Result<()> {
    let (rabbit, process) = one().await?;
    let outside = Outside::connect(&rabbit.url()).await?;
    let mut headers = FieldTable::default();
    let copy = AMQPValue::FieldArray(vec![AMQPValue::LongString("job.event".into())].into());
    headers.insert("CC".into(), copy);
    headers.insert("x-foreign".into(), AMQPValue::LongString("1".into()));
    headers.insert(
        "x-photofinish-kept".into(),
        AMQPValue::LongString("2".into()),
    );
    headers.insert("traceparent".into(), AMQPValue::LongString("tp".into()));
    let properties = BasicProperties::default()
        .with_message_id("m-1".into())
        .with_correlation_id("c-1".into())
        .with_reply_to("answers".into())
        .with_type("k".into())
        .with_content_type("text/x".into())
        .with_priority(9)
        .with_expiration("600000".into())
        .with_headers(headers);
    // Only the CC's own copy is in notifier.events, and none of the turns.
    outside
        .publish("photofinish.pipeline", "part.finished", "old", properties)
        .await?;
    let mut outcome = process.collect(WorkQueue::Outcome, 1);
    next(&mut outcome)
        .await?
        .answer(Disposition::Turn { body: None });
    let first = next(&mut outcome).await?;
    assert_eq!(&first.incoming.body[..], b"old");
    let first = first.answer(Disposition::Turn {
        body: Some("new".into()),
    });
    let second = next(&mut outcome).await?;
    assert_eq!(&second.incoming.body[..], b"new");
    let (one, two) = (
        first.turn.expect("a turn"),
        second.incoming.turn.expect("a turn"),
    );
    assert_eq!((one.turn, two.turn), (1, 2));
    assert_ne!(one.turn_id, two.turn_id);
    assert_eq!(second.incoming.attempt, 0);
    assert_eq!(second.incoming.routing_key, "part.finished");
    assert_eq!(second.incoming.exchange, "photofinish.pipeline");

    process.tasks.shutdown().stop();
    second.answer(Disposition::Turn { body: None });
    let seen = outside.take("dispatcher.outcome").await?;
    let text = |value: &Option<ShortString>| value.as_ref().map(ToString::to_string);
    let properties = &seen.properties;
    assert_eq!(text(properties.message_id()).as_deref(), Some("m-1"));
    assert_eq!(text(properties.correlation_id()).as_deref(), Some("c-1"));
    assert_eq!(text(properties.reply_to()).as_deref(), Some("answers"));
    assert_eq!(text(properties.kind()).as_deref(), Some("k"));
    assert_eq!(text(properties.content_type()).as_deref(), Some("text/x"));
    assert_eq!(properties.delivery_mode(), &Some(2));
    assert!(properties.priority().is_none() && properties.expiration().is_none());
    let headers = properties.headers().clone().expect("headers");
    for gone in ["CC", "x-foreign", "x-death"] {
        assert!(!headers.contains_key(gone), "{gone}");
    }
    for kept in ["x-photofinish-kept", "traceparent", "x-turn", "x-turn-id"] {
        assert!(headers.contains_key(kept), "{kept}");
    }
    assert_eq!(outside.depth("notifier.events").await?, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_up_is_parked_and_then_lies_for_people() -> anyhow::Result<()> {
    let (rabbit, process) = one().await?;
    let publisher = process.broker.publisher();
    publisher
        .publish(accepted("{bad").message_id("m-1"))
        .await?;
    process
        .broker
        .consume(WorkQueue::Plan, 1, |incoming| async move {
            match incoming.json::<serde_json::Value>() {
                Ok(_) => Disposition::Ack,
                Err(error) => Disposition::DeadLetter {
                    code: "undecodable",
                    reason: error.to_string(),
                },
            }
        });
    let mut parked = process.collect(WorkQueue::Parked, 1);
    let given_up = next(&mut parked).await?;
    let why = given_up.incoming.parked().expect("why").clone();
    assert_eq!(why.code, "undecodable");
    assert_eq!(why.origin, "dispatcher.plan");
    assert_eq!(why.family, photofinish_broker::Family::Plan);
    assert!(why.reason.contains("Value"), "{}", why.reason);
    assert_eq!(&given_up.incoming.body[..], b"{bad");
    assert_eq!(given_up.incoming.routing_key, "job.accepted");

    let outside = Outside::connect(&rabbit.url()).await?;
    let for_people = Outgoing::for_people(&given_up.incoming).expect("parked");
    publisher.publish(for_people).await?;
    let seen = outside.take("dispatcher.plan.dead").await?;
    assert_eq!(
        seen.properties
            .message_id()
            .as_ref()
            .map(ShortString::as_str),
        Some("m-1")
    );
    for (name, value) in [
        ("x-parked-code", "undecodable"),
        ("x-parked-origin", "dispatcher.plan"),
    ] {
        let headers = seen.properties.headers().clone().expect("headers");
        let found = headers
            .inner()
            .get(name)
            .and_then(AMQPValue::as_long_string);
        assert_eq!(found.map(ToString::to_string).as_deref(), Some(value));
    }

    // What fails in parking itself does not go round in a circle.
    let reason = "on purpose".to_owned();
    given_up.answer(Disposition::DeadLetter {
        code: "again",
        reason,
    });
    let seen = outside.take("dispatcher.plan.dead").await?;
    assert_eq!(&seen.data[..], b"{bad");
    assert_eq!(outside.depth("dispatcher.parked").await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_rabbitmq_gives_up_is_parked_as_well() -> anyhow::Result<()> {
    let (rabbit, process) = one().await?;
    let outside = Outside::connect(&rabbit.url()).await?;
    process.broker.publisher().publish(accepted("{}")).await?;
    for _ in 0..=photofinish_broker::topology::DELIVERY_LIMIT {
        // 4.x hands it back a moment later.
        let get = || async {
            let options = BasicGetOptions::default();
            let got = outside.channel.basic_get("dispatcher.plan".into(), options);
            got.await.ok().flatten()
        };
        let message = photofinish_kit::wait_for(crate::rig::SOON, "it again", get).await?;
        let reject = lapin::options::BasicRejectOptions { requeue: true };
        message.acker.reject(reject).await?;
    }
    let mut parked = process.collect(WorkQueue::Parked, 1);
    let given_up = next(&mut parked).await?.answer(Disposition::Ack);
    let why = given_up.parked().expect("why");
    assert_eq!(
        (why.code.as_str(), why.origin.as_str()),
        ("delivery_limit", "dispatcher.plan")
    );
    assert_eq!(why.family, photofinish_broker::Family::Plan);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loop_parks_what_is_delivered_too_often() -> anyhow::Result<()> {
    let (rabbit, process) = one().await?;
    let outside = Outside::connect(&rabbit.url()).await?;
    process.broker.publisher().publish(accepted("{}")).await?;
    for _ in 0..photofinish_broker::DELIVERIES_MAX {
        let get = outside
            .channel
            .basic_get("dispatcher.plan".into(), BasicGetOptions::default());
        let message = get.await?.expect("still there");
        let reject = lapin::options::BasicRejectOptions { requeue: true };
        message.acker.reject(reject).await?;
    }
    let _plan = process.collect(WorkQueue::Plan, 1);
    let mut parked = process.collect(WorkQueue::Parked, 1);
    let given_up = next(&mut parked).await?.answer(Disposition::Ack);
    assert_eq!(given_up.parked().expect("why").code, "delivered_too_often");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_waits_and_disturbs_nobody() -> anyhow::Result<()> {
    let (rabbit, process) = one().await?;
    let (sender, mut good) = tokio::sync::mpsc::channel(10);
    process.broker.consume(WorkQueue::Plan, 1, move |incoming| {
        let sender = sender.clone();
        async move {
            assert_ne!(&incoming.body[..], b"bad", "on purpose");
            sender.send(incoming).await.expect("the test listens");
            Disposition::Ack
        }
    });
    let publisher = process.broker.publisher();
    publisher.publish(accepted("bad")).await?;
    publisher.publish(accepted("good")).await?;
    let got = tokio::time::timeout(SOON, good.recv())
        .await?
        .expect("a message");
    assert_eq!(&got.body[..], b"good");
    let outside = Outside::connect(&rabbit.url()).await?;
    let waiting = outside.take("photofinish.retry.30s").await?;
    assert_eq!(&waiting.data[..], b"bad");
    assert_eq!(waiting.routing_key.as_str(), "dispatcher.plan");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn get_holds_one_message_and_lets_it_go() -> anyhow::Result<()> {
    let (_rabbit, process) = one().await?;
    let broker = &process.broker;
    let lane = Route::PartReady {
        priority: photofinish_broker::Priority::Low,
        lane: 1,
    };
    let queue = lane.queue();
    assert!(broker.get(queue).await?.is_none());
    broker
        .publisher()
        .publish(Outgoing::new(Target::Pipeline(lane), "{}"))
        .await?;
    assert_eq!(broker.depth(queue).await?, 1);
    let held = broker.get(queue).await?.expect("a message");
    assert!(broker.get(queue).await?.is_none());
    drop(held);
    wait_until(SOON, "it is back", || async {
        broker.depth(queue).await.is_ok_and(|n| n == 1)
    })
    .await?;
    let held = broker.get(queue).await?.expect("a message");
    assert_eq!(held.incoming().delivery_count, 1);
    assert!(
        held.settle(Disposition::RetryLater(Duration::from_secs(1)))
            .await
    );
    assert!(broker.get(queue).await?.is_none());
    wait_until(SOON, "it is back", || async {
        broker.depth(queue).await.is_ok_and(|n| n == 1)
    })
    .await?;
    let held = broker.get(queue).await?.expect("a message");
    assert_eq!(held.incoming().attempt, 1);
    assert!(held.settle(Disposition::Ack).await);
    assert_eq!(broker.depth(queue).await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_s_headers_are_not_believed() -> anyhow::Result<()> {
    let (rabbit, process) = one().await?;
    rabbit
        .user("acme", "pw", ("^$", "photofinish.jobs", "^$"))
        .await?;
    let client = Outside::connect(&rabbit.url_as("acme", "pw")).await?;
    let mut headers = FieldTable::default();
    for name in ["x-photofinish-tenant", "x-first-routing-key"] {
        headers.insert(name.into(), AMQPValue::LongString("rival".into()));
    }
    for name in ["x-attempt", "x-remaining-ms", "x-turn"] {
        headers.insert(name.into(), AMQPValue::LongLongInt(99_999));
    }
    let properties = BasicProperties::default()
        .with_user_id("acme".into())
        .with_headers(headers.clone());
    client
        .publish("photofinish.jobs", "job.cancel", "1", properties)
        .await?;
    let mut submissions = process.collect(WorkQueue::Submissions, 1);
    let first = next(&mut submissions).await?;
    assert_eq!(first.incoming.submitter(), Some("acme"));
    assert_eq!(first.incoming.routing_key, "job.cancel");
    assert_eq!((first.incoming.attempt, first.incoming.turn), (0, None));
    // Our own republish is believed: the user is kept although it is ours now.
    first.answer(Disposition::Turn { body: None });
    let second = next(&mut submissions).await?.answer(Disposition::Ack);
    assert_eq!(second.user_id.as_deref(), Some("guest"));
    assert_eq!(second.submitter(), Some("acme"));
    assert_eq!(second.routing_key, "job.cancel");
    assert_eq!(second.turn.map(|turn| turn.turn), Some(1));
    // Unset, nobody is named; an unknown key arrives all the same.
    let anonymous = BasicProperties::default().with_headers(headers);
    client
        .publish("photofinish.jobs", "job.explode", "2", anonymous)
        .await?;
    let third = next(&mut submissions)
        .await?
        .answer(Disposition::Turn { body: None });
    assert_eq!(
        (third.submitter(), third.routing_key.as_str()),
        (None, "job.explode")
    );
    let fourth = next(&mut submissions).await?.answer(Disposition::Ack);
    // Nobody is named after our own republish either: it is not we who submitted it.
    assert_eq!(fourth.submitter(), None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_end_what_is_in_hand_is_settled() -> anyhow::Result<()> {
    let (rabbit, process) = one().await?;
    let mut plan = process.collect(WorkQueue::Plan, 2);
    for body in ["1", "2", "3"] {
        process.broker.publisher().publish(accepted(body)).await?;
    }
    let (first, second) = (next(&mut plan).await?, next(&mut plan).await?);
    let answers = async {
        process.tasks.shutdown().wait().await;
        first.answer(Disposition::Ack);
        second.answer(Disposition::Turn { body: None });
    };
    let (left, ()) = tokio::join!(process.drain(), answers);
    assert_eq!(left, 0);
    let other = Process::start(&rabbit.url()).await?;
    let mut plan = other.collect(WorkQueue::Plan, 2);
    let mut bodies = vec![next(&mut plan).await?, next(&mut plan).await?]
        .into_iter()
        .map(|message| message.answer(Disposition::Ack).body)
        .collect::<Vec<_>>();
    bodies.sort();
    assert_eq!(bodies, ["2", "3"]);
    assert!(
        process
            .broker
            .publisher()
            .publish(accepted("4"))
            .await
            .is_err()
    );
    Ok(())
}
