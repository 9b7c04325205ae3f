//! The endpoints there are: what each was told to be, and its queue, workers and limits.
//!
//! A change of image, arguments, environment, ports, command or hardware makes a new version: idle workers of an
//! older one are replaced at once, busy ones after their job. Everything else holds at once.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::limits::RateLimits;
use crate::scaler::{self, StartPause};
use crate::site::Site;
use crate::state::{Effect, Rules, Signal, State, WorkerSnapshot};
use crate::workers::{self, Handle};
use crate::{Config, webhook};

/// When workers are started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scaler {
    /// A job that has waited so long calls for a worker.
    QueueDelay(Duration),
    /// One worker for so many jobs queued or in progress, rounded up.
    RequestCount(u32),
}

/// What an endpoint is told to be.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointSpec {
    /// Its id, the second part of every path.
    pub id: String,
    /// For people.
    pub name: String,
    /// Only shown: workers are processes of `command`. They see it as `RUNPOD_SIM_IMAGE`.
    pub image: String,
    /// Container arguments, only shown: workers see them as `RUNPOD_SIM_ARGS`.
    pub args: String,
    /// Program and arguments of a worker; empty: none is started.
    pub command: Vec<String>,
    /// Environment of workers; weaker than what RunPod sets and than `--worker-env`.
    pub env: Vec<(String, String)>,
    /// `8000/http`, `8765/tcp`.
    pub ports: Vec<String>,
    /// Workers that are always up.
    pub workers_min: usize,
    /// Most workers at once.
    pub workers_max: usize,
    /// A worker without a job for this long is stopped or, with FlashBoot, frozen.
    pub idle_timeout: Duration,
    /// When workers are started.
    pub scaler: Scaler,
    /// Of jobs that bring none.
    pub execution_timeout: Duration,
    /// Idle workers are frozen, to be woken rather than started.
    pub flashboot: bool,
    /// Raised by every change that workers have to be replaced for; the first is 1.
    pub version: u32,
    /// What only a management API shows (disk, GPUs, …).
    pub other: Map<String, Value>,
}

impl EndpointSpec {
    /// As the flags say.
    pub fn from_config(config: &Config, id: &str, command: Vec<String>) -> Self {
        Self {
            id: id.to_owned(),
            name: id.to_owned(),
            image: "runpod-sim/worker:1".to_owned(),
            args: String::new(),
            command,
            env: Vec::new(),
            ports: vec!["8000/http".to_owned(), "8000/tcp".to_owned()],
            workers_min: config.workers_min,
            workers_max: config.workers_max.max(config.workers_min),
            idle_timeout: config.idle_timeout,
            scaler: config.scaler(),
            execution_timeout: config.execution_timeout,
            flashboot: config.flashboot,
            version: 1,
            other: Map::new(),
        }
    }

    fn needs_new_workers(&self, before: &Self) -> bool {
        self.image != before.image
            || self.args != before.args
            || self.env != before.env
            || self.command != before.command
            || self.ports != before.ports
            || self.other != before.other
    }
}

/// One version of an endpoint.
#[derive(Debug, Clone)]
pub struct Release {
    /// When it was made, Unix milliseconds in virtual time.
    pub created_at_ms: u64,
    /// What it was.
    pub spec: EndpointSpec,
}

/// One endpoint at work.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) site: Arc<Site>,
    pub(crate) id: String,
    spec: Mutex<EndpointSpec>,
    releases: Mutex<Vec<Release>>,
    state: Mutex<State>,
    /// Wakes long polls.
    pub(crate) wake: Notify,
    pub(crate) limits: RateLimits,
    pub(crate) starts: Mutex<StartPause>,
    processes: Mutex<HashMap<String, Handle>>,
    /// It is no more.
    pub(crate) removed: CancellationToken,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Endpoint {
    fn new(site: &Arc<Site>, spec: EndpointSpec) -> Self {
        let rules = rules(&site.config, &spec, site.clock.factor());
        let release = Release {
            created_at_ms: site.clock.wall_ms(site.clock.now()),
            spec: spec.clone(),
        };
        Self {
            site: Arc::clone(site),
            id: spec.id.clone(),
            releases: Mutex::new(vec![release]),
            state: Mutex::new(State::new(rules, spec.version)),
            wake: Notify::new(),
            limits: RateLimits::new(site.config.rate_limits, site.config.requests_per_worker),
            starts: Mutex::default(),
            processes: Mutex::default(),
            removed: site.closing.child_token(),
            spec: Mutex::new(spec),
        }
    }

    /// What it is told to be.
    pub(crate) fn spec(&self) -> EndpointSpec {
        lock(&self.spec).clone()
    }

    /// Its versions, oldest first.
    pub(crate) fn releases(&self) -> Vec<Release> {
        lock(&self.releases).clone()
    }

    /// Its workers.
    pub(crate) fn workers(&self) -> Vec<WorkerSnapshot> {
        lock(&self.state).snapshots()
    }

    /// Reads or notes something that no long poll waits for.
    pub(crate) fn look<T>(self: &Arc<Self>, f: impl FnOnce(&mut State, Instant) -> T) -> T {
        let (answer, effects) = {
            let mut state = lock(&self.state);
            let answer = f(&mut state, self.site.clock.now());
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
        lock(&self.processes)
    }

    fn perform(self: &Arc<Self>, effect: Effect) {
        match effect {
            Effect::CallWebhook { url, body } => {
                let call = webhook::call(Arc::clone(self), url, body);
                self.site.tracker.spawn(call);
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
            Effect::SignalWorker {
                worker,
                pid,
                signal,
                after,
            } => self.signal(worker, pid, signal, after),
        }
    }

    /// Signals a worker's process, unless it has ended by then: its number may be another's.
    pub(crate) fn signal(
        self: &Arc<Self>,
        worker: String,
        pid: u32,
        signal: Signal,
        after: Duration,
    ) {
        if after.is_zero() {
            return self.signal_now(&worker, pid, signal);
        }
        let endpoint = Arc::clone(self);
        self.site.tracker.spawn(async move {
            tokio::time::sleep(after).await;
            endpoint.signal_now(&worker, pid, signal);
        });
    }

    fn signal_now(self: &Arc<Self>, worker: &str, pid: u32, signal: Signal) {
        let found = self.look(|state, _| state.worker(worker).and_then(|w| w.pid));
        if found == Some(pid) {
            drop(workers::send_signal(pid, signal));
        }
    }

    fn change_spec(self: &Arc<Self>, f: impl FnOnce(&mut EndpointSpec)) -> EndpointSpec {
        let mut spec = lock(&self.spec);
        let before = spec.clone();
        f(&mut spec);
        (spec.id, spec.version) = (before.id.clone(), before.version);
        if spec.needs_new_workers(&before) {
            spec.version += 1;
            let created_at_ms = self.site.clock.wall_ms(self.site.clock.now());
            let release = Release {
                created_at_ms,
                spec: spec.clone(),
            };
            lock(&self.releases).push(release);
        }
        // Under the same lock: of two changes at once the later one stays.
        self.change(|state, _| {
            state.set_version(spec.version);
            state.rules_mut().execution_timeout = spec.execution_timeout;
        });
        spec.clone()
    }

    /// The clock goes at another pace.
    pub(crate) fn set_pace(self: &Arc<Self>, factor: f64) {
        self.change(|state, now| state.set_pace(factor, now));
    }

    fn remove(self: &Arc<Self>) {
        self.change(State::cancel_all);
        // Its workers' too, and those of a start that is just under way.
        self.removed.cancel();
    }
}

/// All endpoints, by id.
#[derive(Debug)]
pub(crate) struct Endpoints {
    site: Arc<Site>,
    all: Mutex<BTreeMap<String, Arc<Endpoint>>>,
}

impl Endpoints {
    pub(crate) fn new(site: Arc<Site>) -> Self {
        let all = Mutex::default();
        Self { site, all }
    }

    /// One of them.
    pub(crate) fn endpoint(&self, id: &str) -> Option<Arc<Endpoint>> {
        lock(&self.all).get(id).cloned()
    }

    /// All of them, by id.
    pub(crate) fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        lock(&self.all).values().cloned().collect()
    }

    /// The one that has this worker.
    pub(crate) fn of_worker(&self, worker: &str) -> Option<Arc<Endpoint>> {
        let mut all = self.endpoints().into_iter();
        all.find(|endpoint| endpoint.look(|state, _| state.worker(worker).is_some()))
    }

    /// Begins an endpoint; `None`: there is one with this id.
    pub(crate) fn create_endpoint(&self, spec: EndpointSpec) -> Option<Arc<Endpoint>> {
        let mut all = lock(&self.all);
        if all.contains_key(&spec.id) {
            return None;
        }
        let endpoint = Arc::new(Endpoint::new(&self.site, spec));
        all.insert(endpoint.id.clone(), Arc::clone(&endpoint));
        self.site.tracker.spawn(scaler::run(Arc::clone(&endpoint)));
        Some(endpoint)
    }

    /// Changes what an endpoint is told to be; `None`: there is none with this id. Its id cannot
    /// be changed, and its version changes by itself.
    pub(crate) fn change_endpoint(
        &self,
        id: &str,
        f: impl FnOnce(&mut EndpointSpec),
    ) -> Option<EndpointSpec> {
        Some(self.endpoint(id)?.change_spec(f))
    }

    /// Cancels all jobs, stops the workers, and forgets it; says whether it was there.
    pub(crate) fn delete_endpoint(&self, id: &str) -> bool {
        let removed = lock(&self.all).remove(id);
        if let Some(endpoint) = &removed {
            endpoint.remove();
        }
        removed.is_some()
    }
}

fn rules(config: &Config, spec: &EndpointSpec, pace: f64) -> Rules {
    Rules {
        execution_timeout: spec.execution_timeout,
        execution_lag: config.execution_lag,
        ttl: config.ttl,
        retention: config.retention,
        retention_sync: config.retention_sync,
        ping_loss: config.ping_loss,
        ping_interval: config.ping_interval,
        stop_react: config.stop_react,
        init_timeout: config.init_timeout,
        denial: config.denial,
        requeue_delay: config.requeue_delay,
        retries_max: config.retries_max,
        pace,
    }
}
