//! kill -9 of each service and of RabbitMQ, and an emptied Redis, in the middle of a job: when at least one output is stored and at
//! least one is pending. Afterwards every output is there once and every webhook came.

use std::time::Duration;

use photofinish_demo::checks::{Report, check_job};
use photofinish_demo::jobs::{self, Ask, Door, Submitted};
use photofinish_demo::progress;
use photofinish_demo::wiring::Setting;
use photofinish_e2e::{PAINTED, Site};
use photofinish_kit::{Rabbit, RabbitNode, Redis, RedisServer, wait_for};
use serde_json::json;

const PICTURES: u32 = 10;
const SECONDS: f64 = 4.0;
const MIDDLE_DEADLINE: Duration = Duration::from_secs(60);
const END_DEADLINE: Duration = Duration::from_secs(120);

/// Long enough that its middle can be met.
fn slow(site: &Site) -> Ask {
    let (files, hook) = (site.files.url(), site.ear.url());
    let mut ask = jobs::img2vid("slow", Door::Amqp, (PICTURES, PAINTED), &files, &hook);
    for image in 0..PICTURES as usize {
        ask.request["images"][image]["duracao"] = json!(SECONDS);
    }
    ask.expected.frames *= SECONDS as u64;
    ask.expected.video_s = SECONDS;
    ask
}

async fn submitted(site: &Site) -> anyhow::Result<Submitted> {
    jobs::submit(site.stack.http(), site.stack.wiring()?, slow(site)).await
}

async fn in_the_middle(site: &Site, job: &Submitted) -> anyhow::Result<()> {
    let (http, wiring) = (site.stack.http(), site.stack.wiring()?);
    let what = "one output is stored and one pending";
    let done = wait_for(MIDDLE_DEADLINE, what, || async {
        let job = jobs::get(http, wiring, &job.id).await.ok()?;
        let done = job.progress.items_done;
        (done >= 1).then_some(done)
    });
    anyhow::ensure!(
        done.await? < PICTURES,
        "the job was over before its middle was met"
    );
    Ok(())
}

async fn ends_well(site: Site, job: Submitted) -> anyhow::Result<()> {
    let (http, wiring) = (site.stack.http(), site.stack.wiring()?);
    let finished = progress::follow(http, wiring, vec![job], END_DEADLINE).await?;
    let mut report = Report::default();
    check_job(&site.stack, &site.ear, &finished[0], &mut report).await?;
    anyhow::ensure!(report.failures.is_empty(), "{:#?}", report.failures);
    let stored = site.output_keys(finished[0].job.id.as_str()).await?;
    let once = stored.len() == PICTURES as usize;
    anyhow::ensure!(once, "each output lies there once: {stored:#?}");
    site.end().await
}

async fn killed(service: &'static str) -> anyhow::Result<()> {
    let mut site = Site::start(service, patient()).await?;
    let job = submitted(&site).await?;
    in_the_middle(&site, &job).await?;
    site.stack.kill_service(service).await?;
    site.stack.restart_service(service).await?;
    ends_well(site, job).await
}

/// A worker waits so long that a service, or RabbitMQ, has time to come back.
fn patient() -> Vec<Setting> {
    vec![Setting::new("dispatcher", "race.linger_s", "60")]
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_is_killed() -> anyhow::Result<()> {
    let node = RabbitNode::start().await?;
    let site = Site::start_on("rabbitmq", node.vhost().await?, Redis::fresh()?, patient()).await?;
    let job = submitted(&site).await?;
    in_the_middle(&site, &job).await?;
    node.kill().await?;
    node.restart().await?;
    ends_well(site, job).await
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_emptied() -> anyhow::Result<()> {
    let server = RedisServer::start().await?;
    let redis = Redis {
        url: server.url(),
        prefix: "photofinish:".to_owned(),
    };
    let site = Site::start_on("redis", Rabbit::fresh().await?, redis, patient()).await?;
    let job = submitted(&site).await?;
    in_the_middle(&site, &job).await?;
    let client = redis::Client::open(server.url())?;
    redis::cmd("FLUSHALL").exec(&mut client.get_connection()?)?;
    ends_well(site, job).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ingest_is_killed() -> anyhow::Result<()> {
    killed("ingest").await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dispatcher_is_killed() -> anyhow::Result<()> {
    killed("dispatcher").await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fetcher_is_killed() -> anyhow::Result<()> {
    killed("fetcher").await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_notifier_is_killed() -> anyhow::Result<()> {
    killed("notifier").await
}
