//! A whole stack with servers of its own.

use photofinish_demo::stack::{Options, Stack};
use photofinish_demo::wiring::{RunPod, Servers, Setting};
use photofinish_kit::{Rabbit, RabbitNode, RedisServer};

/// The tenant of all jobs.
pub(crate) const TENANT: &str = "load";

/// A stack and what it stands on; ended with it.
pub(crate) struct House {
    pub(crate) stack: Stack,
    /// Its virtual host.
    pub(crate) rabbit: Rabbit,
    /// For virtual hosts besides it.
    pub(crate) node: RabbitNode,
    _redis: RedisServer,
}

impl House {
    pub(crate) async fn start(
        name: &str,
        runpod: RunPod,
        mut settings: Vec<Setting>,
    ) -> anyhow::Result<Self> {
        // A file server on the same processors would be most of what is measured.
        settings.push(Setting::new("s3", "memory", "true"));
        let (node, redis) = (RabbitNode::start().await?, RedisServer::start().await?);
        let rabbit = node.vhost().await?;
        let mut stack = Stack::claim(Options {
            dir: photofinish_kit::root().join("target/bench/load").join(name),
            lasting: false,
            tenant: TENANT.to_owned(),
            servers: Some(Servers {
                amqp_url: rabbit.url(),
                rabbitmq_api: rabbit.api().to_owned(),
                vhost: rabbit.vhost().to_owned(),
                redis_url: redis.url(),
                redis_prefix: "photofinish:".to_owned(),
            }),
            settings,
            runpod,
        })?;
        stack.start().await?;
        Ok(Self {
            stack,
            rabbit,
            node,
            _redis: redis,
        })
    }

    pub(crate) async fn end(mut self) -> anyhow::Result<()> {
        self.stack.stop().await?;
        std::fs::remove_dir_all(self.stack.dir())?;
        Ok(())
    }
}
