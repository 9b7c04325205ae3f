//! A site: the whole product as real processes, for end-to-end tests.
//!
//! Nouns: a [`Site`] is a stack of its own (services, emulator, workers, S3 server) on a virtual host and a key prefix
//! of its own of the test servers, with sample inputs and a receiver of webhooks.
//!
//! Guarantee: everything it started is ended with it.
//!
//! Not for tests of one crate: those run against the adapters' real servers without a site.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use lapin::options::{BasicAckOptions, BasicConsumeOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Connection, ConnectionProperties};
use photofinish_demo::jobs::{self, Ask, Finished};
use photofinish_demo::progress;
use photofinish_demo::receiver::{Ear, Files};
use photofinish_demo::samples::Samples;
use photofinish_demo::stack::{Options, Stack};
use photofinish_demo::wiring::{RunPod, Servers, Setting};
use photofinish_kit::{Rabbit, Redis};

/// Pictures that are painted for a site; jobs use them again and again.
pub const PAINTED: u32 = 3;

const JOB_DEADLINE: Duration = Duration::from_secs(100);
const MESSAGE_DEADLINE: Duration = Duration::from_secs(20);

/// The whole product, running.
#[derive(Debug)]
pub struct Site {
    /// The processes.
    pub stack: Stack,
    /// The receiver of webhooks.
    pub ear: Ear,
    /// The sample inputs.
    pub files: Files,
    rabbit: Rabbit,
    _samples: tempfile::TempDir,
    dir: PathBuf,
}

/// A message as it lies in a queue.
#[derive(Debug)]
pub struct Found {
    /// Its body.
    pub body: Vec<u8>,
    /// Its properties, headers included.
    pub properties: BasicProperties,
}

impl Found {
    /// A header as text; empty if it is not there.
    pub fn header(&self, name: &str) -> String {
        let headers = self.properties.headers().as_ref();
        let value = headers.and_then(|headers| headers.inner().get(name));
        value
            .and_then(|value| value.as_long_string())
            .map(ToString::to_string)
            .unwrap_or_default()
    }
}

impl Site {
    /// Starts everything on the test servers; `settings` differ from the services' defaults.
    pub async fn start(name: &str, settings: Vec<Setting>) -> anyhow::Result<Self> {
        Self::start_with(name, settings, RunPod::default()).await
    }

    /// The same with workers of a kind.
    pub async fn start_with(
        name: &str,
        settings: Vec<Setting>,
        runpod: RunPod,
    ) -> anyhow::Result<Self> {
        let (rabbit, redis) = (Rabbit::fresh().await?, Redis::fresh()?);
        // Users are the broker's, not the virtual host's: one of its own for each site.
        let tenant = format!("{name}-{}", &rabbit.vhost()[2..10]);
        let dir = photofinish_kit::root().join("target/e2e").join(&tenant);
        let mut stack = Stack::claim(Options {
            dir: dir.clone(),
            lasting: false,
            tenant,
            servers: Some(Servers {
                amqp_url: rabbit.url(),
                rabbitmq_api: rabbit.api().to_owned(),
                vhost: rabbit.vhost().to_owned(),
                redis_url: redis.url,
                redis_prefix: redis.prefix,
            }),
            settings,
            runpod,
        })?;
        let samples = tempfile::tempdir().context("make a directory for the samples")?;
        let (started, made) = tokio::join!(stack.start(), Samples::make(samples.path(), PAINTED));
        started?;
        let files = Files::start(made?.dir).await?;
        let ear = Ear::start().await?;
        Ok(Self {
            stack,
            ear,
            files,
            rabbit,
            _samples: samples,
            dir,
        })
    }

    /// Submits jobs, each through its door, and follows them to their ends.
    pub async fn run(&self, asks: Vec<Ask>) -> anyhow::Result<Vec<Finished>> {
        let (http, wiring) = (self.stack.http(), self.stack.wiring()?);
        let mut submitted = Vec::new();
        for ask in asks {
            submitted.push(jobs::submit(http, wiring, ask).await?);
        }
        progress::follow(http, wiring, submitted, JOB_DEADLINE).await
    }

    /// Waits for the next message of a queue and takes it, as an administrator.
    pub async fn take(&self, queue: &str) -> anyhow::Result<Found> {
        let url = self.rabbit.url();
        let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        let options = BasicConsumeOptions::default();
        let mut messages = channel
            .basic_consume(queue.into(), "".into(), options, FieldTable::default())
            .await?;
        let next = tokio::time::timeout(MESSAGE_DEADLINE, messages.next()).await;
        let message = next.with_context(|| format!("no message in {queue}"))?;
        let message = message.context("the channel was closed")??;
        message.acker.ack(BasicAckOptions::default()).await?;
        connection.close(200, "done".into()).await?;
        Ok(Found {
            body: message.data,
            properties: message.properties,
        })
    }

    /// Publishes a raw message to `photofinish.jobs` as the tenant's own user.
    pub async fn publish(&self, key: &str, body: &[u8], id: &str) -> anyhow::Result<()> {
        let client = &self.stack.wiring()?.client;
        let connection = Connection::connect(&client.amqp_url, ConnectionProperties::default());
        let connection = connection.await?;
        let channel = connection.create_channel().await?;
        channel
            .confirm_select(lapin::options::ConfirmSelectOptions::default())
            .await?;
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_delivery_mode(2)
            .with_user_id(client.tenant.as_str().into())
            .with_message_id(id.into());
        jobs::publish(&channel, key, body.to_vec(), properties).await?;
        connection.close(200, "done".into()).await?;
        Ok(())
    }

    /// The keys of the outputs that lie in the bucket for a job.
    pub async fn output_keys(&self, job: &str) -> anyhow::Result<Vec<String>> {
        let wiring = self.stack.wiring()?;
        let (tenant, job) = (wiring.client.tenant.parse()?, job.parse()?);
        let stored = wiring.objects()?.stored_outputs(&tenant, &job).await?;
        Ok(stored.into_iter().map(|(_, output)| output.key).collect())
    }

    /// Stops everything and throws its files away: at the end of a test that went well (the logs of one that did not
    /// stay).
    pub async fn end(mut self) -> anyhow::Result<()> {
        self.stack.stop().await?;
        std::fs::remove_dir_all(&self.dir).context("remove the site's directory")
    }
}
