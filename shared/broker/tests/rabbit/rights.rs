//! The rights that the Kubernetes manifests give to the services' user.

use std::time::Duration;

use anyhow::Context as _;
use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use photofinish_broker::{
    Disposition, Family, Heard, Outgoing, ParkedIn, Route, Settings, Target, WorkQueue,
};
use photofinish_kit::Rabbit;
use tokio::sync::{Mutex, mpsc};

use crate::rig::{Outside, Process, SOON, next, settings};

const USERS: &str = "k8s/components/rabbitmq-operator/users.yaml";

/// A pattern of the first `Permission` there, which is the services'.
fn right(manifest: &str, what: &str) -> anyhow::Result<String> {
    let key = format!("    {what}: ");
    let line = manifest.lines().find_map(|line| line.strip_prefix(&key));
    Ok(line
        .with_context(|| format!("{USERS} gives no {what}"))?
        .to_owned())
}

/// The topology is there, and a process whose user has those rights checks it.
async fn least() -> anyhow::Result<(Rabbit, Process, String)> {
    let manifest = std::fs::read_to_string(photofinish_kit::root().join(USERS))?;
    let rabbit = Rabbit::fresh().await?;
    let _declaring = Process::start(&rabbit.url()).await?;
    let user = format!("least-{}", rabbit.vhost());
    let rights = ["configure", "write", "read"].map(|what| right(&manifest, what));
    let [configure, write, read] = rights;
    let (configure, write, read) = (configure?, write?, read?);
    rabbit
        .user(&user, "pw", (&configure, &write, &read))
        .await?;
    let url = rabbit.url_as(&user, "pw");
    let process = Process::launch(&Settings {
        declare: false,
        ..settings(&url)
    })?;
    process.ready().await?;
    Ok((rabbit, process, url))
}

async fn soon<T>(receiver: &mut mpsc::Receiver<T>, what: &str) -> anyhow::Result<T> {
    let came = tokio::time::timeout(SOON, receiver.recv()).await;
    came.ok().flatten().with_context(|| what.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rights_of_the_manifests_are_enough_for_all_that_the_services_do() -> anyhow::Result<()>
{
    let (_rabbit, process, _) = least().await?;
    let (sender, signals) = mpsc::channel(10);
    let signals = Mutex::new(signals);
    process.broker.consume_signals(10, move |incoming| {
        let sender = sender.clone();
        async move { sender.send(incoming).await.unwrap_or_default() }
    });
    let (sender, mut heard) = mpsc::channel(10);
    let listening = process.broker.listen(10, move |what| {
        let sender = sender.clone();
        async move { sender.send(what).await.unwrap_or_default() }
    });
    listening.want("acme");
    let bound = soon(&mut heard, "acme's events are bound").await?;
    assert!(matches!(bound, Heard::Bound { .. }));

    let publisher = process.broker.publisher();
    let event = Target::Events {
        routing_key: "acme.job.caption.completed".to_owned(),
    };
    publisher.publish(Outgoing::new(event, "{}")).await?;
    let event = soon(&mut heard, "an event").await?;
    assert!(matches!(event, Heard::Event { .. }));
    for target in [Target::Rejected, Target::Dead(Family::Plan)] {
        publisher.publish(Outgoing::new(target, "{}")).await?;
    }
    // Its queue is made behind our back: until then a signal finds nobody.
    let signal = photofinish_kit::wait_for(SOON, "a signal", || async {
        let signal = Outgoing::new(Target::Signals, "{}");
        publisher.publish(signal).await.ok()?;
        let patience = Duration::from_millis(200);
        let mut signals = signals.lock().await;
        tokio::time::timeout(patience, signals.recv())
            .await
            .ok()
            .flatten()
    })
    .await?;
    assert_eq!(&signal.body[..], b"{}");

    // Taken, retried by a tier, parked, and looked at where people look.
    let mut plan = process.collect(WorkQueue::Plan, 1);
    let mut parked = process.collect(WorkQueue::Parked, 1);
    let job = Outgoing::new(Target::Pipeline(Route::JobAccepted), "{}");
    publisher.publish(job).await?;
    let first = next(&mut plan).await?;
    first.answer(Disposition::RetryLater(Duration::from_secs(1)));
    let again = next(&mut plan).await?;
    again.answer(Disposition::DeadLetter {
        code: "internal_error",
        reason: "on purpose".to_owned(),
    });
    let given_up = next(&mut parked).await?.answer(Disposition::Ack);
    assert!(given_up.parked().is_some());
    let lying = process
        .broker
        .parked(ParkedIn::Dead(Family::Plan), 10)
        .await?;
    assert_eq!(lying.len(), 1);
    assert!(process.broker.parked_drop(&lying[0].id).await?);
    assert_eq!(process.drain().await, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rights_of_the_manifests_make_and_delete_nothing() -> anyhow::Result<()> {
    let (_rabbit, process, url) = least().await?;
    for name in ["dispatcher.more", "photofinish.more", "acme.inbox"] {
        let outside = Outside::connect(&url).await?;
        let made = outside.channel.queue_declare(
            name.into(),
            QueueDeclareOptions::default(),
            FieldTable::default(),
        );
        assert!(made.await.is_err(), "{name} could be made");
    }
    let outside = Outside::connect(&url).await?;
    let deleted = outside
        .channel
        .queue_delete("dispatcher.plan".into(), QueueDeleteOptions::default());
    assert!(deleted.await.is_err(), "a queue could be deleted");
    assert_eq!(process.drain().await, 0);
    Ok(())
}
