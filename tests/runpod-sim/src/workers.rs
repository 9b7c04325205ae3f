//! Worker processes: started with RunPod's environment, ended by SIGTERM and, after a grace,
//! SIGKILL. Their files go with them.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use rustix::process::{Pid, kill_process, kill_process_group};
use serde::Deserialize;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::server::{Shared, proxy_template};

/// Names of our own environment that a worker must not inherit: it runs in a container.
const NOT_INHERITED: [&str; 4] = ["PHOTOFINISH_", "RUNPOD_", "AWS_", "CARGO"];

/// How to end a worker.
#[derive(Debug, Clone, Default)]
pub(crate) struct Handle {
    /// SIGTERM, then SIGKILL.
    pub(crate) stop: CancellationToken,
    /// SIGKILL.
    pub(crate) kill: CancellationToken,
}

/// Signals of the control API.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Signal {
    /// To the process and its children.
    #[default]
    Kill,
    /// To the process.
    Term,
    /// To the process and its children: freeze.
    Stop,
    /// To the process and its children: thaw.
    Cont,
}

/// Sends a signal to a worker that we started (each leads a process group of its own).
pub(crate) fn send_signal(pid: u32, signal: Signal) -> std::io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| std::io::Error::other("no such process"))?;
    match signal {
        Signal::Term => kill_process(pid, rustix::process::Signal::TERM)?,
        Signal::Kill => kill_process_group(pid, rustix::process::Signal::KILL)?,
        Signal::Stop => kill_process_group(pid, rustix::process::Signal::STOP)?,
        Signal::Cont => kill_process_group(pid, rustix::process::Signal::CONT)?,
    }
    Ok(())
}

/// `setpriv --pdeathsig` ends a worker when we are killed, without unsafe code of ours.
pub(crate) async fn has_setpriv() -> bool {
    let mut probe = Command::new("setpriv");
    probe.args(["--pdeathsig", "KILL", "--", "true"]);
    probe
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    probe.status().await.is_ok_and(|status| status.success())
}

/// Enters a worker and begins its life.
pub(crate) fn start(shared: &Arc<Shared>) {
    let id: String = uuid::Uuid::new_v4()
        .simple()
        .to_string()
        .chars()
        .take(14)
        .collect();
    let handle = Handle::default();
    shared.processes().insert(id.clone(), handle.clone());
    shared.change(|state, now| state.worker_starting(id.clone(), now));
    shared.tracker.spawn(live(Arc::clone(shared), id, handle));
}

/// A worker's life: cold start, process, end.
async fn live(shared: Arc<Shared>, id: String, handle: Handle) {
    let files = shared.worker_root.join(&id);
    let how = tokio::select! {
        () = tokio::time::sleep(shared.config.cold_start) => {
            run_process(&shared, &id, &files, &handle).await
        }
        () = handle.stop.cancelled() => "stopped before it was up".to_owned(),
        () = handle.kill.cancelled() => "killed before it was up".to_owned(),
    };
    drop(tokio::fs::remove_dir_all(&files).await);
    let was_asked = handle.stop.is_cancelled() || handle.kill.is_cancelled();
    let called = shared.change(|state, now| state.worker_gone(&id, &how, now));
    shared.processes().remove(&id);
    let mut starts = shared.starts.lock().unwrap_or_else(PoisonError::into_inner);
    starts.ended(called || was_asked, Instant::now());
    tracing::info!(worker = id, how, "worker ended");
}

async fn run_process(shared: &Arc<Shared>, id: &str, files: &Path, handle: &Handle) -> String {
    let (mut child, port) = match spawn(shared, id, files) {
        Ok(started) => started,
        Err(error) => {
            tracing::error!(%error, worker = id, "worker could not be started");
            return format!("could not be started: {error}");
        }
    };
    let Some(pid) = child.id() else {
        return "ended at once".to_owned();
    };
    shared.change(|state, now| state.worker_started(id, pid, port, now));
    tracing::info!(worker = id, pid, port, "worker started");
    let how = wait(shared, id, &mut child, pid, handle).await;
    // What it left behind in its group (encoders) goes with it, as in a container.
    drop(send_signal(pid, Signal::Kill));
    how
}

async fn wait(
    shared: &Arc<Shared>,
    id: &str,
    child: &mut Child,
    pid: u32,
    handle: &Handle,
) -> String {
    tokio::select! {
        ended = child.wait() => return describe("ended by itself", ended),
        () = handle.kill.cancelled() => {}
        () = handle.stop.cancelled() => {
            shared.change(|state, _| state.worker_stopping(id));
            drop(send_signal(pid, Signal::Term));
            tokio::select! {
                ended = child.wait() => return describe("stopped", ended),
                () = tokio::time::sleep(shared.config.stop_grace) => {}
                () = handle.kill.cancelled() => {}
            }
        }
    }
    shared.change(|state, _| state.worker_stopping(id));
    drop(send_signal(pid, Signal::Kill));
    describe("killed", child.wait().await)
}

fn describe(what: &str, ended: std::io::Result<std::process::ExitStatus>) -> String {
    match ended {
        Ok(status) => format!("{what}: {status}"),
        Err(error) => format!("{what}: {error}"),
    }
}

fn spawn(shared: &Shared, id: &str, files: &Path) -> std::io::Result<(Child, u16)> {
    let (work, output) = (files.join("work"), files.join("output"));
    std::fs::create_dir_all(&work)?;
    std::fs::create_dir_all(&output)?;
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port();
    let mut command = if shared.has_setpriv {
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .args(&shared.command);
        command
    } else {
        let mut command = Command::new(&shared.command[0]);
        command.args(&shared.command[1..]);
        command
    };
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if NOT_INHERITED
            .iter()
            .any(|prefix| name_text.starts_with(prefix))
        {
            command.env_remove(&name);
        }
    }
    command.envs(environment(shared, id, port));
    command.env("WORK_DIR", work).env("OUTPUT_DIR", output);
    command.envs(
        shared
            .config
            .worker_env
            .iter()
            .map(|(name, value)| (name, value)),
    );
    command
        .stdin(Stdio::null())
        .process_group(0)
        .kill_on_drop(true);
    if let Some(dir) = &shared.config.worker_log_dir {
        let path = dir.join(format!("{id}.log"));
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)?;
        command.stdout(log.try_clone()?).stderr(log);
    }
    Ok((command.spawn()?, port))
}

/// What RunPod sets.
fn environment(shared: &Shared, id: &str, port: u16) -> Vec<(&'static str, String)> {
    let api = format!("{}/v2/{}", shared.base, shared.config.endpoint);
    let gpu = "gpu=NVIDIA+GeForce+RTX+4090";
    vec![
        (
            "RUNPOD_WEBHOOK_GET_JOB",
            format!("{api}/job-take/$ID?{gpu}"),
        ),
        (
            "RUNPOD_WEBHOOK_POST_OUTPUT",
            format!("{api}/job-done/$RUNPOD_POD_ID/$ID?{gpu}"),
        ),
        (
            "RUNPOD_WEBHOOK_POST_STREAM",
            format!("{api}/job-stream/$RUNPOD_POD_ID/$ID?{gpu}"),
        ),
        (
            "RUNPOD_WEBHOOK_PING",
            format!("{api}/ping/$RUNPOD_POD_ID?{gpu}"),
        ),
        (
            "RUNPOD_PING_INTERVAL",
            shared.config.ping_interval.as_millis().to_string(),
        ),
        ("RUNPOD_AI_API_KEY", shared.config.worker_key.clone()),
        ("RUNPOD_POD_ID", id.to_owned()),
        ("RUNPOD_POD_HOSTNAME", format!("{id}-sim")),
        ("RUNPOD_ENDPOINT_ID", shared.config.endpoint.clone()),
        ("RUNPOD_GPU_NAME", "NVIDIA+GeForce+RTX+4090".to_owned()),
        ("RUNPOD_SKIP_AUTO_SYSTEM_CHECKS", "true".to_owned()),
        ("RUNPOD_SKIP_GPU_CHECK", "true".to_owned()),
        ("HTTP_PORT", port.to_string()),
        ("WORKER_PROXY_URL", proxy_template(&shared.base)),
    ]
}
