//! The composition root: adapters in, handlers wired.

use crate::config::{Config, Settings};
use crate::core::Core;
use crate::rebuild::Rebuild;
use crate::reported::Reported;
use crate::{deadlines, lanes, pauses, rebuild, reported, submitting, sweep, telemetry};
use anyhow::Context as _;
use photofinish_broker::{Broker, GETS_MAX, WorkQueue};
use photofinish_jobstore::JobStore;
use photofinish_objects::Objects;
use photofinish_runpod::client::{Client, ClientSettings};
use photofinish_runtime::Context;
use std::sync::Arc;
use tokio::sync::{Notify, Semaphore};

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
    let client = ClientSettings {
        submit_breaker: config.breaker,
        run_limit: config.run_limit,
        ..ClientSettings::new(settings.runpod.base_url, settings.runpod.api_key)
    };
    let core = Arc::new(Core {
        publisher: broker.publisher(),
        broker,
        jobstore: JobStore::connect(&redis).context("set up Redis")?,
        objects: Objects::connect(&s3).context("set up S3")?,
        runpod: Client::new(client).context("set up RunPod's client")?,
        clock: context.clock.clone(),
        tokens: config.tokens.clone(),
        reported: Reported::default(),
        rebuild: Rebuild::default(),
        pauses: pauses::Pauses::default(),
        expected: lanes::Expected::default(),
        spent: telemetry::Spent::default(),
        work: Arc::new(Notify::new()),
        submits: Arc::new(Semaphore::new(config.submits_max)),
        at_once: Arc::new(Semaphore::new(
            (usize::from(config.concurrency) * 3 / 4).max(1),
        )),
        crowded: std::sync::Mutex::default(),
        tenant_lanes: lanes::TenantLanes::default(),
        config,
    });
    let (redis, s3) = (core.jobstore.clone(), core.objects.clone());
    let (health, tasks) = (&context.health, &context.tasks);
    health.watch(tasks, "redis", move || {
        let redis = redis.clone();
        async move { redis.ping().await }
    });
    health.watch(tasks, "s3", move || {
        let s3 = s3.clone();
        async move { s3.check().await }
    });
    telemetry::begin(&core.config.endpoints);
    consume(&core);
    work(core, &context);
    Ok(())
}

/// Everything that goes on besides messages.
fn work(core: Arc<Core>, context: &Context) {
    let (tasks, shutdown) = (context.tasks.clone(), context.shutdown.clone());
    for _ in 0..GETS_MAX {
        let submitting = submitting::run(core.clone(), tasks.clone(), shutdown.clone());
        context.tasks.spawn_critical("submit.loop", submitting);
    }
    context
        .tasks
        .spawn_critical("submit.lanes", lanes::run(core.clone(), shutdown.clone()));
    let tasks = &context.tasks;
    for endpoint in core.config.endpoints.clone() {
        let asking = reported::run(core.clone(), endpoint, shutdown.clone());
        tasks.spawn_critical("endpoint.health", asking);
    }
    tasks.spawn_critical("pauses", pauses::run(core.clone(), shutdown.clone()));
    tasks.spawn_critical("submit.sweep", sweep::run(core.clone(), shutdown.clone()));
    tasks.spawn_critical("rebuild", rebuild::run(core.clone(), shutdown.clone()));
    tasks.spawn_critical("deadlines", deadlines::run(core, shutdown));
}

fn consume(core: &Arc<Core>) {
    core.broker.watch_parked();
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
