//! The composition root of the serving worker.
//!
//! Nouns: [`Taking`] is all of it but what makes the files, which [`build`] gives it: the studio.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use photofinish_contract::announcement::Address;
use photofinish_outbound::Outbound;
use photofinish_runpod::worker::{Worker, WorkerEnv, WorkerSettings};
use photofinish_runtime::{Context, config as environment};
use tokio::sync::watch;

use crate::attempt::Attempts;
use crate::attempt::directories::Roots;
use crate::attempt::registry::Registry;
use crate::attempt::rendering::Maker;
use crate::attempt::rescue::OwnClient;
use crate::config::{Config, Settings, WorkerSection};
use crate::inbound::door::{self, Certificate, Door};
use crate::inbound::{outputs, runpod};
use crate::operations::studio::Studio;
use crate::{exposed, machine, orphan};

/// Wires everything and returns when jobs can be done.
pub async fn build(settings: Settings, context: Context) -> anyhow::Result<()> {
    let taking = Taking::start(&settings, context)?;
    let (config, context) = (&taking.config, taking.context.clone());
    let outbound = Outbound::new(config.policy.clone())?;
    let studio = Arc::new(Studio::new(config.studio.clone(), outbound));
    taking.serve(Arc::<Studio>::clone(&studio)).await?;
    try_encoder(&context, studio);
    drop(context.tasks.spawn("machine report", machine::report()));
    Ok(())
}

/// A worker that pings RunPod and takes jobs already; they wait for [`Taking::serve`]. RunPod's answer to the first
/// poll takes longer than the rest of the start.
#[derive(Debug)]
pub struct Taking {
    /// The configuration.
    pub config: Config,
    context: Context,
    vars: BTreeMap<String, String>,
    worker_id: String,
    // Should it be dropped, a job that came already is answered with that.
    ready: watch::Sender<Option<Arc<Attempts>>>,
}

impl Taking {
    /// Begins to ping and to take jobs.
    pub fn start(settings: &Settings, context: Context) -> anyhow::Result<Self> {
        let vars = environment::environment();
        let env = WorkerEnv::from_map(&vars).context(
            "this serves RunPod and needs its environment; to do one job by hand: photofinish-worker run",
        )?;
        let config = settings
            .config(machine::cpus())
            .map_err(|faults| anyhow::anyhow!("settings: {}", faults.join("; ")))?;
        let worker = Worker::start(
            env,
            WorkerSettings {
                concurrency: config.worker.jobs_max,
                refresh_after_jobs: config.worker.refresh_after_jobs,
                ..WorkerSettings::default()
            },
        )?;
        let worker_id = worker.worker_id().to_owned();
        let (ready, assembled) = watch::channel(None);
        let handler = move |job, given| runpod::handle(assembled.clone(), job, given);
        let shutdown = context.shutdown.clone();
        context.tasks.spawn_critical("runpod", async move {
            worker.run(handler, shutdown.stop_token()).await;
            // Without a shutdown this is a refresh: RunPod starts a fresh worker.
            shutdown.stop();
        });
        Ok(Self {
            config,
            context,
            vars,
            worker_id,
            ready,
        })
    }

    /// Opens the output server and has the jobs done by `maker`.
    pub async fn serve(self, maker: Arc<dyn Maker>) -> anyhow::Result<()> {
        let worker = &self.config.worker;
        let attempts = assemble(worker, &self.context, &self.vars, &self.worker_id, maker);
        self.ready.send_replace(Some(Arc::new(attempts.await?)));
        watch_orphan(&self.context, self.vars.get("RUNPOD_WEBHOOK_PING"));
        Ok(())
    }
}

/// Opens the output server and puts together what does attempts.
async fn assemble(
    worker: &WorkerSection,
    context: &Context,
    vars: &BTreeMap<String, String>,
    worker_id: &str,
    maker: Arc<dyn Maker>,
) -> anyhow::Result<Attempts> {
    let registry = Registry::default();
    let (host, wished) = (&worker.http_host, worker.http_port);
    let listener = context
        .ports
        .listen("http", &format!("{host}:{wished}"))
        .await?;
    let port = listener.local_addr()?.port();
    let direct = exposed::address(vars, [wished, port]);
    let certificate = match direct {
        Some(_) => Some(Certificate::make()?),
        None => None,
    };
    let mut addresses = Vec::new();
    if let (Some(direct), Some(certificate)) = (direct, &certificate) {
        addresses.push(Address {
            url: format!("https://{direct}"),
            tls_sha256: Some(certificate.sha256().to_owned()),
        });
    }
    let proxy = worker.proxy_url.trim_end_matches('/');
    let url = proxy.replace("{pod}", worker_id);
    addresses.push(Address {
        url: url.replace("{port}", &port.to_string()),
        tls_sha256: None,
    });
    let routes = outputs::router(registry.clone());
    Door::new(routes, certificate, door::Limits::default()).serve(&context.tasks, listener);
    let boot = context.instance.clone();
    let roots = Roots::new(&worker.work_dir, &worker.output_dir, &boot);
    Ok(Attempts {
        maker,
        registry,
        roots: roots.context("make worker.work_dir and worker.output_dir")?,
        client: OwnClient::new()?,
        boot,
        addresses,
        tasks: context.tasks.clone(),
    })
}

/// Finds the encoder while the first job is on its way.
fn try_encoder(context: &Context, studio: Arc<Studio>) {
    let check = context.health.register("encoder");
    drop(context.tasks.spawn("encoder trial", async move {
        match studio.encoder().await {
            Ok(_) => check.set_ready(true, ""),
            Err(error) => {
                tracing::error!(%error, "no H.264 encoder works here: no item can be rendered");
                check.set_ready(false, "no H.264 encoder works here");
            }
        }
    }));
}

fn watch_orphan(context: &Context, ping: Option<&String>) {
    let url = ping.and_then(|ping| url::Url::parse(ping).ok());
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
