//! The composition root: adapters in, handlers wired.

use crate::config::{Config, Settings};
use crate::core::Core;
use crate::hub::Hub;
use crate::permits::Permits;
use crate::routes::Routes;
use crate::telemetry;
use anyhow::Context as _;
use photofinish_broker::{Broker, WorkQueue};
use photofinish_jobstore::JobStore;
use photofinish_objects::Objects;
use photofinish_outbound::Guard;
use photofinish_runpod::client::{Client, ClientSettings, OperationLimit};
use photofinish_runpod::direct::DirectPorts;
use photofinish_runpod::proxy::WorkerProxy;
use photofinish_runtime::Context;
use std::sync::Arc;
use std::time::Duration;

/// The longest wait for a connection to the proxy.
const CONNECT: Duration = Duration::from_secs(5);
/// Signals that may wait before the oldest is dropped.
const SIGNALS_MAX: u32 = 10_000;

/// Wires the fetcher and returns when it is running.
#[expect(
    clippy::unused_async,
    reason = "the runtime awaits every service's build"
)]
pub async fn build(settings: Settings, context: Context) -> anyhow::Result<()> {
    let config = Config::of(&settings).map_err(|errors| anyhow::anyhow!(errors.join("; ")))?;
    let broker = Broker::connect(&settings.broker, "fetcher", &context.tasks, &context.health)?;
    let redis = settings
        .redis
        .settings()
        .map_err(|errors| anyhow::anyhow!(errors.join("; ")))?;
    let s3 = settings
        .s3
        .settings()
        .map_err(|errors| anyhow::anyhow!(errors.join("; ")))?;
    let client = ClientSettings {
        status_limit: OperationLimit::per_10s(settings.runpod.status_per_10s_max),
        ..ClientSettings::new(settings.runpod.base_url, settings.runpod.api_key)
    };
    let proxy = WorkerProxy::new(&settings.runpod.proxy_url, CONNECT, config.stall_max);
    let proxy = proxy.context("set up RunPod's proxy: see runpod.proxy_url")?;
    let direct = DirectPorts::new(config.direct_connect_timeout, config.stall_max);
    let guard = Guard::new(config.workers.clone());
    let core = Arc::new(Core {
        publisher: broker.publisher(),
        jobstore: JobStore::connect(&redis).context("set up Redis")?,
        objects: Objects::connect(&s3).context("set up S3")?,
        runpod: Client::new(client).context("set up RunPod's client")?,
        routes: Routes::new(proxy, direct, guard),
        clock: context.clock.clone(),
        shutdown: context.shutdown.clone(),
        tokens: config.tokens.clone(),
        hub: Hub::default(),
        permits: Permits::new(config.pulls_max, config.pulls_per_worker_max),
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
    telemetry::begin();
    let handler = core.clone();
    broker.consume_signals(SIGNALS_MAX, move |incoming| {
        let core = handler.clone();
        async move { core.on_signal(&incoming) }
    });
    let watches = core.config.watches_max;
    broker.consume(WorkQueue::Watch, watches, move |incoming| {
        let core = core.clone();
        async move { core.on_watch(incoming).await }
    });
    Ok(())
}
