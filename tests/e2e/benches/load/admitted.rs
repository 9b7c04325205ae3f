//! Submissions over AMQP admitted in a second, against the bare loop of the same broker: a confirmed publish, a delivery
//! and its ack.

use std::time::{Duration, Instant};

use lapin::options::{QueueDeclareOptions, QueuePurgeOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties};
use photofinish_demo::wiring::RunPod;
use photofinish_kit::measure::{Figure, Goal};
use photofinish_kit::wait_until;

use crate::bare::Chain;
use crate::client::{Client, request};
use crate::house::House;

const JOBS: usize = 3000;
const ROUNDS: usize = 3;
const WITHIN: Duration = Duration::from_secs(60);
/// Where the message of an admitted job lies while nobody plans.
const ADMITTED: &str = "dispatcher.plan";

pub(crate) async fn measure() -> anyhow::Result<Vec<Figure>> {
    let mut house = House::start("admitted", RunPod::stand_in(), Vec::new()).await?;
    for service in ["dispatcher", "fetcher", "notifier"] {
        house.stack.end_service(service).await?;
    }
    let client = Client::connect(&house).await?;
    let look = Connection::connect(&house.rabbit.url(), ConnectionProperties::default()).await?;
    let look = look.create_channel().await?;
    let vhost = house.node.vhost().await?;
    let mut bare = Chain::start(&vhost, 1, serde_json::to_vec(&request())?).await?;
    run(&client, &look, JOBS / 4).await?;
    bare.run(JOBS / 4).await?;
    let (mut ours, mut theirs) = (0.0_f64, 0.0_f64);
    for _ in 0..ROUNDS {
        ours = ours.max(run(&client, &look, JOBS).await?);
        theirs = theirs.max(bare.run(JOBS).await?);
    }
    house.end().await?;
    Ok(vec![Figure {
        name: "amqp_accept_vs_bare_broker",
        value: ours / theirs,
        unit: "x",
        goal: Goal::AtLeast(0.3),
        against: format!(
            "one durable quorum queue, publish confirmed, consume, ack: {theirs:.0}/s; submissions admitted: {ours:.0}/s; \
             the best of {ROUNDS} rounds each, nobody works on the jobs"
        ),
    }])
}

async fn run(client: &Client, look: &Channel, jobs: usize) -> anyhow::Result<f64> {
    let begun = Instant::now();
    client.submit(jobs).await?;
    wait_until(WITHIN, "every submission is admitted", || async {
        depth(look).await.is_ok_and(|depth| depth >= jobs as u32)
    })
    .await?;
    let rate = jobs as f64 / begun.elapsed().as_secs_f64();
    let emptied = QueuePurgeOptions::default();
    look.queue_purge(ADMITTED.into(), emptied).await?;
    Ok(rate)
}

async fn depth(look: &Channel) -> anyhow::Result<u32> {
    let passive = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let queue = look
        .queue_declare(ADMITTED.into(), passive, FieldTable::default())
        .await?;
    Ok(queue.message_count())
}
