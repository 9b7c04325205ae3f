//! The bare chain: messages through so many durable quorum queues, each hop consumed, published on and confirmed,
//! then acknowledged, with nothing done on the way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::StreamExt as _;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use photofinish_kit::Rabbit;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Messages in hand at each hop, as in the dispatcher.
const IN_HAND_MAX: u16 = 32;
/// Messages published at once by whoever starts them.
const UNCONFIRMED_MAX: usize = 256;
const WITHIN: Duration = Duration::from_secs(120);

pub(crate) struct Chain {
    hops: usize,
    publish: Arc<Channel>,
    arrived: mpsc::UnboundedReceiver<()>,
    body: Vec<u8>,
    _running: JoinSet<()>,
    _connections: [Connection; 2],
}

fn queue(hop: usize) -> String {
    format!("bare.{hop}")
}

impl Chain {
    /// A chain of queues on a virtual host; a message is as long as `body`.
    pub(crate) async fn start(rabbit: &Rabbit, hops: usize, body: Vec<u8>) -> anyhow::Result<Self> {
        let (url, plain) = (rabbit.url(), ConnectionProperties::default);
        let publishing = Connection::connect(&url, plain()).await?;
        let consuming = Connection::connect(&url, plain()).await?;
        let publish = Arc::new(publishing.create_channel().await?);
        publish
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        let (arrive, arrived) = mpsc::unbounded_channel();
        let mut running = JoinSet::new();
        for hop in 0..hops {
            let durable = QueueDeclareOptions {
                durable: true,
                ..QueueDeclareOptions::default()
            };
            let mut arguments = FieldTable::default();
            let quorum = AMQPValue::LongString("quorum".into());
            arguments.insert("x-queue-type".into(), quorum);
            let channel = consuming.create_channel().await?;
            channel
                .queue_declare(queue(hop).into(), durable, arguments)
                .await?;
            channel
                .basic_qos(IN_HAND_MAX, BasicQosOptions::default())
                .await?;
            let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
            let consumer = channel
                .basic_consume(queue(hop).into(), "".into(), options, none)
                .await?;
            let next = (hop + 1 < hops).then_some(hop + 1);
            running.spawn(hand_on(consumer, next, publish.clone(), arrive.clone()));
        }
        Ok(Self {
            hops,
            publish,
            arrived,
            body,
            _running: running,
            _connections: [publishing, consuming],
        })
    }

    /// Sends so many messages through and says how many arrived in a second.
    pub(crate) async fn run(&mut self, messages: usize) -> anyhow::Result<f64> {
        let begun = Instant::now();
        let (publish, body) = (&self.publish, &self.body);
        let send = async {
            let mut sent = futures_util::stream::iter(0..messages)
                .map(|_number| pass(publish, 0, body))
                .buffer_unordered(UNCONFIRMED_MAX);
            while let Some(sent) = sent.next().await {
                sent?;
            }
            anyhow::Ok(())
        };
        let arrived = &mut self.arrived;
        let receive = async {
            for _ in 0..messages {
                arrived.recv().await.context("the chain ended")?;
            }
            anyhow::Ok(())
        };
        let both = async { tokio::try_join!(send, receive) };
        let hops = self.hops;
        tokio::time::timeout(WITHIN, both)
            .await
            .with_context(|| format!("a chain of {hops} hops stood still"))??;
        Ok(messages as f64 / begun.elapsed().as_secs_f64())
    }
}

async fn hand_on(
    mut consumer: lapin::Consumer,
    next: Option<usize>,
    publish: Arc<Channel>,
    arrive: mpsc::UnboundedSender<()>,
) {
    let mut in_hand = JoinSet::new();
    while let Some(Ok(delivery)) = consumer.next().await {
        let (publish, arrive) = (publish.clone(), arrive.clone());
        in_hand.spawn(async move {
            if let Some(next) = next {
                pass(&publish, next, &delivery.data).await?;
            }
            delivery.acker.ack(BasicAckOptions::default()).await?;
            if next.is_none() {
                arrive.send(()).context("tell of an arrival")?;
            }
            anyhow::Ok(())
        });
        while in_hand.try_join_next().is_some() {}
    }
}

async fn pass(channel: &Channel, hop: usize, body: &[u8]) -> anyhow::Result<()> {
    let properties = BasicProperties::default().with_delivery_mode(2);
    let options = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let sent = channel
        .basic_publish("".into(), queue(hop).into(), options, body, properties)
        .await?
        .await?;
    anyhow::ensure!(sent.is_ack(), "not confirmed: {sent:?}");
    Ok(())
}
