//! Signals: a copy of each for every process, as long as it is there to take it.
//!
//! Guarantee: none beyond best effort. The queue is the process's own, bounded, drops the oldest, and is gone with
//! its connection; a lost signal is found by the poll. A signal is acknowledged before it is handled.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::{FutureExt as _, StreamExt as _};
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Connection, Consumer};
use photofinish_runtime::{Shutdown, backoff, clock};
use tokio::time::Instant;
use uuid::Uuid;

use crate::connection::{Link, chain, while_alive};
use crate::error::TopologyError;
use crate::incoming::Incoming;
use crate::settings::{REBUILD_MAX, REBUILD_MIN};
use crate::settle::{panic_message, written};
use crate::{telemetry, topology};

/// Signals on their way to the process at once; the rest waits in its queue.
const PREFETCH: u16 = 64;
const WHAT: &str = "signals";

/// Declares a queue of this process alone: bounded, the oldest goes first, gone with its connection.
pub(crate) async fn own_queue(
    channel: &Channel,
    what: &str,
    bound: u32,
) -> Result<ShortString, lapin::Error> {
    let name = ShortString::from(format!("photofinish.{what}.{}", Uuid::new_v4().simple()));
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(bound.into()));
    arguments.insert(
        "x-overflow".into(),
        AMQPValue::LongString("drop-head".into()),
    );
    let options = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..Default::default()
    };
    channel
        .queue_declare(name.clone(), options, arguments)
        .await?;
    Ok(name)
}

/// Consumes a queue of this process alone.
pub(crate) async fn consume_own(
    channel: &Channel,
    name: ShortString,
) -> Result<Consumer, lapin::Error> {
    channel
        .basic_qos(PREFETCH, BasicQosOptions::default())
        .await?;
    let options = BasicConsumeOptions {
        exclusive: true,
        ..Default::default()
    };
    let (tag, arguments) = (ShortString::default(), FieldTable::default());
    channel.basic_consume(name, tag, options, arguments).await
}

pub(crate) struct Signals<H> {
    /// Signals kept while the handler is busy; the oldest is dropped beyond.
    pub(crate) bound: u32,
    pub(crate) handler: H,
    pub(crate) link: Link,
    pub(crate) shutdown: Shutdown,
    pub(crate) user: Arc<str>,
}

impl<H, F> Signals<H>
where
    H: Fn(Incoming) -> F + Send + Sync + 'static,
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
            let silent = || {
                Err(TopologyError::NoAnswer {
                    name: WHAT.to_owned(),
                })
            };
            let opened = while_alive(&connection, self.open(&connection)).await;
            match opened.unwrap_or_else(silent) {
                Ok(consumer) => {
                    self.take(&connection, consumer).await;
                    telemetry::rebuilt("signals");
                }
                Err(error) => tracing::warn!(error = chain(&error), "no consumer of signals"),
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

    async fn open(&self, connection: &Connection) -> Result<Consumer, TopologyError> {
        let named = |source| TopologyError::Declare {
            name: WHAT.to_owned(),
            source,
        };
        let channel = connection.create_channel().await.map_err(named)?;
        let name = own_queue(&channel, WHAT, self.bound).await.map_err(named)?;
        let (from, key) = (topology::SIGNALS.into(), ShortString::default());
        let bind = QueueBindOptions::default();
        channel
            .queue_bind(name.clone(), from, key, bind, FieldTable::default())
            .await
            .map_err(named)?;
        consume_own(&channel, name).await.map_err(named)
    }

    async fn take(&mut self, connection: &Arc<Connection>, mut consumer: Consumer) {
        let shutdown = self.shutdown.clone();
        loop {
            let next = tokio::select! {
                biased;
                () = shutdown.wait() => return,
                () = self.link.lost(connection) => return,
                next = consumer.next() => next,
            };
            let Some(Ok(mut delivery)) = next else {
                tracing::warn!("the consumer of signals ended");
                return;
            };
            // Whether it worked is of no account: a copy does no harm, and the loop sees the channel's end.
            let _acknowledged = written(&delivery.acker, BasicAckOptions::default()).await;
            let incoming = Incoming::read(&mut delivery, None, &self.user);
            telemetry::consumed(WHAT, "ack");
            let handling = async { (self.handler)(incoming).await };
            if let Err(panic) = AssertUnwindSafe(handling).catch_unwind().await {
                telemetry::handler_panicked(WHAT);
                let panic = panic_message(panic.as_ref());
                tracing::error!(panic, "a handler of signals panicked");
            }
        }
    }
}
