//! A client that submits many jobs over AMQP and hears of their ends.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use lapin::options::{
    BasicConsumeOptions, ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use photofinish_demo::jobs;
use serde_json::{Value, json};

use crate::house::{House, TENANT};

/// Publishes whose confirms are waited for at once.
const UNCONFIRMED_MAX: usize = 256;

/// A job of one short clip; its picture is never fetched.
pub(crate) fn request() -> Value {
    json!({"operation": "img2vid", "frame_rate": 30, "metadata": {"order": "A-17"},
           "images": [{"id": "a", "image_url": "http://127.0.0.1:9/a.jpg", "duracao": 0.1}]})
}

pub(crate) struct Client {
    channel: Channel,
    ends: Consumer,
    _connections: [Connection; 2],
}

impl Client {
    pub(crate) async fn connect(house: &House) -> anyhow::Result<Self> {
        let client = &house.stack.wiring()?.client;
        let own = Connection::connect(&client.amqp_url, ConnectionProperties::default()).await?;
        let channel = own.create_channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        let listening =
            Connection::connect(&house.rabbit.url(), ConnectionProperties::default()).await?;
        let ears = listening.create_channel().await?;
        let exclusive = QueueDeclareOptions {
            exclusive: true,
            ..QueueDeclareOptions::default()
        };
        let none = FieldTable::default;
        let queue = ears.queue_declare("".into(), exclusive, none()).await?;
        let key = format!("{TENANT}.job.img2vid.completed");
        let binding = QueueBindOptions::default();
        let (name, events) = (queue.name().clone(), "photofinish.events".into());
        ears.queue_bind(name.clone(), events, key.into(), binding, none())
            .await?;
        let taking = BasicConsumeOptions {
            no_ack: true,
            ..BasicConsumeOptions::default()
        };
        let ends = ears.basic_consume(name, "".into(), taking, none()).await?;
        Ok(Self {
            channel,
            ends,
            _connections: [own, listening],
        })
    }

    /// Submits so many jobs, each confirmed by the broker.
    pub(crate) async fn submit(&self, jobs: usize) -> anyhow::Result<()> {
        let body = serde_json::to_vec(&request())?;
        let one = |_number| {
            let properties = BasicProperties::default()
                .with_content_type("application/json".into())
                .with_delivery_mode(2)
                .with_user_id(TENANT.into());
            jobs::publish(&self.channel, "job.submit", body.clone(), properties)
        };
        let mut sent = futures_util::stream::iter(0..jobs)
            .map(one)
            .buffer_unordered(UNCONFIRMED_MAX);
        while let Some(sent) = sent.next().await {
            sent?;
        }
        Ok(())
    }

    /// Waits until so many jobs have completed.
    pub(crate) async fn completed(&mut self, jobs: usize, within: Duration) -> anyhow::Result<()> {
        let mut seen = HashSet::new();
        let all = async {
            while seen.len() < jobs {
                let event = self.ends.next().await.context("the events ended")??;
                let event: Value = serde_json::from_slice(&event.data)?;
                seen.insert(event["subject"].to_string());
            }
            anyhow::Ok(())
        };
        let waited = tokio::time::timeout(within, all).await;
        let seen = seen.len();
        waited.with_context(|| format!("{seen} of {jobs} jobs completed within {within:?}"))?
    }
}
