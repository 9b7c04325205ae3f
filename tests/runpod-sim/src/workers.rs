//! Worker processes: started with RunPod's environment, ended by SIGTERM and, after a grace,
//! SIGKILL. Their files go with them.

use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, PoisonError};

use rustix::process::{Pid, kill_process, kill_process_group};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::endpoints::Endpoint;
use crate::state::{Signal, StartMishap};
use crate::{process, tcp};

/// How to end a worker.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    /// SIGTERM, then SIGKILL; also when the endpoint is removed.
    pub(crate) stop: CancellationToken,
    /// SIGKILL.
    pub(crate) kill: CancellationToken,
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
pub(crate) fn start(endpoint: &Arc<Endpoint>) {
    let id: String = uuid::Uuid::new_v4()
        .simple()
        .to_string()
        .chars()
        .take(14)
        .collect();
    let handle = Handle {
        stop: endpoint.removed.child_token(),
        kill: CancellationToken::new(),
    };
    endpoint.processes().insert(id.clone(), handle.clone());
    let mishap = endpoint.change(|state, now| {
        state.worker_starting(id.clone(), now);
        state.start_mishap()
    });
    let life = live(Arc::clone(endpoint), id, handle, mishap);
    endpoint.site.lives.spawn(life);
}

/// A worker's life: cold start, process, end.
async fn live(endpoint: Arc<Endpoint>, id: String, handle: Handle, mishap: StartMishap) {
    let site = Arc::clone(&endpoint.site);
    let files = site.worker_root.join(&id);
    let how = tokio::select! {
        () = site.clock.sleep(site.config.cold_start + mishap.late) => {
            if mishap.crashes {
                "crashed at its start, as asked".to_owned()
            } else {
                run_process(&endpoint, &id, &files, &handle).await
            }
        }
        () = handle.stop.cancelled() => "stopped before it was up".to_owned(),
        () = handle.kill.cancelled() => "killed before it was up".to_owned(),
    };
    drop(tokio::fs::remove_dir_all(&files).await);
    // One that is killed without having called took too long to start: no better than a crash.
    let was_asked = handle.stop.is_cancelled();
    let called = endpoint.change(|state, now| {
        let called = state.worker_gone(&id, &how, now);
        if !called && !was_asked {
            state.note_crash();
        }
        called
    });
    endpoint.processes().remove(&id);
    let starts = endpoint.starts.lock();
    let mut starts = starts.unwrap_or_else(PoisonError::into_inner);
    starts.ended(called || was_asked, site.clock.now());
    tracing::info!(endpoint = endpoint.id, worker = id, how, "worker ended");
}

async fn run_process(endpoint: &Arc<Endpoint>, id: &str, files: &Path, handle: &Handle) -> String {
    let started = process::spawn(&endpoint.site, &endpoint.spec(), id, files);
    let (mut child, ports) = match started {
        Ok(started) => started,
        Err(error) => {
            tracing::error!(%error, worker = id, "worker could not be started");
            return format!("could not be started: {error}");
        }
    };
    let Some(pid) = child.id() else {
        return "ended at once".to_owned();
    };
    let numbers = (ports.http, ports.main);
    endpoint.change(|state, now| state.worker_started(id, pid, numbers, now));
    tracing::info!(worker = id, pid, port = ports.http, "worker started");
    let gone = CancellationToken::new();
    for (listener, port) in ports.tcp {
        let forward = tcp::forward(Arc::clone(endpoint), listener, port, gone.clone());
        endpoint.site.tracker.spawn(forward);
    }
    let how = wait(endpoint, id, &mut child, pid, handle).await;
    gone.cancel();
    // What it left behind in its group (encoders) goes with it, as in a container.
    drop(send_signal(pid, Signal::Kill));
    how
}

async fn wait(
    endpoint: &Arc<Endpoint>,
    id: &str,
    child: &mut Child,
    pid: u32,
    handle: &Handle,
) -> String {
    tokio::select! {
        ended = child.wait() => return describe("ended by itself", ended),
        () = handle.kill.cancelled() => {}
        () = handle.stop.cancelled() => {
            endpoint.change(|state, _| state.worker_stopping(id));
            drop(send_signal(pid, Signal::Term));
            // A frozen one would never hear of it.
            drop(send_signal(pid, Signal::Cont));
            tokio::select! {
                ended = child.wait() => return describe("stopped", ended),
                () = tokio::time::sleep(endpoint.site.config.stop_grace) => {}
                () = handle.kill.cancelled() => {}
            }
        }
    }
    endpoint.change(|state, _| state.worker_stopping(id));
    drop(send_signal(pid, Signal::Kill));
    describe("killed", child.wait().await)
}

fn describe(what: &str, ended: std::io::Result<std::process::ExitStatus>) -> String {
    match ended {
        Ok(status) => format!("{what}: {status}"),
        Err(error) => format!("{what}: {error}"),
    }
}
