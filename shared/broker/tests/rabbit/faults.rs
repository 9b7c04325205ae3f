use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lapin::options::QueueDeleteOptions;
use photofinish_broker::{Broker, Disposition, Outgoing, Route, Settings, Target, WorkQueue};
use photofinish_kit::{Fault, FaultProxy, RabbitNode, wait_until};

use crate::rig::{Outside, Process, SOON, next, one, settings};

type Seen = Arc<Mutex<BTreeSet<String>>>;

fn watch(body: String) -> Outgoing {
    Outgoing::new(Target::Pipeline(Route::PartSubmitted), body)
}

fn remember(broker: &Broker) -> Seen {
    let seen = Seen::default();
    let remembered = seen.clone();
    broker.consume(WorkQueue::Watch, 8, move |incoming| {
        let body = String::from_utf8_lossy(&incoming.body).into_owned();
        remembered
            .lock()
            .expect("no panic while locked")
            .insert(body);
        async { Disposition::Ack }
    });
    seen
}

async fn all_seen(seen: &Seen, count: usize) -> anyhow::Result<()> {
    let what = format!("all {count} messages were seen");
    wait_until(Duration::from_mins(1), &what, || async {
        seen.lock().expect("no panic while locked").len() == count
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ack_is_last_so_a_killed_handler_s_message_comes_again() -> anyhow::Result<()> {
    let (rabbit, process) = one().await?;
    let mut queue = process.collect(WorkQueue::Watch, 1);
    process
        .broker
        .publisher()
        .publish(watch("1".to_owned()))
        .await?;
    let first = next(&mut queue).await?;
    assert!(!first.incoming.redelivered);
    rabbit.close_connections().await?;
    // The old handler still holds the only permit; its successor and its ack are void now.
    wait_until(SOON, "it lies in the queue again", || async {
        process
            .broker
            .depth(WorkQueue::Watch)
            .await
            .is_ok_and(|depth| depth == 1)
    })
    .await?;
    first.answer(Disposition::Turn { body: None });
    let second = next(&mut queue).await?.answer(Disposition::Ack);
    assert!(second.redelivered);
    assert_eq!((second.delivery_count, second.turn), (1, None));
    wait_until(SOON, "nothing is left", || async {
        process
            .broker
            .depth(WorkQueue::Watch)
            .await
            .is_ok_and(|depth| depth == 0)
    })
    .await?;
    assert_eq!(process.drain().await, 0);
    let outside = Outside::connect(&rabbit.url()).await?;
    assert_eq!(outside.depth("fetcher.watch").await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_connections_come_back_and_nothing_is_lost() -> anyhow::Result<()> {
    let (rabbit, process) = one().await?;
    let seen = remember(&process.broker);
    let publisher = process.broker.publisher();
    let publishing = async {
        for n in 0..300 {
            publisher.publish(watch(n.to_string())).await?;
            tokio::time::sleep(Duration::from_millis(10)).await; // paced: spread over the faults
        }
        anyhow::Ok(())
    };
    let closing = async {
        for _ in 0..2 {
            rabbit.close_connections().await?;
        }
        anyhow::Ok(())
    };
    let (published, closed) = tokio::join!(publishing, closing);
    published?;
    closed?;
    all_seen(&seen, 300).await?;
    process.ready().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_network_comes_back_and_nothing_is_lost() -> anyhow::Result<()> {
    let (rabbit, _declaring) = one().await?;
    let url = rabbit.url();
    let (credentials, rest) = url.split_once('@').expect("credentials");
    let (host, vhost) = rest.split_once('/').expect("a virtual host");
    let proxy = FaultProxy::start(host).await?;
    let process = Process::start(&format!("{credentials}@{}/{vhost}", proxy.addr())).await?;
    let seen = remember(&process.broker);
    let publisher = process.broker.publisher();
    for round in 0..3 {
        let publishes = (0..50).map(|n| publisher.publish(watch(format!("{round}.{n}"))));
        let cutting = async {
            proxy.set(Fault::Refuse);
            proxy.cut_all();
            wait_until(SOON, "not ready", || async { !process.broker.ready() }).await?;
            proxy.set(Fault::None);
            anyhow::Ok(())
        };
        let (published, cut) = tokio::join!(futures_util::future::join_all(publishes), cutting);
        cut?;
        for result in published {
            result?;
        }
        process.ready().await?;
    }
    all_seen(&seen, 150).await
}

/// Cuts that hit a rebuild at any of its steps: none may be left waiting for an answer that never comes.
#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_cuts_passes_and_nothing_is_lost() -> anyhow::Result<()> {
    let (rabbit, _declaring) = one().await?;
    let url = rabbit.url();
    let (credentials, rest) = url.split_once('@').expect("credentials");
    let (host, vhost) = rest.split_once('/').expect("a virtual host");
    let proxy = FaultProxy::start(host).await?;
    let process = Process::start(&format!("{credentials}@{}/{vhost}", proxy.addr())).await?;
    let seen = remember(&process.broker);
    let publisher = process.broker.publisher();
    let cutting = async {
        for n in 0..40_u64 {
            let pause = Duration::from_millis(n * 37 % 400);
            tokio::time::sleep(pause).await; // paced: this is the fault
            proxy.cut_all();
        }
    };
    let publishing = async {
        for n in 0..200 {
            while publisher.publish(watch(n.to_string())).await.is_err() {}
            tokio::time::sleep(Duration::from_millis(30)).await; // paced: spread over the faults
        }
    };
    tokio::join!(cutting, publishing);
    all_seen(&seen, 200).await?;
    wait_until(SOON, "nothing is left", || async {
        process
            .broker
            .depth(WorkQueue::Watch)
            .await
            .is_ok_and(|depth| depth == 0)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_queue_is_made_again_by_its_consumer() -> anyhow::Result<()> {
    let (rabbit, process) = one().await?;
    let mut queue = process.collect(WorkQueue::Watch, 1);
    let publisher = process.broker.publisher();
    publisher.publish(watch("1".to_owned())).await?;
    next(&mut queue).await?.answer(Disposition::Ack);
    let outside = Outside::connect(&rabbit.url()).await?;
    let options = QueueDeleteOptions::default();
    outside
        .channel
        .queue_delete("fetcher.watch".into(), options)
        .await?;
    wait_until(SOON, "published again", || async {
        publisher.publish(watch("2".to_owned())).await.is_ok()
    })
    .await?;
    let again = next(&mut queue).await?.answer(Disposition::Ack);
    assert_eq!(&again.body[..], b"2");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_killed_and_restarted_loses_nothing_confirmed() -> anyhow::Result<()> {
    let node = RabbitNode::start().await?;
    let rabbit = node.vhost().await?;
    let process = Process::start(&rabbit.url()).await?;
    let publisher = process.broker.publisher();
    let publishes = (0..100).map(|n| publisher.publish(watch(format!("before.{n}"))));
    for result in futures_util::future::join_all(publishes).await {
        result?;
    }
    node.kill().await?;
    wait_until(SOON, "not ready", || async { !process.broker.ready() }).await?;
    assert_eq!(process.health.failing().len(), 2);
    let seen = remember(&process.broker);
    node.restart().await?;
    process.ready().await?;
    wait_until(SOON, "published after the restart", || async {
        publisher.publish(watch("after".to_owned())).await.is_ok()
    })
    .await?;
    all_seen(&seen, 101).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_broker_is_not_ready_and_a_publish_waits_for_it() -> anyhow::Result<()> {
    let node = RabbitNode::start().await?;
    let rabbit = node.vhost().await?;
    let process = Process::launch(&Settings {
        publish_timeout_s: 60.0,
        ..settings(&rabbit.url())
    })?;
    process.ready().await?;
    let watermark = async |fraction: &str| {
        let script = photofinish_kit::root().join("scripts/servers.sh");
        let mut ctl = tokio::process::Command::new(script);
        ctl.arg("ctl").arg(node.dir());
        ctl.args(["set_vm_memory_high_watermark", fraction])
            .status()
            .await
    };
    assert!(watermark("0.00001").await?.success());
    let publisher = process.broker.publisher();
    let publishes = (0..20).map(|n| publisher.publish(watch(n.to_string())));
    let freeing = async {
        wait_until(SOON, "not ready", || async { !process.broker.ready() }).await?;
        let failing = process.health.failing();
        assert_eq!(failing.len(), 1);
        assert!(failing[0].1.contains("memory"), "{failing:?}");
        // What is there can be worked off: the other connection is not blocked.
        assert!(process.broker.get(WorkQueue::Watch).await?.is_none());
        anyhow::ensure!(watermark("0.4").await?.success());
        anyhow::Ok(())
    };
    let (published, freed) = tokio::join!(futures_util::future::join_all(publishes), freeing);
    freed?;
    for result in published {
        result?;
    }
    process.ready().await?;
    assert_eq!(process.broker.depth(WorkQueue::Watch).await?, 20);
    Ok(())
}
