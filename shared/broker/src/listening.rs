//! Listening to `photofinish.events`: a wake-up for whoever shows a job's events to a client at this moment.
//!
//! The nouns: a tenant is *wanted* while somebody listens to its events; only then is its key bound to this process's
//! own queue, so that a process without listeners is sent nothing.
//!
//! Guarantee: none beyond best effort, as with signals. What is lost is found by looking at the job. When a tenant's
//! key is bound, now or again after an outage, that is told, so that what came before can be looked for at once.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::{FutureExt as _, StreamExt as _};
use lapin::options::{BasicAckOptions, QueueBindOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Connection, Consumer};
use photofinish_runtime::{Shutdown, backoff, clock};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::connection::{Link, chain, while_alive};
use crate::error::TopologyError;
use crate::settings::{REBUILD_MAX, REBUILD_MIN};
use crate::settle::{panic_message, written};
use crate::signals::{consume_own, own_queue};
use crate::{telemetry, topology};

const WHAT: &str = "listener";

/// What a listener is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// From now on the tenant's events come.
    Bound {
        /// The tenant.
        tenant: String,
    },
    /// An event was published; its body as it was.
    Event {
        /// The body.
        body: Vec<u8>,
    },
}

/// Says whose events are wanted. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Listening {
    wanted: Arc<watch::Sender<BTreeSet<String>>>,
}

impl Listening {
    pub(crate) fn new() -> (Self, watch::Receiver<BTreeSet<String>>) {
        let (sender, receiver) = watch::channel(BTreeSet::new());
        let wanted = Arc::new(sender);
        (Self { wanted }, receiver)
    }

    /// The tenant's events are wanted; again is harmless.
    pub fn want(&self, tenant: &str) {
        self.wanted
            .send_if_modified(|wanted| wanted.insert(tenant.to_owned()));
    }

    /// They are not wanted any more.
    pub fn forget(&self, tenant: &str) {
        self.wanted.send_if_modified(|wanted| wanted.remove(tenant));
    }
}

pub(crate) struct Listener<H> {
    /// Events kept while the handler is busy; the oldest is dropped beyond.
    pub(crate) bound: u32,
    pub(crate) handler: H,
    pub(crate) wanted: watch::Receiver<BTreeSet<String>>,
    pub(crate) link: Link,
    pub(crate) shutdown: Shutdown,
}

/// The queue of this process on one connection.
struct Ear {
    channel: Channel,
    queue: ShortString,
    consumer: Consumer,
    bound: BTreeSet<String>,
}

impl<H, F> Listener<H>
where
    H: Fn(Heard) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    pub(crate) async fn run(mut self) {
        let shutdown = self.shutdown.clone();
        let mut failures = 0;
        while !shutdown.stopping() {
            let connection = tokio::select! {
                connection = self.link.up() => connection,
                () = shutdown.wait() => break,
            };
            let Some(connection) = connection else { break };
            let began = Instant::now();
            if let Err(error) = self.listen(&connection).await {
                tracing::warn!(error = chain(&error), "no listener to events");
            }
            failures = if began.elapsed() > REBUILD_MAX {
                1
            } else {
                failures + 1
            };
            let wait = backoff::delay(failures - 1, REBUILD_MIN, REBUILD_MAX, clock::jitter());
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = shutdown.wait() => {}
            }
        }
    }

    async fn listen(&mut self, connection: &Arc<Connection>) -> Result<(), TopologyError> {
        let silent = || {
            Err(TopologyError::NoAnswer {
                name: WHAT.to_owned(),
            })
        };
        let opened = while_alive(connection, open(connection, self.bound)).await;
        let mut ear = opened.unwrap_or_else(silent)?;
        telemetry::rebuilt(WHAT);
        let shutdown = self.shutdown.clone();
        self.wanted.mark_changed();
        loop {
            let next = tokio::select! {
                biased;
                () = shutdown.wait() => return Ok(()),
                () = self.link.lost(connection) => return Ok(()),
                changed = self.wanted.changed() => {
                    // Without anybody who could want something there is nothing to listen to.
                    if changed.is_err() {
                        return Ok(());
                    }
                    None
                }
                next = ear.consumer.next() => Some(next),
            };
            match next {
                None => {
                    let wanted = self.wanted.borrow_and_update().clone();
                    let bound = while_alive(connection, ear.bind(&wanted)).await;
                    for tenant in bound.unwrap_or_else(silent_bind)? {
                        self.tell(Heard::Bound { tenant }).await;
                    }
                }
                Some(Some(Ok(delivery))) => {
                    // Whether it worked is of no account: a copy does no harm, and the loop sees the channel's end.
                    let _acknowledged = written(&delivery.acker, BasicAckOptions::default()).await;
                    telemetry::consumed(WHAT, "ack");
                    let body = delivery.data;
                    self.tell(Heard::Event { body }).await;
                }
                Some(Some(Err(_)) | None) => {
                    tracing::warn!("the listener to events ended");
                    return Ok(());
                }
            }
        }
    }

    async fn tell(&self, heard: Heard) {
        let handling = async { (self.handler)(heard).await };
        if let Err(panic) = AssertUnwindSafe(handling).catch_unwind().await {
            telemetry::handler_panicked(WHAT);
            let panic = panic_message(panic.as_ref());
            tracing::error!(panic, "a handler of events panicked");
        }
    }
}

fn silent_bind() -> Result<Vec<String>, TopologyError> {
    Err(TopologyError::NoAnswer {
        name: WHAT.to_owned(),
    })
}

fn named(source: lapin::Error) -> TopologyError {
    TopologyError::Declare {
        name: WHAT.to_owned(),
        source,
    }
}

async fn open(connection: &Connection, bound: u32) -> Result<Ear, TopologyError> {
    let channel = connection.create_channel().await.map_err(named)?;
    let queue = own_queue(&channel, WHAT, bound).await.map_err(named)?;
    let consumer = consume_own(&channel, queue.clone()).await.map_err(named)?;
    Ok(Ear {
        channel,
        queue,
        consumer,
        bound: BTreeSet::new(),
    })
}

impl Ear {
    /// Binds what is wanted and unbinds what is not; gives what is new.
    async fn bind(&mut self, wanted: &BTreeSet<String>) -> Result<Vec<String>, TopologyError> {
        let exchange = ShortString::from(topology::EVENTS);
        let key = |tenant: &String| ShortString::from(format!("{tenant}.#"));
        let gone: Vec<String> = self.bound.difference(wanted).cloned().collect();
        for tenant in gone {
            let (queue, exchange, key) = (self.queue.clone(), exchange.clone(), key(&tenant));
            let unbind = self
                .channel
                .queue_unbind(queue, exchange, key, FieldTable::default());
            unbind.await.map_err(named)?;
            self.bound.remove(&tenant);
        }
        let new: Vec<String> = wanted.difference(&self.bound).cloned().collect();
        for tenant in &new {
            let (queue, exchange, key) = (self.queue.clone(), exchange.clone(), key(tenant));
            let options = QueueBindOptions::default();
            let bind =
                self.channel
                    .queue_bind(queue, exchange, key, options, FieldTable::default());
            bind.await.map_err(named)?;
            self.bound.insert(tenant.clone());
        }
        Ok(new)
    }
}
