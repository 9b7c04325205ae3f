//! The emulator as a whole: what its parts share, its start and its end.

use std::collections::HashMap;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::{any, get, post};
use axum::serve::ListenerExt as _;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::control::Faults;
use crate::scaler::{self, StartPause};
use crate::state::{Effect, Rules, State};
use crate::workers::{self, Handle};
use crate::{Config, client_api, control, proxy, webhook, worker_api};

/// Why the emulator did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken or not ours.
    #[error("listen on {0}")]
    Listen(SocketAddr, #[source] std::io::Error),
    /// `--worker` has an open quote or nothing in it.
    #[error("--worker is not a command: {0}")]
    Command(String),
    /// A directory or the ports file could not be written.
    #[error("write {0}")]
    Write(PathBuf, #[source] std::io::Error),
    /// The HTTP client of proxy and webhooks.
    #[error("set up the HTTP client")]
    Http(#[source] reqwest::Error),
}

/// What all parts share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    /// `http://127.0.0.1:8100`, as workers on this machine reach us.
    pub(crate) base: String,
    /// Program and arguments of a worker; empty: none is started.
    pub(crate) command: Vec<String>,
    /// Whether `setpriv` can tie workers to our life even if we are killed.
    pub(crate) has_setpriv: bool,
    pub(crate) worker_root: PathBuf,
    pub(crate) http: reqwest::Client,
    pub(crate) faults: Faults,
    pub(crate) starts: Mutex<StartPause>,
    pub(crate) closing: CancellationToken,
    pub(crate) tracker: TaskTracker,
    state: Mutex<State>,
    /// Wakes long polls.
    pub(crate) wake: Notify,
    processes: Mutex<HashMap<String, Handle>>,
}

impl Shared {
    /// Reads or notes something that no long poll waits for.
    pub(crate) fn look<T>(self: &Arc<Self>, f: impl FnOnce(&mut State, Instant) -> T) -> T {
        let (answer, effects) = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let answer = f(&mut state, Instant::now());
            (answer, state.take_effects())
        };
        for effect in effects {
            self.perform(effect);
        }
        answer
    }

    /// Changes something and wakes the long polls.
    pub(crate) fn change<T>(self: &Arc<Self>, f: impl FnOnce(&mut State, Instant) -> T) -> T {
        let answer = self.look(f);
        self.wake.notify_waiters();
        answer
    }

    pub(crate) fn processes(&self) -> MutexGuard<'_, HashMap<String, Handle>> {
        self.processes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn perform(self: &Arc<Self>, effect: Effect) {
        match effect {
            Effect::CallWebhook { url, body } => {
                self.tracker
                    .spawn(webhook::call(Arc::clone(self), url, body));
            }
            Effect::StopWorker { worker } => {
                if let Some(handle) = self.processes().get(&worker) {
                    handle.stop.cancel();
                }
            }
            Effect::KillWorker { worker } => {
                if let Some(handle) = self.processes().get(&worker) {
                    handle.kill.cancel();
                }
            }
        }
    }
}

/// A running emulator. Dropping it kills its workers; [`Sim::stop`] ends them politely.
#[derive(Debug)]
pub struct Sim {
    shared: Arc<Shared>,
    addr: SocketAddr,
    /// Removed with everything in it at the end.
    _worker_dir: Option<tempfile::TempDir>,
}

impl Sim {
    /// Listens, writes the ports file and starts scaling.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        drop(rustls::crypto::ring::default_provider().install_default());
        let command = match &config.worker {
            None => Vec::new(),
            Some(text) => shlex::split(text)
                .filter(|words| !words.is_empty())
                .ok_or_else(|| StartError::Command(text.clone()))?,
        };
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(|source| StartError::Listen(config.listen, source))?;
        let addr = listener
            .local_addr()
            .map_err(|source| StartError::Listen(config.listen, source))?;
        let (worker_root, worker_dir) = worker_root(&config)?;
        let has_setpriv = workers::has_setpriv().await;
        if !has_setpriv {
            tracing::warn!("setpriv is not there: workers outlive an emulator that is killed");
        }
        let shared = Arc::new(Shared {
            base: format!("http://{}", reachable(addr)),
            command,
            has_setpriv,
            worker_root,
            http: http_client(config.proxy_timeout).map_err(StartError::Http)?,
            faults: Faults::default(),
            starts: Mutex::default(),
            closing: CancellationToken::new(),
            tracker: TaskTracker::new(),
            state: Mutex::new(State::new(rules(&config))),
            wake: Notify::new(),
            processes: Mutex::default(),
            config,
        });
        if let Some(path) = &shared.config.ports_file {
            write_ports(path, addr).map_err(|source| StartError::Write(path.clone(), source))?;
        }
        let listener = listener.tap_io(|tcp| drop(tcp.set_nodelay(true)));
        let serving = axum::serve(listener, router(Arc::clone(&shared)))
            .with_graceful_shutdown(shared.closing.clone().cancelled_owned());
        shared.tracker.spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "server ended");
            }
        });
        shared.tracker.spawn(scaler::run(Arc::clone(&shared)));
        tracing::info!(%addr, endpoint = shared.config.endpoint, "emulator listens");
        Ok(Self {
            shared,
            addr,
            _worker_dir: worker_dir,
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://…/v2`, for clients.
    pub fn base_url(&self) -> String {
        format!("{}/v2", self.shared.base)
    }

    /// `http://…/proxy/{pod}-{port}`, with these placeholders.
    pub fn proxy_template(&self) -> String {
        proxy_template(&self.shared.base)
    }

    /// Ends the workers (SIGTERM, after the grace SIGKILL), then everything else.
    pub async fn stop(self) {
        self.shared.closing.cancel();
        self.shared.wake.notify_waiters();
        for handle in self.shared.processes().values() {
            handle.stop.cancel();
        }
        self.shared.tracker.close();
        // Connections of clients that stay away could be open for ever.
        let limit = self.shared.config.stop_grace + Duration::from_secs(2);
        if tokio::time::timeout(limit, self.shared.tracker.wait())
            .await
            .is_err()
        {
            tracing::warn!(left = self.shared.tracker.len(), "ended with tasks left");
        }
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        self.shared.closing.cancel();
        for handle in self.shared.processes().values() {
            handle.kill.cancel();
        }
    }
}

pub(crate) fn proxy_template(base: &str) -> String {
    format!("{base}/proxy/{{pod}}-{{port}}")
}

fn router(shared: Arc<Shared>) -> Router {
    let client = Router::new()
        .route("/v2/{endpoint}/run", post(client_api::run))
        .route("/v2/{endpoint}/status/{job}", any(client_api::status))
        .route("/v2/{endpoint}/stream/{job}", any(client_api::stream))
        .route("/v2/{endpoint}/cancel/{job}", any(client_api::cancel))
        .route("/v2/{endpoint}/purge-queue", post(client_api::purge_queue))
        .route("/v2/{endpoint}/health", get(client_api::health))
        .layer(axum::middleware::from_fn_with_state(
            Arc::clone(&shared),
            client_api::authorize,
        ));
    let worker = Router::new()
        .route("/v2/{endpoint}/job-take/{worker}", get(worker_api::take))
        .route(
            "/v2/{endpoint}/job-take-batch/{worker}",
            get(worker_api::take_batch),
        )
        .route("/v2/{endpoint}/job-stop/{worker}", get(worker_api::stop))
        .route("/v2/{endpoint}/ping/{worker}", get(worker_api::ping))
        .route(
            "/v2/{endpoint}/job-done/{worker}/{job}",
            post(worker_api::done),
        )
        .route(
            "/v2/{endpoint}/job-stream/{worker}/{job}",
            post(worker_api::stream),
        )
        .layer(axum::middleware::from_fn_with_state(
            Arc::clone(&shared),
            worker_api::authorize,
        ));
    let proxy = Router::new()
        .route("/proxy/{target}", any(proxy::forward))
        .route("/proxy/{target}/", any(proxy::forward))
        .route("/proxy/{target}/{*path}", any(proxy::forward));
    client
        .merge(worker)
        .merge(proxy)
        .layer(axum::middleware::from_fn_with_state(
            Arc::clone(&shared),
            control::intercept,
        ))
        .route("/_sim/state", get(control::state))
        .route("/_sim/workers/{worker}/kill", post(control::kill))
        .route(
            "/_sim/faults",
            post(control::add_fault).delete(control::clear_faults),
        )
        .with_state(shared)
}

fn rules(config: &Config) -> Rules {
    Rules {
        execution_timeout: config.execution_timeout,
        ttl: config.ttl,
        retention: config.retention,
        ping_loss: config.ping_loss,
        stop_react: config.stop_react,
        init_timeout: config.init_timeout,
        retries_max: config.retries_max,
    }
}

fn http_client(read_timeout: Duration) -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(5))
        .read_timeout(read_timeout)
        .pool_idle_timeout(Duration::from_secs(2))
        .tcp_nodelay(true)
        .build()
}

/// The address as processes on this machine reach it.
fn reachable(addr: SocketAddr) -> SocketAddr {
    if addr.ip().is_unspecified() {
        SocketAddr::from((Ipv4Addr::LOCALHOST, addr.port()))
    } else {
        addr
    }
}

fn worker_root(config: &Config) -> Result<(PathBuf, Option<tempfile::TempDir>), StartError> {
    for dir in [&config.worker_dir, &config.worker_log_dir]
        .into_iter()
        .flatten()
    {
        std::fs::create_dir_all(dir).map_err(|e| StartError::Write(dir.clone(), e))?;
    }
    if let Some(dir) = &config.worker_dir {
        return Ok((dir.clone(), None));
    }
    let dir = tempfile::Builder::new()
        .prefix("runpod-sim-")
        .tempdir()
        .map_err(|source| StartError::Write(std::env::temp_dir(), source))?;
    Ok((dir.path().to_owned(), Some(dir)))
}

/// Written beside and renamed, so that a reader never sees half of it.
fn write_ports(path: &Path, addr: SocketAddr) -> std::io::Result<()> {
    let parent = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let mut file = tempfile::NamedTempFile::new_in(parent.unwrap_or_else(|| Path::new(".")))?;
    file.write_all(json!({"http": addr.to_string()}).to_string().as_bytes())?;
    file.persist(path)?;
    Ok(())
}
