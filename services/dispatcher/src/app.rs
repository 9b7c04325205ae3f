//! The composition root: adapters in, handlers wired.

use crate::config::{Config, Settings};
use crate::core::Core;
use crate::{deadlines, submitting};
use anyhow::Context as _;
use photofinish_broker::{Broker, WorkQueue};
use photofinish_jobstore::JobStore;
use photofinish_objects::Objects;
use photofinish_runpod::client::{Client, ClientSettings};
use photofinish_runtime::{Check, Context};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// How often Redis and S3 are asked whether they are there.
const LOOK: Duration = Duration::from_secs(5);

/// Wires the dispatcher and returns when it is running.
#[expect(
    clippy::unused_async,
    reason = "the runtime awaits every service's build"
)]
pub async fn build(settings: Settings, context: Context) -> anyhow::Result<()> {
    let config = Config::of(&settings).map_err(|errors| anyhow::anyhow!(errors.join("; ")))?;
    let broker = Broker::connect(
        &settings.broker,
        "dispatcher",
        &context.tasks,
        &context.health,
    )?;
    let redis = settings
        .redis
        .settings()
        .map_err(|errors| anyhow::anyhow!(errors.join("; ")))?;
    let s3 = settings
        .s3
        .settings()
        .map_err(|errors| anyhow::anyhow!(errors.join("; ")))?;
    let client = ClientSettings::new(settings.runpod.base_url, settings.runpod.api_key);
    let core = Arc::new(Core {
        publisher: broker.publisher(),
        broker,
        jobstore: JobStore::connect(&redis).context("set up Redis")?,
        objects: Objects::connect(&s3).context("set up S3")?,
        runpod: Client::new(client).context("set up RunPod's client")?,
        clock: context.clock.clone(),
        tokens: config.tokens.clone(),
        reported: submitting::Reported::default(),
        work: Arc::new(Notify::new()),
        config,
    });
    watch_stores(&core, &context);
    consume(&core);
    let (tasks, shutdown) = (context.tasks.clone(), context.shutdown.clone());
    context.tasks.spawn_critical(
        "submit.loop",
        submitting::run(core.clone(), tasks, shutdown.clone()),
    );
    context.tasks.spawn_critical(
        "submit.remark",
        submitting::remark_lanes(core.clone(), shutdown.clone()),
    );
    context
        .tasks
        .spawn_critical("deadlines", deadlines::run(core, shutdown));
    Ok(())
}

fn consume(core: &Arc<Core>) {
    let concurrency = core.config.concurrency;
    let handler = core.clone();
    core.broker
        .consume(WorkQueue::Plan, concurrency, move |incoming| {
            let core = handler.clone();
            async move { core.on_plan(incoming).await }
        });
    let handler = core.clone();
    core.broker
        .consume(WorkQueue::Outcome, concurrency, move |incoming| {
            let core = handler.clone();
            async move { core.on_outcome(incoming).await }
        });
    let handler = core.clone();
    core.broker.consume(WorkQueue::Parked, 1, move |incoming| {
        let core = handler.clone();
        async move { core.on_parked(incoming).await }
    });
}

/// Readiness follows the stores.
fn watch_stores(core: &Arc<Core>, context: &Context) {
    let (redis, s3) = (
        context.health.register("redis"),
        context.health.register("s3"),
    );
    let (core, shutdown) = (core.clone(), context.shutdown.clone());
    context.tasks.spawn_critical("stores.watch", async move {
        while !shutdown.stopping() {
            tell(&redis, core.jobstore.ping().await);
            tell(&s3, core.objects.check().await);
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = shutdown.wait() => {}
            }
        }
    });
}

fn tell<E: std::error::Error>(check: &Check, result: Result<(), E>) {
    match result {
        Ok(()) => check.ok(),
        Err(error) => check.failing(crate::error::chain(&error)),
    }
}
