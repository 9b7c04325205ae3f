//! The heartbeat, on a thread and a runtime of its own: rendering must never starve it. For the
//! same reason this thread watches for a thaw.

use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::calls::{Calls, client_builder, describe};
use super::registry::Registry;
use super::thaw::ThawWatch;
use super::{StartError, WorkerEnv};

#[derive(Debug)]
pub(super) struct Pinger {
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

/// What the thread works with.
#[derive(Debug)]
pub(super) struct Heart {
    pub(super) env: WorkerEnv,
    pub(super) registry: Registry,
    /// Whose connections are renewed after a thaw.
    pub(super) calls: Arc<Calls>,
    pub(super) thaws: ThawWatch,
}

impl Pinger {
    /// Starts the thread; the first ping goes out at once. `meanwhile` is done while the thread
    /// sets itself up.
    pub(super) fn start(
        mut heart: Heart,
        meanwhile: impl FnOnce() -> Result<(), StartError>,
    ) -> Result<Self, StartError> {
        let stop = CancellationToken::new();
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
                match client(&heart.env) {
                    Ok(http) => {
                        drop(report.send(Ok(())));
                        heart.ping_until_stopped(http, &token).await;
                    }
                    Err(error) => drop(report.send(Err(error))),
                }
            });
        };
        let thread = std::thread::Builder::new()
            .name("runpod-ping".to_owned())
            .spawn(body)
            .map_err(StartError::PingThread)?;
        let pinger = Self {
            stop,
            thread: Some(thread),
        };
        meanwhile()?;
        let ended = || StartError::PingThread(std::io::Error::other("the thread ended at once"));
        started.recv().map_err(|_| ended())??;
        Ok(pinger)
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
    client_builder(env)?
        .timeout((env.ping_interval * 2).min(Duration::from_secs(20)))
        .build()
        .map_err(StartError::Http)
}

impl Heart {
    async fn ping_until_stopped(&mut self, mut http: reqwest::Client, stop: &CancellationToken) {
        let mut failing = 0_u32;
        loop {
            let pinged = ping(&http, self.env.ping_url(&self.registry.ids()));
            let fault = tokio::select! {
                () = stop.cancelled() => return,
                gap = self.thaws.thawed() => {
                    self.thaw(gap, &mut http);
                    continue;
                }
                fault = pinged => fault,
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
                self.env.ping_interval / 4
            } else {
                self.env.ping_interval
            };
            tokio::select! {
                () = stop.cancelled() => return,
                gap = self.thaws.thawed() => self.thaw(gap, &mut http),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// After a thaw the sockets are dead and do not know it: all are given up at once.
    fn thaw(&self, gap: Duration, http: &mut reqwest::Client) {
        metrics::counter!("photofinish_runpod_thaws_total").increment(1);
        tracing::warn!(
            gap_s = gap.as_secs_f64(),
            "the worker stood still: connections renewed"
        );
        self.calls.renew();
        match client(&self.env) {
            Ok(fresh) => *http = fresh,
            Err(error) => tracing::error!(%error, "the ping's connection could not be renewed"),
        }
    }
}

/// One ping; the fault, if any.
async fn ping(http: &reqwest::Client, url: String) -> Option<String> {
    match http.get(url).send().await {
        Ok(response) if response.status().is_success() => None,
        Ok(response) => Some(format!("status {}", response.status().as_u16())),
        Err(error) => Some(describe(error)),
    }
}
