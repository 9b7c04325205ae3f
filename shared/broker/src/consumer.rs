//! Consume loops: one for each queue that a service works from.
//!
//! Nouns: a *session* is the life of one channel with its consumer; a [`Consumption`] is the owner's handle.
//!
//! Guarantee: at most `concurrency` messages are held, in hand and prefetched together, also across a rebuild. A
//! stream that ends without our asking is a fault, and the session is built again. At the end the loop takes no
//! more, waits for the handlers in hand and settles them.

use std::pin::pin;
use std::sync::Arc;

use futures_util::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Connection, Consumer};
use photofinish_runtime::{Shutdown, Tasks, backoff, clock, trace};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;
use tracing::Instrument as _;
use tracing::field::Empty;
use uuid::Uuid;

use crate::acks::{Acks, Settled};
use crate::connection::{CLOSE_TIMEOUT, Link, Plan, chain, dead, while_alive};
use crate::error::TopologyError;
use crate::incoming::Incoming;
use crate::names::WorkQueue;
use crate::settings::{REBUILD_MAX, REBUILD_MIN};
use crate::settle::{Disposition, Received, Settler, guard};
use crate::telemetry;

/// The handle of a consume loop. Dropping it changes nothing; the loop runs until shutdown.
#[derive(Debug, Clone)]
pub struct Consumption {
    paused: Arc<watch::Sender<bool>>,
}

impl Consumption {
    pub(crate) fn new() -> (Self, watch::Receiver<bool>) {
        let (sender, receiver) = watch::channel(false);
        (
            Self {
                paused: Arc::new(sender),
            },
            receiver,
        )
    }

    /// Takes no more messages until [`Consumption::resume`]; what is in hand is finished. For a service whose store
    /// is away.
    pub fn pause(&self) {
        self.paused.send_replace(true);
    }

    /// Takes messages again.
    pub fn resume(&self) {
        self.paused.send_replace(false);
    }

    /// Whether it takes no messages.
    pub fn is_paused(&self) -> bool {
        *self.paused.borrow()
    }
}

/// Why a session ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Lost,
    Paused,
    Stopped,
}

/// A consume loop. `H` is the handler.
pub(crate) struct Loop<H> {
    pub(crate) queue: WorkQueue,
    pub(crate) concurrency: u16,
    pub(crate) handler: Arc<H>,
    pub(crate) settler: Settler,
    pub(crate) link: Link,
    pub(crate) plan: Arc<Plan>,
    pub(crate) tasks: Tasks,
    pub(crate) paused: watch::Receiver<bool>,
}

impl<H, F> Loop<H>
where
    H: Fn(Incoming) -> F + Send + Sync + 'static,
    F: Future<Output = Disposition> + Send + 'static,
{
    /// Runs until shutdown, then until the handlers in hand are done.
    pub(crate) async fn run(mut self) {
        let permits = Arc::new(Semaphore::new(usize::from(self.concurrency)));
        let shutdown = self.tasks.shutdown().clone();
        let mut failures = 0;
        while !shutdown.stopping() {
            let ready = async {
                becomes(&mut self.paused, false).await;
                self.link.up().await
            };
            let connection = tokio::select! {
                connection = ready => connection,
                () = shutdown.wait() => break,
            };
            let Some(connection) = connection else { break };
            let began = Instant::now();
            match self.session(&connection, &permits, failures > 0).await {
                Ok(End::Stopped) => break,
                Ok(End::Paused) => continue,
                Ok(End::Lost) => telemetry::rebuilt("consumer"),
                Err(error) => {
                    tracing::warn!(queue = %self.queue, error = chain(&error), "no consumer");
                }
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
        wait_for_all(&permits, self.concurrency, &shutdown).await;
    }

    /// One channel's life.
    async fn session(
        &mut self,
        connection: &Arc<Connection>,
        permits: &Arc<Semaphore>,
        again: bool,
    ) -> Result<End, TopologyError> {
        let silent = || {
            Err(TopologyError::NoAnswer {
                name: self.queue.to_string(),
            })
        };
        let opened = while_alive(connection, self.open(connection, again)).await;
        let (channel, consumer, tag) = opened.unwrap_or_else(silent)?;
        let acks = Acks::new(self.queue, self.concurrency);
        let mut writing = pin!(acks.write_all());
        let end = tokio::select! {
            end = self.take(connection, consumer, permits, &acks) => end,
            () = dead(&channel) => End::Lost,
            () = &mut writing => End::Lost,
        };
        if end != End::Lost {
            let cancel = channel.basic_cancel(tag, BasicCancelOptions::default());
            // Too late when the channel is gone: then there is nothing to cancel.
            let _cancelled = tokio::time::timeout(CLOSE_TIMEOUT, cancel).await;
            // The acknowledgements of what is in hand need this channel.
            tokio::select! {
                () = wait_for_all(permits, self.concurrency, self.tasks.shutdown()) => {}
                () = writing => {}
            }
            let close = channel.close(200, "OK".into());
            let _closed = tokio::time::timeout(CLOSE_TIMEOUT, close).await;
        }
        acks.close();
        Ok(end)
    }

    async fn open(
        &self,
        connection: &Connection,
        again: bool,
    ) -> Result<(Channel, Consumer, ShortString), TopologyError> {
        let name = self.queue.to_string();
        let named = |source| TopologyError::Declare {
            name: name.clone(),
            source,
        };
        let channel = connection.create_channel().await.map_err(named)?;
        if again {
            // The queue may be gone: whoever consumes from it makes it again.
            self.plan.prepare(&channel).await?;
        }
        let qos = BasicQosOptions::default();
        channel
            .basic_qos(self.concurrency, qos)
            .await
            .map_err(named)?;
        let tag = ShortString::from(format!("{}.{}", self.queue, Uuid::new_v4().simple()));
        let options = BasicConsumeOptions::default();
        let arguments = FieldTable::default();
        let consumer = channel
            .basic_consume(name.as_str().into(), tag.clone(), options, arguments)
            .await
            .map_err(named)?;
        Ok((channel, consumer, tag))
    }

    async fn take(
        &mut self,
        connection: &Arc<Connection>,
        mut consumer: Consumer,
        permits: &Arc<Semaphore>,
        acks: &Arc<Acks>,
    ) -> End {
        let shutdown = self.tasks.shutdown().clone();
        loop {
            let next = async {
                // The permit first: nothing is taken that nobody can handle.
                let permit = permits.clone().acquire_owned().await.ok()?;
                Some((permit, consumer.next().await?))
            };
            tokio::select! {
                biased;
                () = shutdown.wait() => return End::Stopped,
                () = becomes(&mut self.paused, true) => return End::Paused,
                () = self.link.lost(connection) => return End::Lost,
                next = next => match next {
                    Some((permit, Ok(delivery))) => self.hand(delivery, permit, acks),
                    Some((_permit, Err(error))) => {
                        tracing::warn!(queue = %self.queue, %error, "the consumer failed");
                        return End::Lost;
                    }
                    None => {
                        tracing::warn!(queue = %self.queue, "the consumer was cancelled");
                        return End::Lost;
                    }
                },
            }
        }
    }

    /// Gives one message to a task of its own.
    fn hand(&self, mut delivery: Delivery, permit: OwnedSemaphorePermit, acks: &Arc<Acks>) {
        let (queue, settler, handler) = (self.queue, self.settler.clone(), self.handler.clone());
        let incoming = Incoming::read(&mut delivery, Some(queue), settler.publisher.user());
        let span = process_span(queue, &incoming);
        let (acks, acker, tag) = (acks.clone(), delivery.acker, delivery.delivery_tag);
        acks.open(tag);
        let handling = async move {
            let settled = match settler.receive(incoming, &acker).await {
                Received::Handle(incoming) => {
                    let copy = incoming.clone();
                    // Whatever takes a future by value moves all of it, and keeps it twice: this one may be large.
                    let handling = Box::pin(async move { handler(copy).await });
                    let disposition = guard(queue, incoming.attempt, handling).await;
                    settler.settle(&incoming, &acker, disposition).await
                }
                Received::Settled(settled) => settled,
            };
            if let Some(label) = settled {
                let settled = Settled {
                    acker,
                    label,
                    permit,
                };
                acks.settled(tag, settled);
            }
        };
        // The loop itself waits for its permits, and the tracker for the task.
        drop(
            self.tasks
                .spawn("broker.handler", handling.instrument(span)),
        );
    }
}

/// The span of handling a message: a child of its publisher's, so that one trace follows a job through every process,
/// and linked to it, since the message was queued. Of the highest level: its fields stand on every line that is
/// written inside of it, however few levels are written.
pub(crate) fn process_span(queue: WorkQueue, incoming: &Incoming) -> tracing::Span {
    let family = queue.family().as_str();
    let span = tracing::error_span!(
        parent: None,
        "process",
        otel.name = format!("process {family}"),
        otel.kind = "consumer",
        otel.status_code = Empty,
        "error.type" = Empty,
        "messaging.system" = "rabbitmq",
        "messaging.operation.type" = "process",
        "messaging.operation.name" = "process",
        "messaging.destination.name" = family,
        "messaging.rabbitmq.destination.routing_key" = incoming.routing_key.as_str(),
        "messaging.message.id" = incoming.message_id.as_deref(),
        "messaging.message.conversation_id" = incoming.correlation_id.as_deref(),
        "messaging.message.body.size" = incoming.body.len(),
        queue = family,
        tenant = Empty,
        job = Empty,
        trace_id = Empty,
    );
    if let Some(parent) = &incoming.traceparent {
        trace::continue_with(&span, parent, incoming.tracestate.as_deref());
        trace::link(&span, parent);
    }
    trace::note_id(&span);
    span
}

/// Never, once every handle was dropped and the flag stands otherwise.
async fn becomes(flag: &mut watch::Receiver<bool>, wanted: bool) {
    if flag.wait_for(|set| *set == wanted).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn wait_for_all(permits: &Semaphore, count: u16, shutdown: &Shutdown) {
    tokio::select! {
        // An error means a closed semaphore; nobody closes it.
        _all = permits.acquire_many(u32::from(count)) => {}
        () = shutdown.cut_off() => {}
    }
}
