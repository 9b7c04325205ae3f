//! The composition root: adapters in, both doors opened.

use crate::config::{Config, Settings};
use crate::core::Core;
use crate::inbound;
use anyhow::Context as _;
use photofinish_broker::{Broker, WorkQueue};
use photofinish_jobstore::JobStore;
use photofinish_objects::{Objects, Sealer};
use photofinish_outbound::Guard;
use photofinish_runtime::{Check, Context, http};
use secrecy::ExposeSecret;
use std::sync::Arc;
use std::time::Duration;

/// How often Redis and S3 are asked whether they are there.
const LOOK: Duration = Duration::from_secs(5);

/// Wires ingest and returns when it is running.
pub async fn build(settings: Settings, context: Context) -> anyhow::Result<()> {
    let config = Config::of(&settings).map_err(|errors| anyhow::anyhow!(errors.join("; ")))?;
    let broker = Broker::connect(&settings.broker, "ingest", &context.tasks, &context.health)?;
    let redis = settings.redis.settings().map_err(|errors| anyhow::anyhow!(errors.join("; ")))?;
    let s3 = settings.s3.settings().map_err(|errors| anyhow::anyhow!(errors.join("; ")))?;
    let core = Arc::new(Core {
        publisher: broker.publisher(),
        jobstore: JobStore::connect(&redis).context("set up Redis")?,
        objects: Objects::connect(&s3).context("set up S3")?,
        sealer: Sealer::new(settings.secrets.key.expose_secret())?,
        inputs: Guard::new(config.inputs.clone()),
        receivers: Guard::new(config.receivers.clone()),
        clock: context.clock.clone(),
        tokens: config.tokens.clone(),
        config,
    });
    watch_stores(&core, &context);
    let listener = context.ports.listen("http", &settings.http.listen).await?;
    http::serve(&context.tasks, "http", listener, inbound::router(core.clone()));
    let concurrency = core.config.concurrency;
    broker.consume(WorkQueue::Submissions, concurrency, move |incoming| {
        let core = core.clone();
        async move { core.on_submission(incoming).await }
    });
    Ok(())
}

/// Readiness follows the stores.
fn watch_stores(core: &Arc<Core>, context: &Context) {
    let (redis, s3) = (context.health.register("redis"), context.health.register("s3"));
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
