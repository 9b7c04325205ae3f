//! The composition root: adapters in, handlers wired.

use crate::config::{Config, Settings};
use crate::core::Notifier;
use crate::gate::Gate;
use crate::in_hand::InHand;
use crate::lines::Lines;
use crate::replays::Replays;
use crate::streaks::Well;
use anyhow::Context as _;
use photofinish_broker::{Broker, WorkQueue};
use photofinish_jobstore::JobStore;
use photofinish_objects::Objects;
use photofinish_outbound::Outbound;
use photofinish_runtime::Context;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Wires the notifier and returns when it is running.
#[expect(
    clippy::unused_async,
    reason = "the runtime awaits what builds a service"
)]
pub async fn build(settings: Settings, context: Context) -> anyhow::Result<()> {
    let config = Config::of(&settings).map_err(|errors| anyhow::anyhow!(errors.join("; ")))?;
    let broker = Broker::connect(
        &settings.broker,
        "notifier",
        &context.tasks,
        &context.health,
    )?;
    let notifier = Arc::new(Notifier {
        publisher: broker.publisher(),
        jobstore: JobStore::connect(&config.redis).context("set up Redis")?,
        objects: Objects::connect(&config.s3).context("set up S3")?,
        outbound: Outbound::new(config.receivers.clone()).context("set up webhooks")?,
        clock: context.clock.clone(),
        gate: Gate::new(config.progress_interval, config.progress_jobs_max),
        in_hand: InHand::default(),
        well: Well::default(),
        lines: Lines::new(config.lines, config.shares, context.clock.clone()),
        firsts: Semaphore::new((usize::from(config.events_concurrency) * 3).div_ceil(4)),
        replays: Replays::default(),
        config,
    });
    crate::telemetry::begin();
    let (redis, s3) = (notifier.jobstore.clone(), notifier.objects.clone());
    let (health, tasks) = (&context.health, &context.tasks);
    health.watch(tasks, "redis", move || {
        let redis = redis.clone();
        async move { redis.ping().await }
    });
    health.watch(tasks, "s3", move || {
        let s3 = s3.clone();
        async move { s3.check().await }
    });
    let handler = notifier.clone();
    broker.consume(
        WorkQueue::Events,
        notifier.config.events_concurrency,
        move |incoming| {
            let notifier = handler.clone();
            async move { notifier.on_event(incoming).await }
        },
    );
    let handler = notifier.clone();
    broker.consume(
        WorkQueue::Deliver,
        notifier.config.deliver_concurrency,
        move |incoming| {
            let notifier = handler.clone();
            async move { notifier.on_delivery(incoming).await }
        },
    );
    Ok(())
}
