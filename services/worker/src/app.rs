//! The composition root of the serving worker.

use std::sync::Arc;

use anyhow::Context as _;
use photofinish_contract::announcement::Address;
use photofinish_outbound::Outbound;
use photofinish_runpod::worker::{Worker, WorkerEnv, WorkerSettings};
use photofinish_runtime::{Context, config as environment, http};

use crate::attempt::Attempts;
use crate::attempt::directories::Roots;
use crate::attempt::registry::Registry;
use crate::attempt::rescue::OwnClient;
use crate::config::Settings;
use crate::inbound::{outputs, runpod};
use crate::operations::studio::Studio;
use crate::{machine, orphan};

/// Wires everything and returns when jobs are being taken.
pub async fn build(settings: Settings, context: Context) -> anyhow::Result<()> {
    let vars = environment::environment();
    let ping = vars.get("RUNPOD_WEBHOOK_PING").cloned();
    let env = WorkerEnv::from_map(vars).context(
        "this serves RunPod and needs its environment; to do one job by hand: photofinish-worker run",
    )?;
    let config = settings
        .config(machine::cpus())
        .map_err(|faults| anyhow::anyhow!("settings: {}", faults.join("; ")))?;
    // Pings first: all else may take its time.
    let worker = Worker::start(
        env,
        WorkerSettings {
            concurrency: config.worker.jobs_max,
            ..WorkerSettings::default()
        },
    )?;
    let registry = Registry::default();
    let host = format!("{}:{}", config.worker.http_host, config.worker.http_port);
    let listener = context.ports.listen("http", &host).await?;
    let port = listener.local_addr()?.port();
    http::serve(
        &context.tasks,
        "outputs",
        listener,
        outputs::router(registry.clone()),
    );
    let proxy = config.worker.proxy_url.trim_end_matches('/');
    let url = proxy
        .replace("{pod}", worker.worker_id())
        .replace("{port}", &port.to_string());
    let boot = context.instance.clone();
    let roots = Roots::new(
        &config.worker.work_dir,
        &config.worker.output_dir,
        boot.clone(),
    );
    let studio = Studio::new(config.studio, Outbound::new(config.policy)?);
    let attempts = Arc::new(Attempts {
        studio: Arc::new(studio),
        registry,
        roots: roots.context("make worker.work_dir and worker.output_dir")?,
        client: OwnClient::new()?,
        boot,
        addresses: vec![Address {
            url,
            tls_sha256: None,
        }],
        tasks: context.tasks.clone(),
    });
    try_encoder(&context, Arc::clone(&attempts));
    drop(context.tasks.spawn("machine report", machine::report()));
    watch_orphan(&context, ping);
    let handler = move |job, given| runpod::handle(Arc::clone(&attempts), job, given);
    context
        .tasks
        .spawn_critical("runpod", worker.run(handler, context.shutdown.stop_token()));
    Ok(())
}

/// Finds the encoder while the first job is on its way.
fn try_encoder(context: &Context, attempts: Arc<Attempts>) {
    let check = context.health.register("encoder");
    drop(context.tasks.spawn("encoder trial", async move {
        match attempts.studio.encoder().await {
            Ok(_) => check.set_ready(true, ""),
            Err(error) => {
                tracing::error!(%error, "no H.264 encoder works here: no item can be rendered");
                check.set_ready(false, "no H.264 encoder works here");
            }
        }
    }));
}

fn watch_orphan(context: &Context, ping: Option<String>) {
    let url = ping.and_then(|ping| url::Url::parse(&ping).ok());
    let target =
        url.and_then(|url| Some((url.host_str()?.to_owned(), url.port_or_known_default()?)));
    let Some((host, port)) = target else {
        return;
    };
    let shutdown = context.shutdown.clone();
    drop(context.tasks.spawn("orphan watch", async move {
        tokio::select! {
            () = shutdown.wait() => {}
            () = orphan::abandoned(&host, port) => {
                tracing::error!("parent gone and RunPod unreachable: ending");
                shutdown.stop();
            }
        }
    }));
}
