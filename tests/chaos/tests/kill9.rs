//! kill -9 of each service, of a worker, of RabbitMQ and of Redis, while at least one output is stored and at least
//! one is pending. Afterwards every output is there once and every webhook was told.

use photofinish_chaos::{Scene, Victim, laws};

async fn survived(victim: Victim) -> anyhow::Result<()> {
    let mut scene = Scene::set(victim).await?;
    let job = scene.submit().await?;
    scene.middle(&job).await?;
    scene.kill().await?;
    scene.is_middle(&job)?;
    scene.revive().await?;
    let ended = scene.follow(&job).await?;
    let stage = scene.stage;
    laws::completed(&stage, stage.stack.wiring()?, &job, &ended).await?;
    laws::quiet(&stage).await?;
    stage.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn ingest_is_killed() -> anyhow::Result<()> {
    survived(Victim::Service("ingest")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dispatcher_is_killed() -> anyhow::Result<()> {
    survived(Victim::Service("dispatcher")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fetcher_is_killed() -> anyhow::Result<()> {
    survived(Victim::Service("fetcher")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_notifier_is_killed() -> anyhow::Result<()> {
    survived(Victim::Service("notifier")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_killed() -> anyhow::Result<()> {
    survived(Victim::Worker).await
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_is_killed() -> anyhow::Result<()> {
    survived(Victim::RabbitMq).await
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_killed() -> anyhow::Result<()> {
    survived(Victim::Redis).await
}
