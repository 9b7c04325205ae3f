//! Every internal message published once more: at once, or a little later.
//!
//! Nouns: the firehose is RabbitMQ's own copy of every publish to a virtual host; the doubler reads it and publishes
//! what it finds again, to the same exchange, with the same key, properties and headers, turn and turn id included.
//!
//! Guarantee: what the services publish to the pipeline, to a queue of their own (a turn) or to a tier of waits (a
//! retry) comes twice; what the doubler publishes is not doubled. Not for what the public publishes and hears.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use photofinish_kit::{Method, Rabbit};
use serde_json::json;
use tokio::task::AbortHandle;

const FIREHOSE: &str = "amq.rabbitmq.trace";
const PASSWORD: &str = "twice";
/// Every second copy comes so much later.
const LATE: Duration = Duration::from_millis(700);

/// Doubles until it is dropped.
#[derive(Debug)]
pub struct Doubler {
    copied: Arc<Mutex<BTreeMap<String, u64>>>,
    task: AbortHandle,
    _connection: Connection,
}

impl Doubler {
    /// Begins to double the messages of a virtual host.
    pub async fn start(rabbit: &Rabbit) -> anyhow::Result<Self> {
        let vhost = rabbit.vhost();
        let user = format!("doubler-{vhost}");
        // Copies name the user who published the original.
        let body = json!({"password": PASSWORD, "tags": "impersonator"});
        let path = format!("/api/users/{user}");
        rabbit.call(Method::PUT, &path, Some(body)).await?;
        let body = json!({"configure": ".*", "write": ".*", "read": ".*"});
        let path = format!("/api/permissions/{vhost}/{user}");
        rabbit.call(Method::PUT, &path, Some(body)).await?;
        let path = format!("/api/vhosts/{vhost}");
        let traced = json!({"tracing": true});
        rabbit.call(Method::PUT, &path, Some(traced)).await?;
        let url = rabbit.url_as(&user, PASSWORD);
        let connection = Connection::connect(&url, ConnectionProperties::default());
        let connection = connection.await.context("connect as the doubler")?;
        let channel = connection.create_channel().await?;
        let mut publishes = firehose(&channel).await?;
        let copied: Arc<Mutex<BTreeMap<String, u64>>> = Arc::default();
        let (counts, own) = (Arc::clone(&copied), user);
        let task = tokio::spawn(async move {
            let mut late = false;
            while let Some(Ok(told)) = publishes.next().await {
                let Some(copy) = Copy::of(&told, &own) else {
                    continue;
                };
                let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
                *counts.entry(copy.key.clone()).or_default() += 1;
                drop(counts);
                late = !late;
                let (channel, wait) = (channel.clone(), if late { LATE } else { Duration::ZERO });
                tokio::spawn(async move {
                    tokio::time::sleep(wait).await; // paced: a copy that comes late is what is tested
                    copy.publish(&channel).await;
                });
            }
        });
        Ok(Self {
            copied,
            task: task.abort_handle(),
            _connection: connection,
        })
    }

    /// How many copies were made, by routing key.
    pub fn copied(&self) -> BTreeMap<String, u64> {
        let copied = self.copied.lock();
        copied.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Doubler {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) async fn firehose(channel: &Channel) -> anyhow::Result<lapin::Consumer> {
    let own = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..Default::default()
    };
    let table = FieldTable::default;
    let queue = channel.queue_declare("".into(), own, table()).await?;
    let name = queue.name().clone();
    let binding = QueueBindOptions::default();
    channel
        .queue_bind(
            name.clone(),
            FIREHOSE.into(),
            "publish.#".into(),
            binding,
            table(),
        )
        .await?;
    let taking = BasicConsumeOptions {
        no_ack: true,
        ..Default::default()
    };
    let consumer = channel.basic_consume(name, "".into(), taking, table());
    consumer.await.context("read the firehose")
}

/// A message to be published again.
#[derive(Debug)]
struct Copy {
    exchange: String,
    key: String,
    body: Vec<u8>,
    properties: BasicProperties,
}

impl Copy {
    /// What the firehose tells of, if it is one of ours and none of our copies.
    fn of(told: &Delivery, own: &str) -> Option<Self> {
        let about = told.properties.headers().as_ref()?;
        if text(about, "user")? == own {
            return None;
        }
        let exchange = text(about, "exchange_name")?;
        let internal = exchange.is_empty()
            || exchange == "photofinish.pipeline"
            || exchange.starts_with("photofinish.retry.");
        let Some(AMQPValue::FieldArray(keys)) = about.inner().get("routing_keys") else {
            return None;
        };
        let key = string(keys.as_slice().first()?)?;
        let ours = ["ingest.", "dispatcher.", "fetcher.", "notifier."];
        let queue = exchange == "photofinish.pipeline" || ours.iter().any(|q| key.starts_with(q));
        let Some(AMQPValue::FieldTable(properties)) = about.inner().get("properties") else {
            return None;
        };
        (internal && queue).then(|| Self {
            exchange,
            key,
            body: told.data.clone(),
            properties: rebuilt(properties),
        })
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a stranger to the product has only bare lapin"
    )]
    async fn publish(self, channel: &Channel) {
        let options = BasicPublishOptions::default();
        let (exchange, key) = (self.exchange.as_str(), self.key.as_str());
        // What is not published is not counted either way: the test asks for enough copies of each kind.
        let _sent = channel
            .basic_publish(
                exchange.into(),
                key.into(),
                options,
                &self.body,
                self.properties,
            )
            .await;
    }
}

/// The properties of the original.
fn rebuilt(table: &FieldTable) -> BasicProperties {
    let mut properties = BasicProperties::default().with_delivery_mode(2);
    if let Some(AMQPValue::FieldTable(headers)) = table.inner().get("headers") {
        properties = properties.with_headers(headers.clone());
    }
    let of = |name: &str| text(table, name);
    if let Some(value) = of("content_type") {
        properties = properties.with_content_type(value.as_str().into());
    }
    if let Some(value) = of("message_id") {
        properties = properties.with_message_id(value.as_str().into());
    }
    if let Some(value) = of("correlation_id") {
        properties = properties.with_correlation_id(value.as_str().into());
    }
    if let Some(value) = of("reply_to") {
        properties = properties.with_reply_to(value.as_str().into());
    }
    if let Some(value) = of("type") {
        properties = properties.with_type(value.as_str().into());
    }
    if let Some(value) = of("user_id") {
        properties = properties.with_user_id(value.as_str().into());
    }
    if let Some(value) = of("app_id") {
        properties = properties.with_app_id(value.as_str().into());
    }
    properties
}

pub(crate) fn text(table: &FieldTable, name: &str) -> Option<String> {
    string(table.inner().get(name)?)
}

pub(crate) fn string(value: &AMQPValue) -> Option<String> {
    if let Some(long) = value.as_long_string() {
        return Some(String::from_utf8_lossy(long.as_bytes()).into_owned());
    }
    value.as_short_string().map(ToString::to_string)
}
