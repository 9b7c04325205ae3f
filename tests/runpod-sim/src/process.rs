//! One worker's process: its environment, as RunPod sets it, its directories and its ports.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Stdio;

use tokio::process::{Child, Command};

use crate::config::Switch;
use crate::endpoints::EndpointSpec;
use crate::server::proxy_template;
use crate::site::Site;
use crate::tcp;

/// Names of our own environment that a worker must not inherit: it runs in a container.
const NOT_INHERITED: [&str; 4] = ["PHOTOFINISH_", "RUNPOD_", "AWS_", "CARGO"];

/// The port that every worker has inside its container: the outside names this one, since it
/// knows a worker's id but not which port it was given on this machine.
pub(crate) const CONTAINER_PORT: u16 = 8000;

/// The GPU that workers are told they have.
const GPU: &str = "NVIDIA+GeForce+RTX+4090";

/// The ports of a worker.
#[derive(Debug)]
pub(crate) struct Ports {
    /// Its `HTTP_PORT`.
    pub(crate) http: u16,
    /// The one of ours that leads there.
    pub(crate) main: Option<u16>,
    /// Ports of ours and where they lead.
    pub(crate) tcp: Vec<(std::net::TcpListener, u16)>,
    /// What workers are told of them.
    told: Vec<(String, u16)>,
}

impl Ports {
    /// A free port for the worker, and one of ours for each `…/tcp` port of the endpoint.
    fn open(switch: Switch, spec: &EndpointSpec) -> std::io::Result<Self> {
        let http = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        let mut ports = Self {
            http,
            main: None,
            tcp: Vec::new(),
            told: Vec::new(),
        };
        if switch == Switch::Off {
            return Ok(ports);
        }
        let wanted = spec.ports.iter();
        let wanted = wanted.filter_map(|port| port.strip_suffix("/tcp")?.parse().ok());
        for inside in wanted {
            if inside == CONTAINER_PORT {
                let outside = ports.lead_to(http)?;
                ports.main = Some(outside);
                ports.tell(CONTAINER_PORT, outside);
                ports.tell(http, outside);
            } else {
                let outside = ports.lead_to(inside)?;
                ports.tell(inside, outside);
            }
        }
        Ok(ports)
    }

    fn lead_to(&mut self, inside: u16) -> std::io::Result<u16> {
        let (listener, outside) = tcp::listen()?;
        self.tcp.push((listener, inside));
        Ok(outside)
    }

    fn tell(&mut self, inside: u16, outside: u16) {
        self.told
            .push((format!("RUNPOD_TCP_PORT_{inside}"), outside));
    }
}

/// Starts a worker.
pub(crate) fn spawn(
    site: &Site,
    spec: &EndpointSpec,
    id: &str,
    files: &Path,
) -> std::io::Result<(Child, Ports)> {
    let (work, output) = (files.join("work"), files.join("output"));
    std::fs::create_dir_all(&work)?;
    std::fs::create_dir_all(&output)?;
    let ports = Ports::open(site.config.tcp_ports, spec)?;
    let mut command = program(site, &spec.command)?;
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if NOT_INHERITED
            .iter()
            .any(|prefix| name_text.starts_with(prefix))
        {
            command.env_remove(&name);
        }
    }
    command.envs(spec.env.iter().map(|(name, value)| (name, value)));
    command.envs(environment(site, spec, id, &ports));
    command.env("WORK_DIR", work).env("OUTPUT_DIR", output);
    command.envs(
        site.config
            .worker_env
            .iter()
            .map(|(name, value)| (name, value)),
    );
    command
        .stdin(Stdio::null())
        .process_group(0)
        .kill_on_drop(true);
    if let Some(dir) = &site.config.worker_log_dir {
        let path = dir.join(format!("{id}.log"));
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)?;
        command.stdout(log.try_clone()?).stderr(log);
    }
    Ok((command.spawn()?, ports))
}

fn program(site: &Site, words: &[String]) -> std::io::Result<Command> {
    if site.has_setpriv {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).args(words);
        return Ok(command);
    }
    let (program, arguments) = words
        .split_first()
        .ok_or_else(|| std::io::Error::other("no command"))?;
    let mut command = Command::new(program);
    command.args(arguments);
    Ok(command)
}

/// What RunPod sets.
fn environment(site: &Site, spec: &EndpointSpec, id: &str, ports: &Ports) -> Vec<(String, String)> {
    let api = format!("{}/v2/{}", site.base, spec.id);
    let ping_ms = site.config.ping_interval.as_millis();
    let fixed = [
        (
            "RUNPOD_WEBHOOK_GET_JOB",
            format!("{api}/job-take/$ID?gpu={GPU}"),
        ),
        (
            "RUNPOD_WEBHOOK_POST_OUTPUT",
            format!("{api}/job-done/$RUNPOD_POD_ID/$ID?gpu={GPU}"),
        ),
        (
            "RUNPOD_WEBHOOK_POST_STREAM",
            format!("{api}/job-stream/$RUNPOD_POD_ID/$ID?gpu={GPU}"),
        ),
        (
            "RUNPOD_WEBHOOK_PING",
            format!("{api}/ping/$RUNPOD_POD_ID?gpu={GPU}"),
        ),
        ("RUNPOD_PING_INTERVAL", ping_ms.to_string()),
        ("RUNPOD_AI_API_KEY", site.config.worker_key.clone()),
        ("RUNPOD_POD_ID", id.to_owned()),
        ("RUNPOD_POD_HOSTNAME", format!("{id}-sim")),
        ("RUNPOD_ENDPOINT_ID", spec.id.clone()),
        ("RUNPOD_GPU_NAME", GPU.to_owned()),
        ("RUNPOD_GPU_COUNT", "1".to_owned()),
        ("RUNPOD_SKIP_AUTO_SYSTEM_CHECKS", "true".to_owned()),
        ("RUNPOD_SKIP_GPU_CHECK", "true".to_owned()),
        ("RUNPOD_SIM_IMAGE", spec.image.clone()),
        ("RUNPOD_SIM_ARGS", spec.args.clone()),
        ("RUNPOD_SIM_VERSION", spec.version.to_string()),
        ("HTTP_PORT", ports.http.to_string()),
        ("WORKER_PROXY_URL", proxy_template(&site.base)),
    ];
    let fixed = fixed.map(|(name, value)| (name.to_owned(), value));
    let mut all: Vec<(String, String)> = fixed.into();
    if !ports.told.is_empty() {
        all.push(("RUNPOD_PUBLIC_IP".to_owned(), tcp::PUBLIC_IP.to_string()));
        let told = ports.told.iter();
        all.extend(told.map(|(name, outside)| (name.clone(), outside.to_string())));
    }
    all
}
