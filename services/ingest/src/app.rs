//! The composition root: adapters in, handlers wired, sockets bound.

use crate::config::{Config, Settings};
use crate::core::Ingest;
use crate::inbound;
use crate::streams::{Seats, Streams};
use anyhow::Context as _;
use photofinish_broker::{Broker, Consumption, Management, WorkQueue};
use photofinish_jobstore::JobStore;
use photofinish_objects::Objects;
use photofinish_runtime::Context;
use std::sync::Arc;
use std::time::Duration;

/// How often Redis and S3 are asked whether they are there, and how many jobs are in flight.
const LOOK: Duration = Duration::from_secs(5);
/// Events kept while streams are being woken; what is dropped is found by a look.
const WAKE_UPS_MAX: u32 = 1000;

/// Wires ingest and returns when it is running.
pub async fn build(settings: Settings, context: Context) -> anyhow::Result<()> {
    let config = Config::of(&settings).map_err(|errors| anyhow::anyhow!(errors.join("; ")))?;
    let broker = Broker::connect(&settings.broker, "ingest", &context.tasks, &context.health)?;
    let streams = streams(&config, &broker, &context);
    let ingest = Arc::new(Ingest {
        publisher: broker.publisher(),
        broker: broker.clone(),
        management: Management::of(&settings.broker).context("set up RabbitMQ's management API")?,
        jobstore: JobStore::connect(&config.redis).context("set up Redis")?,
        objects: Objects::connect(&config.s3).context("set up S3")?,
        clock: context.clock.clone(),
        health: context.health.clone(),
        config,
        known: crate::estimates::Known::default(),
        in_flight: crate::in_flight::InFlight::default(),
        limits: crate::quotas::Limits::default(),
        streams,
        key_notes: crate::auth::KeyNotes::default(),
    });
    let handler = ingest.clone();
    let submissions = broker.consume(
        WorkQueue::Submissions,
        ingest.config.submissions_concurrency,
        move |incoming| {
            let ingest = handler.clone();
            async move { ingest.on_submission(incoming).await }
        },
    );
    watch(&ingest, &context, submissions);
    let sweep = crate::retention::run(ingest.clone(), context.shutdown.clone());
    context.tasks.spawn_critical("retention", sweep);
    let listener = context
        .ports
        .listen("http", &ingest.config.http.listen)
        .await?;
    let (limits, tls) = (ingest.config.http.limits, ingest.config.http.tls.clone());
    if let Some(tls) = &tls {
        tls.watch(&context.tasks);
    }
    let router = inbound::router(ingest);
    photofinish_runtime::http::serve(&context.tasks, "http", listener, router, limits, tls);
    Ok(())
}

fn streams(config: &Config, broker: &Broker, context: &Context) -> Streams {
    let seats = Arc::new(Seats::default());
    let woken = seats.clone();
    let listening = broker.listen(WAKE_UPS_MAX, move |heard| {
        woken.hear(&heard);
        std::future::ready(())
    });
    Streams {
        seats,
        listening,
        limits: config.http.streams,
        shutdown: context.shutdown.clone(),
    }
}

/// Readiness follows the stores; the default tenant is made; above the limit no submission is taken.
fn watch(ingest: &Arc<Ingest>, context: &Context, submissions: Consumption) {
    let (redis, s3) = (ingest.jobstore.clone(), ingest.objects.clone());
    let (health, tasks) = (&context.health, &context.tasks);
    health.watch(tasks, "redis", move || {
        let redis = redis.clone();
        async move { redis.ping().await }
    });
    health.watch(tasks, "s3", move || {
        let s3 = s3.clone();
        async move { s3.check().await }
    });
    let (ingest, shutdown) = (ingest.clone(), context.shutdown.clone());
    context.tasks.spawn_critical("stores.watch", async move {
        let mut tenant_owed = ingest.config.default_tenant.clone();
        while !shutdown.stopping() {
            if let Some(tenant) = &tenant_owed
                && ingest.make_tenant(tenant).await.is_ok()
            {
                tenant_owed = None;
            }
            pace(&ingest, &submissions).await;
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = shutdown.wait() => {}
            }
        }
    });
}

async fn pace(ingest: &Ingest, submissions: &Consumption) {
    let Ok(in_flight) = ingest.jobstore.jobs_in_flight().await else {
        return;
    };
    // What appears with its first event has not grown.
    metrics::counter!("photofinish_ingest_above_limit_total").increment(0);
    metrics::gauge!("photofinish_ingest_jobs_in_flight").set(in_flight as f64);
    let above = in_flight >= ingest.config.jobs_in_flight_max;
    if above && !submissions.is_paused() {
        tracing::warn!(
            in_flight,
            "above admission.jobs_in_flight_max: submissions wait"
        );
        submissions.pause();
    } else if !above && submissions.is_paused() {
        tracing::info!(in_flight, "submissions are taken again");
        submissions.resume();
    }
}
