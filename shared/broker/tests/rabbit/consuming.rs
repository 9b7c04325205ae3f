use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use photofinish_broker::{Disposition, Outgoing, Route, Target, WorkQueue};
use photofinish_kit::wait_until;
use tokio::sync::mpsc;

use crate::rig::{Process, SOON, next, one};

fn event(body: String) -> Outgoing {
    Outgoing::new(Target::Pipeline(Route::JobEvent), body)
}

#[tokio::test(flavor = "multi_thread")]
async fn never_more_in_hand_than_asked_for() -> anyhow::Result<()> {
    let (_rabbit, process) = one().await?;
    let (now, most, done) = (
        Arc::<AtomicUsize>::default(),
        Arc::<AtomicUsize>::default(),
        Arc::<AtomicUsize>::default(),
    );
    let (inside, peak, finished) = (now.clone(), most.clone(), done.clone());
    process.broker.consume(WorkQueue::Events, 5, move |_| {
        let (inside, peak, finished) = (inside.clone(), peak.clone(), finished.clone());
        async move {
            peak.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(5)).await; // paced: work that takes a moment
            inside.fetch_sub(1, Ordering::SeqCst);
            finished.fetch_add(1, Ordering::SeqCst);
            Disposition::Ack
        }
    });
    let publisher = process.broker.publisher();
    let publishes = (0..100).map(|n| publisher.publish(event(n.to_string())));
    for result in futures_util::future::join_all(publishes).await {
        result?;
    }
    wait_until(SOON, "all done", || async {
        done.load(Ordering::SeqCst) == 100
    })
    .await?;
    assert_eq!(most.load(Ordering::SeqCst), 5);
    wait_until(SOON, "all acknowledged", || async {
        process
            .broker
            .depth(WorkQueue::Events)
            .await
            .is_ok_and(|depth| depth == 0)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_consumer_takes_nothing() -> anyhow::Result<()> {
    let (_rabbit, process) = one().await?;
    let (sender, mut seen) = mpsc::channel(10);
    let consumption = process
        .broker
        .consume(WorkQueue::Events, 1, move |incoming| {
            let sender = sender.clone();
            async move {
                sender.send(incoming.body).await.expect("the test listens");
                Disposition::Ack
            }
        });
    let publisher = process.broker.publisher();
    publisher.publish(event("1".to_owned())).await?;
    assert_eq!(
        tokio::time::timeout(SOON, seen.recv()).await?.as_deref(),
        Some(&b"1"[..])
    );
    consumption.pause();
    assert!(consumption.is_paused());
    // Whether the cancel has come through yet is seen by messages that stay where they are.
    let mut sent = 0;
    wait_until(SOON, "a message stays in the queue", || {
        sent += 1;
        let publish = publisher.publish(event("late".to_owned()));
        let broker = &process.broker;
        async move {
            publish.await.is_ok() && broker.depth(WorkQueue::Events).await.is_ok_and(|n| n > 0)
        }
    })
    .await?;
    consumption.resume();
    for _ in 0..sent {
        assert!(tokio::time::timeout(SOON, seen.recv()).await?.is_some());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_reaches_every_process() -> anyhow::Result<()> {
    let (rabbit, first) = one().await?;
    let second = Process::start(&rabbit.url()).await?;
    let mut receivers = Vec::new();
    for process in [&first, &second] {
        let (sender, receiver) = mpsc::channel(100);
        process.broker.consume_signals(10, move |incoming| {
            let sender = sender.clone();
            async move {
                assert_ne!(&incoming.body[..], b"bad", "on purpose");
                sender.send(incoming.body).await.expect("the test listens");
            }
        });
        receivers.push(receiver);
    }
    // Their queues come up behind the call; until then signals are lost, which is their nature.
    let publisher = first.broker.publisher();
    for receiver in &mut receivers {
        let mut heard = false;
        while !heard {
            publisher
                .publish(Outgoing::new(Target::Signals, "hello"))
                .await?;
            let wait = tokio::time::timeout(Duration::from_millis(200), receiver.recv());
            heard = wait.await.is_ok();
        }
    }
    publisher
        .publish(Outgoing::new(Target::Signals, "bad"))
        .await?;
    publisher
        .publish(Outgoing::new(Target::Signals, "last"))
        .await?;
    for receiver in &mut receivers {
        while tokio::time::timeout(SOON, receiver.recv())
            .await?
            .as_deref()
            != Some(&b"last"[..])
        {}
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_share_a_queue() -> anyhow::Result<()> {
    let (rabbit, first) = one().await?;
    let second = Process::start(&rabbit.url()).await?;
    let (mut one, mut two) = (
        first.collect(WorkQueue::Events, 1),
        second.collect(WorkQueue::Events, 1),
    );
    let publisher = first.broker.publisher();
    publisher.publish(event("1".to_owned())).await?;
    publisher.publish(event("2".to_owned())).await?;
    let (a, b) = (next(&mut one).await?, next(&mut two).await?);
    let bodies: BTreeSet<_> = [a.incoming.body.clone(), b.incoming.body.clone()].into();
    assert_eq!(bodies.len(), 2);
    Ok(())
}

/// What is settled while a message before it is in hand is acknowledged without it, and it is not with them.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_together_leaves_out_what_is_in_hand() -> anyhow::Result<()> {
    let (rabbit, process) = one().await?;
    let publisher = process.broker.publisher();
    let mut taken = process.collect(WorkQueue::Events, 8);
    let kept = ["3", "20", "a", "b", "c", "d", "e", "f"];
    let others = (0..40).map(|number| number.to_string());
    let all = others.chain(kept[2..].iter().map(ToString::to_string));
    for body in all {
        publisher.publish(event(body)).await?;
    }
    let mut held = Vec::new();
    // Eight at most may be unacknowledged: so when the last one is here, all others are acknowledged.
    for _ in 0..46 {
        let one = next(&mut taken).await?;
        if kept.iter().any(|body| one.incoming.body == *body) {
            held.push(one);
        } else {
            one.answer(Disposition::Ack);
        }
    }
    rabbit.close_connections().await?;
    // Void: their channel is gone.
    drop(held);
    let mut again = BTreeSet::new();
    for _ in kept {
        let one = next(&mut taken).await?.answer(Disposition::Ack);
        assert!(one.redelivered, "{one:?}");
        again.insert(String::from_utf8_lossy(&one.body).into_owned());
    }
    assert_eq!(again, kept.map(str::to_owned).into());
    wait_until(SOON, "nothing is left", || async {
        let depth = process.broker.depth(WorkQueue::Events).await;
        depth.is_ok_and(|depth| depth == 0)
    })
    .await
}
