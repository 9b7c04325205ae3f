use std::time::{Duration, Instant};

use lapin::options::{QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use photofinish_broker::topology::{EVENTS, PIPELINE};
use photofinish_broker::{
    Family, INTERNAL_BYTES_MAX, Outgoing, Priority, PublishError, REJECTED_CODE, Route, Settings,
    Target, WorkQueue,
};
use photofinish_kit::Rabbit;

use crate::rig::{LANES, Outside, Process, SOON, one, settings};

#[tokio::test(flavor = "multi_thread")]
async fn every_route_leads_to_its_queue() -> anyhow::Result<()> {
    let (_rabbit, process) = one().await?;
    let publisher = process.broker.publisher();
    for route in Route::all(LANES) {
        publisher
            .publish(Outgoing::new(Target::Pipeline(route), "{}").kind("k"))
            .await?;
        let held = process.broker.get(route.queue()).await?.expect("a message");
        let incoming = held.incoming();
        assert_eq!(Route::parse(&incoming.routing_key), Some(route));
        assert_eq!(incoming.exchange, "photofinish.pipeline");
        assert_eq!(incoming.kind.as_deref(), Some("k"));
        assert_eq!(incoming.content_type.as_deref(), Some("application/json"));
        assert!(incoming.message_id.is_some() && incoming.turn.is_none());
        assert!(held.settle(photofinish_broker::Disposition::Ack).await);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_for_later_walks_the_tiers_first() -> anyhow::Result<()> {
    let (_rabbit, process) = one().await?;
    let queue = WorkQueue::Submit {
        priority: Priority::Normal,
        lane: 1,
    };
    let (publisher, began) = (process.broker.publisher(), Instant::now());
    for (body, millis) in [("later", 2500), ("soon", 1000), ("now", 0)] {
        let wait = Duration::from_millis(millis);
        publisher
            .publish(Outgoing::new(Target::Later { queue, wait }, body).message_id(body))
            .await?;
    }
    let mut came = Vec::new();
    while came.len() < 3 {
        assert!(began.elapsed() < SOON, "{came:?}");
        if let Some(held) = process.broker.get(queue).await? {
            let incoming = held.incoming();
            let body = String::from_utf8_lossy(&incoming.body).into_owned();
            assert_eq!(incoming.message_id.as_deref(), Some(body.as_str()));
            assert_eq!(
                (incoming.attempt, incoming.turn.is_some()),
                (0, body == "later")
            );
            came.push((body, began.elapsed().as_secs_f64()));
            assert!(held.settle(photofinish_broker::Disposition::Ack).await);
        }
        tokio::time::sleep(Duration::from_millis(20)).await; // paced: the interval of a poll
    }
    let order: Vec<_> = came.iter().map(|(body, _)| body.as_str()).collect();
    assert_eq!(order, ["now", "soon", "later"]);
    assert!(came[1].1 >= 1.0 && came[2].1 >= 2.5, "{came:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_arrive_and_does_not_is_an_error_and_only_that() -> anyhow::Result<()> {
    let (rabbit, process) = one().await?;
    let outside = Outside::connect(&rabbit.url()).await?;
    let (high, gone) = (Priority::High, 1);
    let lost = WorkQueue::Submit {
        priority: high,
        lane: gone,
    }
    .to_string();
    let delete = QueueDeleteOptions::default();
    outside
        .channel
        .queue_delete(lost.as_str().into(), delete)
        .await?;
    let publisher = process.broker.publisher();
    let publishes = (0..400_u16).map(|n| {
        let lane = u16::from(n % 7 == 0);
        let route = Route::PartReady {
            priority: high,
            lane,
        };
        let outgoing = Outgoing::new(Target::Pipeline(route), "{}");
        let publisher = publisher.clone();
        async move { (lane == gone, publisher.publish(outgoing).await) }
    });
    for (unroutable, result) in futures_util::future::join_all(publishes).await {
        match result {
            Ok(()) => assert!(!unroutable),
            Err(PublishError::Unroutable { .. }) => assert!(unroutable),
            Err(other) => panic!("{other}"),
        }
    }
    let good = WorkQueue::Submit {
        priority: high,
        lane: 0,
    }
    .to_string();
    // A publish whose confirm carried another's return is sent again: never fewer, at most one more for each return.
    let arrived = outside.depth(&good).await?;
    assert!((342..=400).contains(&arrived), "{arrived}");
    Ok(())
}

/// A queue that refuses whatever is above so many messages.
async fn limited(outside: &Outside, name: &str, messages_max: i32) -> anyhow::Result<()> {
    let mut table = FieldTable::default();
    table.insert("x-max-length".into(), messages_max.into());
    let overflow = AMQPValue::LongString("reject-publish".into());
    table.insert("x-overflow".into(), overflow);
    let options = QueueDeclareOptions::durable();
    let declared = outside.channel.queue_declare(name.into(), options, table);
    declared.await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clients_full_queue_is_waited_for_by_nobody() -> anyhow::Result<()> {
    let (rabbit, process) = one().await?;
    let outside = Outside::connect(&rabbit.url()).await?;
    for (name, messages_max) in [("t.full", 1), ("t.events", 1), ("t.more", 100)] {
        limited(&outside, name, messages_max).await?;
    }
    for name in ["t.events", "t.more"] {
        let (options, table) = (QueueBindOptions::default(), FieldTable::default());
        let bound =
            outside
                .channel
                .queue_bind(name.into(), EVENTS.into(), "t.#".into(), options, table);
        bound.await?;
    }
    let publisher = process.broker.publisher();
    let reply = || Target::Reply {
        queue: "t.full".to_owned(),
    };
    let event = || Target::Events {
        routing_key: "t.job.img2vid.started".to_owned(),
    };
    let targets: [&dyn Fn() -> Target; 2] = [&reply, &event];
    for target in targets {
        // A quorum queue says a little late that it is full.
        let mut taken = 0;
        let refused = loop {
            match publisher.publish(Outgoing::new(target(), "{}")).await {
                Ok(()) => taken += 1,
                Err(error) => break error,
            }
            assert!(taken < 100, "it takes everything");
        };
        assert!(matches!(refused, PublishError::Refused { .. }), "{refused}");
        assert!(taken > 0 && !refused.is_transient());
    }
    assert!(outside.depth("t.full").await? > 0);
    let (full, heard) = (
        outside.depth("t.events").await?,
        outside.depth("t.more").await?,
    );
    assert!(heard > full, "the others hear of each: {heard}, {full}");

    // A queue of ours that is full is waited for, and said to be.
    let quick = Settings {
        publish_timeout_s: 0.3,
        ..settings(&rabbit.url())
    };
    let other = Process::launch(&quick)?;
    other.ready().await?;
    limited(&outside, "dispatcher.test", 0).await?;
    let (options, table) = (QueueBindOptions::default(), FieldTable::default());
    let key = Route::JobAccepted.to_string();
    let bound = outside.channel.queue_bind(
        "dispatcher.test".into(),
        PIPELINE.into(),
        key.into(),
        options,
        table,
    );
    bound.await?;
    let ours = Outgoing::new(Target::Pipeline(Route::JobAccepted), "{}");
    let refused = other.broker.publisher().publish(ours).await;
    assert!(
        matches!(refused, Err(PublishError::Timeout { .. })),
        "{refused:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn to_strangers_nobody_listening_is_no_fault() -> anyhow::Result<()> {
    let (rabbit, process) = one().await?;
    let publisher = process.broker.publisher();
    let events = Target::Events {
        routing_key: "t.job.img2vid.started".to_owned(),
    };
    publisher.publish(Outgoing::new(events, "{}")).await?;
    publisher
        .publish(Outgoing::new(Target::Signals, "{}"))
        .await?;
    let gone = Target::Reply {
        queue: "nobody.is.here".to_owned(),
    };
    publisher.publish(Outgoing::new(gone, "{}")).await?;

    let outside = Outside::connect(&rabbit.url()).await?;
    let options = QueueDeclareOptions {
        exclusive: true,
        ..Default::default()
    };
    outside
        .channel
        .queue_declare("answers".into(), options, FieldTable::default())
        .await?;
    let reply = Outgoing::new(
        Target::Reply {
            queue: "answers".to_owned(),
        },
        "{}",
    )
    .kind("job.accepted")
    .correlation_id(Some("c-1".to_owned()));
    publisher.publish(reply).await?;
    let got = outside.take("answers").await?;
    assert_eq!(
        got.properties
            .correlation_id()
            .as_ref()
            .map(ShortString::as_str),
        Some("c-1")
    );
    assert_eq!(
        got.properties.kind().as_ref().map(ShortString::as_str),
        Some("job.accepted")
    );

    for queue in [
        "dispatcher.plan",
        "photofinish.rejected",
        "fetcher.watch.dead",
    ] {
        let ours = Outgoing::new(
            Target::Reply {
                queue: queue.to_owned(),
            },
            "{}",
        );
        let refused = publisher.publish(ours).await;
        assert!(
            matches!(refused, Err(PublishError::ReservedReply)),
            "{queue}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_and_dead_lie_for_people() -> anyhow::Result<()> {
    let (rabbit, process) = one().await?;
    let publisher = process.broker.publisher();
    let rejected = Outgoing::new(Target::Rejected, "not json").header(REJECTED_CODE, "malformed");
    publisher.publish(rejected).await?;
    publisher
        .publish(Outgoing::new(Target::Dead(Family::Watch), "{}"))
        .await?;
    let outside = Outside::connect(&rabbit.url()).await?;
    let got = outside.take("photofinish.rejected").await?;
    assert_eq!(got.properties.delivery_mode(), &Some(2));
    let headers = got.properties.headers().clone().expect("headers");
    assert!(headers.contains_key(REJECTED_CODE));
    outside.take("fetcher.watch.dead").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sent_is_refused_before_it_is() -> anyhow::Result<()> {
    let (_rabbit, process) = one().await?;
    let publisher = process.broker.publisher();
    let large = vec![b' '; INTERNAL_BYTES_MAX + 1];
    let large = Outgoing::new(Target::Pipeline(Route::JobEvent), large);
    let refused = publisher.publish(large).await.expect_err("too large");
    assert!(matches!(refused, PublishError::TooLarge { .. }) && !refused.is_transient());
    let foreign = Outgoing::new(Target::Signals, "{}").header("CC", "x");
    assert!(matches!(
        publisher.publish(foreign).await,
        Err(PublishError::Invalid { .. })
    ));
    let long = Outgoing::new(Target::Signals, "{}").message_id("m".repeat(256));
    assert!(matches!(
        publisher.publish(long).await,
        Err(PublishError::Invalid { .. })
    ));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_broker_a_publish_times_out_and_connect_does_not() -> anyhow::Result<()> {
    let rabbit = Rabbit::fresh().await?;
    let mut away = settings(&rabbit.url_as("nobody", "wrong"));
    away.publish_timeout_s = 0.5;
    let process = Process::launch(&away)?;
    let outgoing = Outgoing::new(Target::Signals, "{}");
    let error = process
        .broker
        .publisher()
        .publish(outgoing)
        .await
        .expect_err("no broker");
    assert!(matches!(
        error,
        PublishError::Timeout {
            timeout_ms: 500,
            ..
        }
    ));
    assert!(!process.broker.ready());
    assert!(process.broker.get(WorkQueue::Plan).await.is_err());
    assert_eq!(process.health.failing().len(), 2);
    assert_eq!(process.drain().await, 0);
    Ok(())
}
