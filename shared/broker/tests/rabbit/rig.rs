//! What the tests share: a virtual host, processes on it, and bare lapin to look from outside.

use std::time::Duration;

use anyhow::Context as _;
use lapin::message::BasicGetMessage;
use lapin::options::{BasicGetOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use photofinish_broker::{Broker, Disposition, Incoming, Settings, WorkQueue};
use photofinish_kit::{Rabbit, wait_for};
use photofinish_runtime::{Health, Shutdown, Tasks};
use tokio::sync::mpsc;

pub(crate) const SOON: Duration = Duration::from_secs(30);
pub(crate) const LANES: u16 = 2;

/// One of our processes, as far as the broker is concerned.
pub(crate) struct Process {
    pub(crate) broker: Broker,
    pub(crate) tasks: Tasks,
    pub(crate) health: Health,
}

impl Process {
    pub(crate) async fn start(url: &str) -> anyhow::Result<Self> {
        let process = Self::launch(&settings(url))?;
        process.ready().await?;
        Ok(process)
    }

    pub(crate) fn launch(settings: &Settings) -> anyhow::Result<Self> {
        // Shown with a test that fails.
        photofinish_runtime::trace::install_for_tests();
        let (tasks, health) = (Tasks::new(Shutdown::new()), Health::new());
        let broker = Broker::connect(settings, "test", &tasks, &health)?;
        Ok(Self {
            broker,
            tasks,
            health,
        })
    }

    pub(crate) async fn ready(&self) -> anyhow::Result<()> {
        let ready = tokio::time::timeout(SOON, self.broker.wait_ready()).await;
        ready.with_context(|| format!("not ready: {:?}", self.health.failing()))
    }

    /// Consumes into a channel: each message with a way to answer it.
    pub(crate) fn collect(&self, queue: WorkQueue, concurrency: u16) -> mpsc::Receiver<InHand> {
        let (sender, receiver) = mpsc::channel(1000);
        self.broker.consume(queue, concurrency, move |incoming| {
            let sender = sender.clone();
            async move {
                let (answer, disposition) = tokio::sync::oneshot::channel();
                sender
                    .send(InHand { incoming, answer })
                    .await
                    .expect("the test still listens");
                disposition.await.unwrap_or(Disposition::Ack)
            }
        });
        receiver
    }

    pub(crate) async fn drain(&self) -> usize {
        self.tasks.drain(Duration::from_secs(20)).await
    }
}

/// A message whose handler waits for the test's answer; acknowledged when dropped.
pub(crate) struct InHand {
    pub(crate) incoming: Incoming,
    answer: tokio::sync::oneshot::Sender<Disposition>,
}

impl InHand {
    pub(crate) fn answer(self, disposition: Disposition) -> Incoming {
        assert!(self.answer.send(disposition).is_ok(), "the handler is gone");
        self.incoming
    }
}

pub(crate) async fn next(receiver: &mut mpsc::Receiver<InHand>) -> anyhow::Result<InHand> {
    let next = tokio::time::timeout(SOON, receiver.recv()).await;
    next.context("no message in time")?
        .context("the consumer is gone")
}

pub(crate) fn settings(url: &str) -> Settings {
    Settings {
        lanes: LANES,
        ..Settings::new(url)
    }
}

/// Bare lapin, as a client would use it.
pub(crate) struct Outside {
    pub(crate) channel: Channel,
    _connection: Connection,
}

impl Outside {
    pub(crate) async fn connect(url: &str) -> anyhow::Result<Self> {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        Ok(Self {
            channel: connection.create_channel().await?,
            _connection: connection,
        })
    }

    pub(crate) async fn depth(&self, queue: &str) -> anyhow::Result<u32> {
        let options = QueueDeclareOptions {
            passive: true,
            ..Default::default()
        };
        let queue = self
            .channel
            .queue_declare(queue.into(), options, FieldTable::default());
        Ok(queue.await?.message_count())
    }

    /// Takes the next message of a queue, waiting for it.
    pub(crate) async fn take(&self, queue: &str) -> anyhow::Result<BasicGetMessage> {
        let what = format!("a message in {queue}");
        wait_for(SOON, &what, || async {
            let options = BasicGetOptions { no_ack: true };
            self.channel
                .basic_get(queue.into(), options)
                .await
                .ok()
                .flatten()
        })
        .await
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the test plays a client without our crate"
    )]
    pub(crate) async fn publish(
        &self,
        exchange: &str,
        key: &str,
        body: &str,
        properties: BasicProperties,
    ) -> anyhow::Result<()> {
        let options = lapin::options::BasicPublishOptions::default();
        let (exchange, key) = (exchange.into(), key.into());
        let publish =
            self.channel
                .basic_publish(exchange, key, options, body.as_bytes(), properties);
        publish.await?.await?;
        Ok(())
    }
}

/// A virtual host with one ready process.
pub(crate) async fn one() -> anyhow::Result<(Rabbit, Process)> {
    let rabbit = Rabbit::fresh().await?;
    let process = Process::start(&rabbit.url()).await?;
    Ok((rabbit, process))
}
