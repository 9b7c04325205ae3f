//! The emulator as a whole: what its parts share, its start and its end.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{any, get, post};
use axum::serve::ListenerExt as _;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::endpoints::{Endpoint, EndpointSpec, Endpoints, Release};
use crate::faults::{self, Faults};
use crate::site::Site;
use crate::state::WorkerSnapshot;
use crate::{Config, auth, client_api, control, management, proxy, worker_api, workers};

/// Longest wait for what should end at once.
const END_MAX: Duration = Duration::from_secs(2);

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
    pub(crate) site: Arc<Site>,
    pub(crate) endpoints: Endpoints,
    first: String,
}

impl Shared {
    /// The endpoint of `--endpoint`, while it is there.
    pub(crate) fn first(&self) -> Option<Arc<Endpoint>> {
        self.endpoints.endpoint(&self.first)
    }

    /// From here on time passes so much faster than real.
    pub(crate) fn set_factor(&self, factor: f64) {
        // What is forgiven grows before time runs faster, and shrinks after it runs slower.
        let paces = |factor: f64| {
            for endpoint in self.endpoints.endpoints() {
                endpoint.set_pace(factor);
            }
        };
        paces(factor.max(self.site.clock.factor()));
        self.site.clock.set_factor(factor);
        paces(factor);
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
        let site = Arc::new(Site {
            clock: Clock::new(config.clock_factor),
            base: format!("http://{}", reachable(addr)),
            command,
            has_setpriv,
            worker_root,
            http: http_client(config.proxy_timeout).map_err(StartError::Http)?,
            faults: Faults::default(),
            closing: CancellationToken::new(),
            closed: CancellationToken::new(),
            lives: TaskTracker::new(),
            tracker: TaskTracker::new(),
            config,
        });
        let shared = Arc::new(Shared {
            endpoints: Endpoints::new(Arc::clone(&site)),
            first: site.config.endpoint.clone(),
            site,
        });
        let site = &shared.site;
        if let Some(path) = &site.config.ports_file {
            write_ports(path, addr).map_err(|source| StartError::Write(path.clone(), source))?;
        }
        // From here on nothing fails: workers would be left without anybody to end them.
        create_endpoints(&shared);
        let listener = listener.tap_io(|tcp| drop(tcp.set_nodelay(true)));
        let serving = axum::serve(listener, router(Arc::clone(&shared)))
            .with_graceful_shutdown(site.closed.clone().cancelled_owned());
        site.tracker.spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "server ended");
            }
        });
        tracing::info!(%addr, endpoint = site.config.endpoint, "emulator listens");
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
        format!("{}/v2", self.shared.site.base)
    }

    /// `http://…/proxy/{pod}-{port}`, with these placeholders.
    pub fn proxy_template(&self) -> String {
        proxy_template(&self.shared.site.base)
    }

    /// Begins an endpoint; false: there is one with this id.
    pub fn create_endpoint(&self, spec: EndpointSpec) -> bool {
        self.shared.endpoints.create_endpoint(spec).is_some()
    }

    /// What an endpoint is told to be.
    pub fn endpoint_spec(&self, id: &str) -> Option<EndpointSpec> {
        let endpoint = self.shared.endpoints.endpoint(id)?;
        Some(endpoint.spec())
    }

    /// Changes what an endpoint is told to be; see [`endpoints`](crate::endpoints).
    pub fn change_endpoint(
        &self,
        id: &str,
        f: impl FnOnce(&mut EndpointSpec),
    ) -> Option<EndpointSpec> {
        self.shared.endpoints.change_endpoint(id, f)
    }

    /// Cancels all jobs of an endpoint, stops its workers, forgets it; says whether it was there.
    pub fn delete_endpoint(&self, id: &str) -> bool {
        self.shared.endpoints.delete_endpoint(id)
    }

    /// The workers of an endpoint.
    pub fn workers(&self, id: &str) -> Vec<WorkerSnapshot> {
        let endpoint = self.shared.endpoints.endpoint(id);
        endpoint
            .map(|endpoint| endpoint.workers())
            .unwrap_or_default()
    }

    /// The versions of an endpoint, oldest first.
    pub fn releases(&self, id: &str) -> Vec<Release> {
        let endpoint = self.shared.endpoints.endpoint(id);
        endpoint
            .map(|endpoint| endpoint.releases())
            .unwrap_or_default()
    }

    /// Ends the workers (SIGTERM, after the grace SIGKILL), then everything else.
    pub async fn stop(self) {
        let site = &self.shared.site;
        site.closing.cancel();
        for endpoint in self.shared.endpoints.endpoints() {
            endpoint.wake.notify_waiters();
        }
        // They are served until they have ended: what they finish in the grace can be posted.
        site.lives.close();
        let limit = site.config.stop_grace + END_MAX;
        let lives = tokio::time::timeout(limit, site.lives.wait()).await;
        site.closed.cancel();
        site.tracker.close();
        // Connections of clients that stay away could be open for ever.
        let rest = tokio::time::timeout(END_MAX, site.tracker.wait()).await;
        if lives.is_err() || rest.is_err() {
            let left = site.lives.len() + site.tracker.len();
            tracing::warn!(left, "ended with tasks left");
        }
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        self.shared.site.closing.cancel();
        self.shared.site.closed.cancel();
        for endpoint in self.shared.endpoints.endpoints() {
            for handle in endpoint.processes().values() {
                handle.kill.cancel();
            }
        }
    }
}

/// Those that the flags name.
fn create_endpoints(shared: &Shared) {
    let config = &shared.site.config;
    for id in std::iter::once(&config.endpoint).chain(&config.endpoint_also) {
        let spec = EndpointSpec::from_config(config, id, shared.site.command.clone());
        if let Some(endpoint) = shared.endpoints.create_endpoint(spec) {
            endpoint.look(|state, _| state.set_throttled(config.workers_throttled));
        } else {
            tracing::warn!(endpoint = id, "named twice");
        }
    }
}

pub(crate) fn proxy_template(base: &str) -> String {
    format!("{base}/proxy/{{pod}}-{{port}}")
}

fn router(shared: Arc<Shared>) -> Router {
    use axum::middleware::from_fn_with_state as layer;
    let clients = client_api::routes().layer(layer(Arc::clone(&shared), auth::clients));
    let workers = worker_routes().layer(layer(Arc::clone(&shared), auth::workers));
    let proxy = Router::new()
        .route("/proxy/{target}", any(proxy::forward))
        .route("/proxy/{target}/", any(proxy::forward))
        .route("/proxy/{target}/{*path}", any(proxy::forward));
    // Merged here, a management API suffers the faults of the operation `management`.
    clients
        .merge(workers)
        .merge(proxy)
        .merge(management::routes(&shared))
        .layer(layer(Arc::clone(&shared), faults::intercept))
        .merge(control::routes())
        .with_state(shared)
}

fn worker_routes() -> Router<Arc<Shared>> {
    Router::new()
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
