//! The broker: what a service holds of RabbitMQ.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use photofinish_runtime::{Health, Tasks};
use tokio::sync::mpsc;

use crate::connection::{Link, Plan, Supervisor};
use crate::consumer::{Consumption, Loop};
use crate::driver::Driver;
use crate::error::{GetError, SettingsError};
use crate::held::{Getter, Held, SharedGetter};
use crate::incoming::Incoming;
use crate::listening::{Heard, Listener, Listening};
use crate::names::WorkQueue;
use crate::parked::ParkedIn;
use crate::publisher::Publisher;
use crate::settings::Settings;
use crate::settle::{Disposition, Settler};
use crate::signals::Signals;
use crate::telemetry;
use crate::topology::Topology;
use crate::waiting::{Waiting, label, now_ms};

/// Two supervised connections, one to publish and one to consume. Clones share them.
#[derive(Debug, Clone)]
pub struct Broker {
    publisher: Publisher,
    publish: Link,
    consume: Link,
    plan: Arc<Plan>,
    tasks: Tasks,
    getter: SharedGetter,
    waiting: Arc<Waiting>,
}

impl Broker {
    /// Starts the supervisors and returns at once: connections come up behind it, the topology is declared, and
    /// whatever is published meanwhile waits. Readiness is in `health`, as `broker_publish` and `broker_consume`.
    /// `name` is shown in RabbitMQ's list of connections. Call it inside of the Tokio runtime.
    pub fn connect(
        settings: &Settings,
        name: &str,
        tasks: &Tasks,
        health: &Health,
    ) -> Result<Self, SettingsError> {
        let checked = settings.check()?;
        let user: Arc<str> = checked.user.as_str().into();
        let timeout = checked.publish_timeout;
        let plan = Arc::new(Plan {
            checked,
            topology: Topology::new(settings.lanes),
            declare: settings.declare,
            name: name.to_owned(),
        });
        let shutdown = tasks.shutdown();
        let supervise = |role, check| {
            let check = health.register(check);
            let (supervisor, link) = Supervisor::new(role, plan.clone(), check);
            let finished = supervisor.finished.clone();
            tasks.spawn_background("broker.connection", supervisor.run());
            (link, finished)
        };
        let (publish, publish_finished) = supervise("publish", "broker_publish");
        let (consume, consume_finished) = supervise("consume", "broker_consume");
        let (sender, requests) = mpsc::channel(settings.in_flight_max);
        let publisher = Publisher::new(sender, timeout, user);
        let driver = Driver {
            link: publish.clone(),
            plan: plan.clone(),
            requests,
            in_flight_max: settings.in_flight_max,
            shutdown: shutdown.clone(),
            backlog: VecDeque::new(),
        };
        tasks.spawn_background("broker.publisher", async move {
            driver.run().await;
            publish_finished.cancel();
        });
        let end = shutdown.clone();
        tasks.spawn_background("broker.end", async move {
            end.drained().await;
            consume_finished.cancel();
        });
        let getter = Arc::new(Getter {
            link: consume.clone(),
            tasks: tasks.clone(),
            channels: Default::default(),
            next: AtomicUsize::new(0),
        });
        Ok(Self {
            publisher,
            publish,
            consume,
            plan,
            tasks: tasks.clone(),
            getter,
            waiting: Arc::default(),
        })
    }

    /// The handle for publishing.
    pub fn publisher(&self) -> Publisher {
        self.publisher.clone()
    }

    /// Whether both connections are up and not blocked.
    pub fn ready(&self) -> bool {
        self.publish.is_up() && self.consume.is_up()
    }

    /// Waits until both connections are up. Never ends when the broker never comes: give it a deadline.
    pub async fn wait_ready(&self) {
        let (mut publish, mut consume) = (self.publish.clone(), self.consume.clone());
        while !self.ready() {
            if publish.up().await.is_none() || consume.up().await.is_none() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Works from a queue until shutdown: at most `concurrency` messages (1 to 2,000) are in hand at once. The
    /// handler sees neither what is delivered too often nor what still has to wait.
    pub fn consume<H, F>(&self, queue: WorkQueue, concurrency: u16, handler: H) -> Consumption
    where
        H: Fn(Incoming) -> F + Send + Sync + 'static,
        F: Future<Output = Disposition> + Send + 'static,
    {
        let (consumption, paused) = Consumption::new();
        let consumer = Loop {
            queue,
            concurrency: concurrency.clamp(1, 2000),
            handler: Arc::new(handler),
            settler: self.settler(queue),
            link: self.consume.clone(),
            plan: self.plan.clone(),
            tasks: self.tasks.clone(),
            paused,
        };
        self.tasks.spawn_critical("broker.consumer", consumer.run());
        self.watch_depth(queue);
        consumption
    }

    /// Receives a copy of every signal until shutdown; beyond `bound` waiting ones the oldest is dropped. They are
    /// handled one after the other, so the handler should be quick.
    pub fn consume_signals<H, F>(&self, bound: u32, handler: H)
    where
        H: Fn(Incoming) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let signals = Signals {
            bound,
            handler,
            link: self.consume.clone(),
            shutdown: self.tasks.shutdown().clone(),
            user: self.publisher.user().into(),
        };
        self.tasks.spawn_critical("broker.signals", signals.run());
    }

    /// Listens to the events of those tenants that are wanted, until shutdown, as [`Self::consume_signals`] does to
    /// signals. Nothing is sent here while no tenant is wanted.
    pub fn listen<H, F>(&self, bound: u32, handler: H) -> Listening
    where
        H: Fn(Heard) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let (listening, wanted) = Listening::new();
        let listener = Listener {
            bound,
            handler,
            wanted,
            link: self.consume.clone(),
            shutdown: self.tasks.shutdown().clone(),
        };
        self.tasks.spawn_critical("broker.listener", listener.run());
        listening
    }

    /// Asks for one message and does not wait for one to come. `None`: the queue is empty.
    pub async fn get(&self, queue: WorkQueue) -> Result<Option<Held>, GetError> {
        self.getter.get(self.settler(queue)).await
    }

    /// How many messages wait in a queue, those in hand not counted.
    pub async fn depth(&self, queue: WorkQueue) -> Result<u32, GetError> {
        let depth = self.getter.depth(queue.to_string()).await?;
        let (all, oldest) = self.waiting.looked(queue, depth, now_ms());
        telemetry::waiting(label(queue), all, oldest);
        Ok(depth)
    }

    pub(crate) async fn parked_depth(&self, place: ParkedIn) -> Result<u32, GetError> {
        self.getter.depth(place.queue()).await
    }

    pub(crate) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// The connection for consuming, if it is there now.
    pub(crate) fn consuming(&self) -> Option<Arc<lapin::Connection>> {
        self.consume.now()
    }

    fn settler(&self, queue: WorkQueue) -> Settler {
        let shutdown = self.tasks.shutdown().clone();
        Settler {
            queue,
            publisher: self.publisher.clone(),
            shutdown,
            waiting: self.waiting.clone(),
        }
    }
}
