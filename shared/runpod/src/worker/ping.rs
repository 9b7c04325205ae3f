//! The heartbeat, on a thread and a runtime of its own: rendering must never starve it.

use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use secrecy::ExposeSecret;
use tokio_util::sync::CancellationToken;

use super::registry::Registry;
use super::{StartError, WorkerEnv};

#[derive(Debug)]
pub(super) struct Pinger {
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Pinger {
    /// Starts the thread; the first ping goes out at once.
    pub(super) fn start(env: &WorkerEnv, registry: Registry) -> Result<Self, StartError> {
        let stop = CancellationToken::new();
        let env = env.clone();
        let token = stop.clone();
        let (report, started) = mpsc::sync_channel(1);
        let body = move || {
            let runtime = match tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
            {
                Ok(runtime) => runtime,
                Err(error) => return drop(report.send(Err(StartError::PingThread(error)))),
            };
            runtime.block_on(async {
                match client(&env) {
                    Ok(http) => {
                        drop(report.send(Ok(())));
                        ping_until_stopped(&http, &env, &registry, &token).await;
                    }
                    Err(error) => drop(report.send(Err(error))),
                }
            });
        };
        let thread = std::thread::Builder::new()
            .name("runpod-ping".to_owned())
            .spawn(body)
            .map_err(StartError::PingThread)?;
        let ended = || StartError::PingThread(std::io::Error::other("the thread ended at once"));
        started.recv().map_err(|_| ended())??;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }

    /// Ends the pings and the thread.
    pub(super) fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the ping thread panicked");
        }
    }
}

impl Drop for Pinger {
    fn drop(&mut self) {
        self.end();
    }
}

fn client(env: &WorkerEnv) -> Result<reqwest::Client, StartError> {
    super::calls::client_builder(env)?
        .timeout((env.ping_interval * 2).min(Duration::from_secs(20)))
        .build()
        .map_err(StartError::Http)
}

async fn ping_until_stopped(
    http: &reqwest::Client,
    env: &WorkerEnv,
    registry: &Registry,
    stop: &CancellationToken,
) {
    let mut failing = 0_u32;
    loop {
        let ping = http.get(env.ping_url(&registry.ids())).send();
        let answer = tokio::select! {
            answer = ping => answer,
            () = stop.cancelled() => return,
        };
        let fault = match answer {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(format!("status {}", response.status().as_u16())),
            Err(error) => Some(error.without_url().to_string()),
        };
        match fault {
            None => failing = 0,
            Some(fault) => {
                failing = failing.saturating_add(1);
                metrics::counter!("photofinish_runpod_ping_failures_total").increment(1);
                tracing::warn!(failing, fault, "ping failed");
            }
        }
        // A failed ping is repeated soon: RunPod's threshold is not known.
        let pause = if failing > 0 && failing < 4 {
            env.ping_interval / 4
        } else {
            env.ping_interval
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// The raw worker key as a header value.
pub(super) fn authorization(env: &WorkerEnv) -> Result<reqwest::header::HeaderValue, StartError> {
    let mut value = reqwest::header::HeaderValue::try_from(env.api_key.expose_secret())
        .map_err(|_| StartError::KeyNotAHeader)?;
    value.set_sensitive(true);
    Ok(value)
}
