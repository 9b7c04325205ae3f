//! Jobs a second through all four services, RunPod answering at once, against a bare chain of as many hops.

use std::time::{Duration, Instant};

use photofinish_demo::wiring::{RunPod, Setting};
use photofinish_kit::measure::{Figure, Goal};

use crate::bare::Chain;
use crate::client::{Client, request};
use crate::house::House;

/// Durable queues that the messages of one job go through: a submission, the admitted job, the part (while all slots
/// are taken), the watch, its end, and the four events accepted, started, progress and completed; the tenth is the
/// client's own.
const HOPS: usize = 10;
const JOBS: usize = 600;
const MESSAGES: usize = 2000;
const ROUNDS: usize = 3;
const WITHIN: Duration = Duration::from_secs(120);

pub(crate) async fn measure() -> anyhow::Result<Vec<Figure>> {
    let slots = |path, value: &str| Setting::new("dispatcher", path, value);
    let settings = vec![
        slots("runpod.workers_max", "2"),
        slots("runpod.per_worker", "128"),
        slots("runpod.run_per_10s_max", "100000"),
        Setting::new("fetcher", "runpod.status_per_10s_max", "100000"),
        Setting::new("fetcher", "fetcher.pulls_max", "64"),
    ];
    let runpod = RunPod::stand_in()
        .flag("--workers-max", "2")
        .flag("--workers-min", "2")
        .flag("--cold-start", "0ms")
        .flag("--queue-delay", "0ms")
        .flag("--rate-limits", "off")
        .env("PHOTOFINISH__WORKER__JOBS_MAX", "128")
        .env("BATCH_SIZE", "64");
    let house = House::start("chain", runpod, settings).await?;
    let mut client = Client::connect(&house).await?;
    let vhost = house.node.vhost().await?;
    let mut bare = Chain::start(&vhost, HOPS, serde_json::to_vec(&request())?).await?;
    run(&mut client, JOBS / 4).await?;
    bare.run(MESSAGES / 4).await?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        ours.push(run(&mut client, JOBS).await?);
        theirs.push(bare.run(MESSAGES).await?);
        eprintln!(
            "round {round}: {:.0} jobs/s, bare chain {:.0}/s",
            ours[round], theirs[round]
        );
    }
    house.end().await?;
    let best = |rates: &[f64]| rates.iter().copied().fold(0.0, f64::max);
    let (ours, theirs) = (best(&ours), best(&theirs));
    Ok(vec![Figure {
        name: "jobs_vs_bare_chain",
        value: ours / theirs,
        unit: "x",
        goal: Goal::AtLeast(0.5),
        against: format!(
            "messages/s through a bare chain of {HOPS} durable quorum queues: {theirs:.0}; one-part jobs/s from \
             submission over AMQP to the completed event, stand-in workers: {ours:.0}"
        ),
    }])
}

async fn run(client: &mut Client, jobs: usize) -> anyhow::Result<f64> {
    let begun = Instant::now();
    client.submit(jobs).await?;
    client.completed(jobs, WITHIN).await?;
    Ok(jobs as f64 / begun.elapsed().as_secs_f64())
}
