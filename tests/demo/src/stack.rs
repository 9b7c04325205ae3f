//! Starting and stopping: everything under one directory, one command at a time in it.
//!
//! `{dir}/logs` has a log of each process, `{dir}/pids` what runs, `{dir}/servers` RabbitMQ and Redis, `{dir}/s3` the
//! bucket, `{dir}/wiring.json` every address and key.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use photofinish_kit::{Process, ProcessSpec, wait_for};
use serde_json::{Value, json};

use crate::pids::{self, PidFile};
use crate::say::say;
use crate::wiring::{RunPod, SERVICES, Servers, Setting, Wiring};

/// How long all services together have to become ready.
pub const READY_DEADLINE: Duration = Duration::from_mins(1);

const PORTS_DEADLINE: Duration = Duration::from_secs(30);
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
const LOG_TAIL_LINES: usize = 20;
/// The order of stopping is this backwards: services, then the emulator, then the S3 server.
const ORDER_S3: u32 = 1;
const ORDER_RUNPOD: u32 = 2;
const ORDER_SERVICES: u32 = 3;

/// How a stack is to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where everything lies.
    pub dir: PathBuf,
    /// Whether it goes on when this process ends.
    pub lasting: bool,
    /// The tenant to make.
    pub tenant: String,
    /// RabbitMQ and Redis that run already; none: private ones are started under `dir`.
    pub servers: Option<Servers>,
    /// What differs from the services' defaults.
    pub settings: Vec<Setting>,
    /// The emulator and its workers.
    pub runpod: RunPod,
}

/// Everything, running.
#[derive(Debug)]
pub struct Stack {
    options: Options,
    running: BTreeMap<String, Process>,
    wiring: Option<Wiring>,
    http: reqwest::Client,
    /// The directory of the services' programs, of another version.
    programs: Option<PathBuf>,
    _lock: File,
}

impl Stack {
    /// Takes the directory; nothing is started yet. An error if another command works there.
    pub fn claim(options: Options) -> anyhow::Result<Self> {
        let dir = &options.dir;
        std::fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        let dir = dir.canonicalize().context("find the directory")?;
        let lock = File::create(dir.join("lock")).context("create the lock")?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                anyhow::bail!(
                    "another command works in {}: wait for its end",
                    dir.display()
                )
            }
            Err(TryLockError::Error(error)) => return Err(error).context("lock the directory"),
        }
        let options = Options { dir, ..options };
        let http = http_client()?;
        Ok(Self {
            options,
            running: BTreeMap::new(),
            wiring: None,
            http,
            programs: None,
            _lock: lock,
        })
    }

    /// Starts the services from a directory of their programs, such as those of another version; none: from where all
    /// programs are.
    pub fn take_programs(&mut self, dir: Option<PathBuf>) {
        self.programs = dir;
    }

    /// Where everything lies.
    pub fn dir(&self) -> &Path {
        &self.options.dir
    }

    /// Every address and key; an error before [`Stack::start`].
    pub fn wiring(&self) -> anyhow::Result<&Wiring> {
        self.wiring.as_ref().context("the stack was not started")
    }

    /// An HTTP client for loopback.
    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// What an earlier start in this directory left running, if every process of it lives.
    pub fn survivor(&self) -> Option<Wiring> {
        let files = pids::all(self.dir());
        let text = std::fs::read(self.dir().join("wiring.json")).ok()?;
        let complete = files.len() == SERVICES.len() + 2 && files.iter().all(PidFile::alive);
        if complete {
            serde_json::from_slice(&text).ok()
        } else {
            None
        }
    }

    /// Takes something that runs already and was not started here: [`Stack::stop`] leaves it alone.
    pub fn adopt(&mut self, wiring: Wiring, http: reqwest::Client) {
        self.wiring = Some(wiring);
        self.http = http;
    }

    /// Stops and throws away whatever an earlier start left, and starts everything anew.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        if let Err(error) = self.stop().await {
            say(format!("left by an earlier start: {error:#}"));
        }
        self.clean()?;
        let servers = match self.options.servers.clone() {
            Some(servers) => servers,
            None => self.start_servers().await?,
        };
        let mut wiring = Wiring::new(servers, &self.options.tenant);
        let outcome = self.start_processes(&mut wiring).await;
        self.wiring = Some(wiring);
        outcome?;
        self.wait_ready().await?;
        let client = crate::up::make_tenant(&self.http, self.wiring()?).await?;
        let mut wiring = self.wiring()?.clone();
        wiring.client = client;
        let text = serde_json::to_vec_pretty(&wiring).context("write down the wiring")?;
        std::fs::write(self.dir().join("wiring.json"), text).context("write wiring.json")?;
        self.wiring = Some(wiring);
        Ok(())
    }

    async fn start_servers(&self) -> anyhow::Result<Servers> {
        let said = self.servers_script("start").await?;
        let value = |name: &str| {
            let line = said
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            line.map(str::to_owned)
                .with_context(|| format!("servers.sh did not say {name}"))
        };
        Ok(Servers {
            amqp_url: format!("{}/%2f", value("PHOTOFINISH_TEST_AMQP")?),
            rabbitmq_api: value("PHOTOFINISH_TEST_RABBITMQ_API")?,
            vhost: "/".to_owned(),
            redis_url: value("PHOTOFINISH_TEST_REDIS")?,
            redis_prefix: "photofinish:".to_owned(),
        })
    }

    async fn start_processes(&mut self, wiring: &mut Wiring) -> anyhow::Result<()> {
        let dir = self.options.dir.clone();
        let s3 = wiring.s3_server(&dir, &self.options.settings)?;
        let s3 = self.start_one(ORDER_S3, s3).await?;
        wiring.s3 = url_of(&s3, "http")?;
        let sim = self
            .start_one(ORDER_RUNPOD, wiring.runpod_sim(&dir, &self.options.runpod)?)
            .await?;
        wiring.runpod = url_of(&sim, "http")?;
        for name in SERVICES {
            let settings = self.options.settings.clone();
            let mut spec = wiring.service(name, &dir, &settings)?;
            if let Some(programs) = &self.programs {
                spec.program = programs.join(format!("photofinish-{name}"));
            }
            let ports = self.start_one(ORDER_SERVICES, spec).await?;
            wiring
                .admin
                .insert(name.to_owned(), url_of(&ports, "admin")?);
            if name == "ingest" {
                wiring.ingest = url_of(&ports, "http")?;
            }
        }
        Ok(())
    }

    async fn start_one(
        &mut self,
        order: u32,
        mut spec: ProcessSpec,
    ) -> anyhow::Result<BTreeMap<String, std::net::SocketAddr>> {
        spec.detached = self.options.lasting;
        let name = spec.name.clone();
        let process = Process::start(spec)?;
        // Known before it is waited for: a start that is broken off stops it all the same.
        PidFile::write(self.dir(), order, &name, process.pid())
            .with_context(|| process.log_tail())?;
        let process = self.running.entry(name).insert_entry(process).into_mut();
        process.ports(PORTS_DEADLINE).await
    }

    /// Waits until every `/readyz` answers 200; else says which does not, why, and the end of its log.
    pub async fn wait_ready(&self) -> anyhow::Result<()> {
        let wiring = self.wiring()?;
        let waited = wait_for(READY_DEADLINE, "every /readyz answers 200", || async {
            let dead = self
                .running
                .values()
                .any(|process| process.ended().is_some());
            (dead || unready(&self.http, wiring).await.is_empty()).then_some(dead)
        })
        .await;
        if let Ok(false) = waited {
            return Ok(());
        }
        let mut lines = Vec::new();
        for (name, why) in unready(&self.http, wiring).await {
            lines.push(format!("{name} is not ready: {why}"));
            lines.push(log_tail(self.dir(), &format!("photofinish-{name}")));
        }
        for (name, process) in &self.running {
            if let Some(status) = process.ended() {
                lines.push(format!("{name} ended: {status}"));
                lines.push(log_tail(self.dir(), name));
            }
        }
        anyhow::bail!("{}", lines.join("\n"))
    }

    /// Ends one service with SIGTERM.
    pub async fn end_service(&mut self, name: &str) -> anyhow::Result<()> {
        let process = self.service(name)?;
        process.terminate(Duration::from_secs(40)).await.map(drop)
    }

    /// kill -9 of one service.
    pub async fn kill_service(&mut self, name: &str) -> anyhow::Result<()> {
        self.service(name)?.kill().await
    }

    /// Starts a service again that has ended, and waits until it is ready.
    pub async fn restart_service(&mut self, name: &'static str) -> anyhow::Result<()> {
        let program = self.service(name)?.spec().program.clone();
        self.restart_service_as(name, &program).await
    }

    /// The same from another program of it.
    pub async fn restart_service_as(
        &mut self,
        name: &'static str,
        program: &Path,
    ) -> anyhow::Result<()> {
        let mut wiring = self.wiring()?.clone();
        let mut spec = self.service(name)?.spec().clone();
        spec.program = program.to_path_buf();
        if name == "ingest" {
            // Workers and clients know its address.
            let address = wiring.ingest.trim_start_matches("http://");
            spec = spec.env("PHOTOFINISH__HTTP__LISTEN", address);
        }
        let ports = self.start_one(ORDER_SERVICES, spec).await?;
        wiring
            .admin
            .insert(name.to_owned(), url_of(&ports, "admin")?);
        self.wiring = Some(wiring);
        self.wait_ready().await
    }

    /// Starts one more process of a service beside the one that runs, from another program of it, and waits until it is
    /// ready. Gives the older one, which is the caller's to end from now on. Not for ingest, whose address is known.
    pub async fn join_service(
        &mut self,
        name: &'static str,
        program: &Path,
    ) -> anyhow::Result<Process> {
        let before = self.running.remove(&format!("photofinish-{name}"));
        let before = before.with_context(|| format!("{name} was never started"))?;
        let mut wiring = self.wiring()?.clone();
        let mut spec = before.spec().clone();
        spec.program = program.to_path_buf();
        let ports = self.start_one(ORDER_SERVICES, spec).await?;
        wiring
            .admin
            .insert(name.to_owned(), url_of(&ports, "admin")?);
        self.wiring = Some(wiring);
        self.wait_ready().await?;
        Ok(before)
    }

    /// The process of a service.
    pub fn service(&self, name: &str) -> anyhow::Result<&Process> {
        let process = self.running.get(&format!("photofinish-{name}"));
        process.with_context(|| format!("{name} was never started"))
    }

    /// Every process of ours with its id.
    pub fn pids(&self) -> Vec<(String, u32)> {
        pids::all(self.dir())
            .into_iter()
            .map(|file| (file.name, file.pid))
            .collect()
    }

    /// Stops everything that was ever started in the directory and still runs; an error names what had to be killed.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        let killed = pids::stop_all(self.dir()).await;
        self.running.clear();
        if self.options.servers.is_none() && self.dir().join("servers").exists() {
            self.servers_script("stop").await?;
        }
        anyhow::ensure!(
            killed.is_empty(),
            "did not end after SIGTERM and were killed: {} (logs: {})",
            killed.join(", "),
            self.dir().join("logs").display()
        );
        Ok(())
    }

    /// Throws away everything but the lock.
    fn clean(&self) -> anyhow::Result<()> {
        for entry in std::fs::read_dir(self.dir()).context("read the directory")? {
            let path = entry?.path();
            if path.ends_with("lock") {
                continue;
            }
            let removed = if path.is_dir() {
                std::fs::remove_dir_all(&path)
            } else {
                std::fs::remove_file(&path)
            };
            removed.with_context(|| format!("remove {}", path.display()))?;
        }
        Ok(())
    }

    async fn servers_script(&self, command: &str) -> anyhow::Result<String> {
        let script = photofinish_kit::root().join("scripts/servers.sh");
        let ran = tokio::process::Command::new(&script)
            .arg(command)
            .arg(self.dir().join("servers"))
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            // A Ctrl-C is for us alone: the script goes on, and `stop` waits for its lock.
            .process_group(0)
            .output()
            .await
            .with_context(|| format!("run {}", script.display()))?;
        let said = String::from_utf8_lossy(&ran.stdout).into_owned();
        anyhow::ensure!(ran.status.success(), "servers.sh {command} failed:\n{said}");
        Ok(said)
    }
}

/// An HTTP client for loopback: no proxy, no redirects, a limit on time.
pub fn http_client() -> anyhow::Result<reqwest::Client> {
    http_builder().build().context("build the HTTP client")
}

/// What [`http_client`] is built of.
pub fn http_builder() -> reqwest::ClientBuilder {
    photofinish_kit::install_crypto();
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(CALL_TIMEOUT)
}

/// The services whose `/readyz` does not answer 200, each with what it says.
pub async fn unready(http: &reqwest::Client, wiring: &Wiring) -> Vec<(String, String)> {
    let mut left = Vec::new();
    for (name, admin) in &wiring.admin {
        let why = match http.get(format!("{admin}/readyz")).send().await {
            Ok(answer) if answer.status().is_success() => continue,
            Ok(answer) => answer.text().await.unwrap_or_default(),
            Err(error) => format!("{:#}", anyhow::Error::from(error)),
        };
        left.push((name.clone(), why));
    }
    left
}

/// One call of RabbitMQ's management API; the answer's JSON, or null.
pub async fn rabbitmq(
    http: &reqwest::Client,
    servers: &Servers,
    method: reqwest::Method,
    path: &str,
    body: Value,
) -> anyhow::Result<Value> {
    let mut call = http.request(method.clone(), format!("{}{path}", servers.rabbitmq_api));
    if !body.is_null() {
        call = call.json(&body);
    }
    let answer = call
        .send()
        .await
        .with_context(|| format!("{method} {path} at RabbitMQ"))?;
    let status = answer.status();
    let text = answer.text().await.unwrap_or_default();
    anyhow::ensure!(
        status.is_success(),
        "{method} {path} at RabbitMQ: {status}: {text}"
    );
    Ok(serde_json::from_str(&text).unwrap_or(json!(null)))
}

fn url_of(ports: &BTreeMap<String, std::net::SocketAddr>, name: &str) -> anyhow::Result<String> {
    let addr = ports
        .get(name)
        .with_context(|| format!("no {name} in a ports file"))?;
    Ok(format!("http://{addr}"))
}

fn log_tail(dir: &Path, name: &str) -> String {
    let path = dir.join("logs").join(format!("{name}.log"));
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n");
    format!("the end of {}:\n{tail}", path.display())
}
