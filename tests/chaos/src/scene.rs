//! The product at work, and what befalls it.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::time::Duration;

use anyhow::Context as _;
use photofinish_contract::job::Job;
use photofinish_demo::jobs::{self, Ask, Door, Submitted};
use photofinish_demo::samples::Samples;
use photofinish_demo::stack::{Options, Stack};
use photofinish_demo::wiring::{Servers, Setting};
use photofinish_kit::{Answer, Rabbit, RabbitNode, Receiver, RedisServer, wait_for, wait_until};
use serde_json::{Value, json};

use crate::{Shelf, bucket};

/// Pictures of the job, each of which becomes one output.
pub const PICTURES: u32 = 12;

/// Pictures that are painted; the job uses them again and again.
const PAINTED: u32 = 3;
/// Every job with more items is split, in two: several workers are at work.
const SPLIT_OVER: &str = "4";
const PARTS: &str = "2";
/// The last pictures of each part are held back until after the fault.
const HELD: [usize; 4] = [4, 5, 10, 11];
/// Length of a clip.
const CLIP_S: f64 = 2.0;
/// The receiver takes so long to answer before the notifier is killed: deliveries are under way then.
const SLOW_RECEIVER: Duration = Duration::from_secs(12);
const MIDDLE_DEADLINE: Duration = Duration::from_secs(60);
const GONE_DEADLINE: Duration = Duration::from_secs(10);
/// From the end of the fault to the end of the job.
const END_DEADLINE: Duration = Duration::from_secs(100);

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    /// One of the four services.
    Service(&'static str),
    /// A worker that has an attempt.
    Worker,
    /// The broker.
    RabbitMq,
    /// Redis; its append-only file stays.
    Redis,
    /// All that Redis holds, by FLUSHALL.
    RedisContent,
}

impl Victim {
    /// For names of directories and tenants.
    pub fn name(self) -> &'static str {
        match self {
            Self::Service(name) => name,
            Self::Worker => "worker",
            Self::RabbitMq => "rabbitmq",
            Self::Redis => "redis",
            Self::RedisContent => "flushall",
        }
    }
}

/// The whole product, running, with one victim.
#[derive(Debug)]
pub struct Scene {
    /// The processes.
    pub stack: Stack,
    /// The receiver of webhooks.
    pub receiver: Receiver,
    /// The virtual host.
    pub rabbit: Rabbit,
    victim: Victim,
    shelf: Shelf,
    node: Option<RabbitNode>,
    redis: RedisServer,
    _samples: tempfile::TempDir,
}

impl Scene {
    /// Starts everything.
    pub async fn set(victim: Victim) -> anyhow::Result<Self> {
        let node = match victim {
            Victim::RabbitMq => Some(RabbitNode::start().await?),
            Victim::Service(_) | Victim::Worker | Victim::Redis | Victim::RedisContent => None,
        };
        let rabbit = match &node {
            Some(node) => node.vhost().await?,
            None => Rabbit::fresh().await?,
        };
        let redis = RedisServer::start().await?;
        let mut stack = Stack::claim(options(victim, &rabbit, &redis))?;
        let samples = tempfile::tempdir().context("make a directory for the samples")?;
        let (started, made) = tokio::join!(stack.start(), Samples::make(samples.path(), PAINTED));
        started?;
        let receiver = Receiver::start().await?;
        if victim == Victim::Service("notifier") {
            receiver.always(Answer {
                delay: SLOW_RECEIVER,
                ..Answer::default()
            });
        }
        Ok(Self {
            stack,
            receiver,
            rabbit,
            victim,
            shelf: Shelf::start(made?.dir).await?,
            node,
            redis,
            _samples: samples,
        })
    }

    /// Submits the job.
    pub async fn submit(&self) -> anyhow::Result<Submitted> {
        let ask = self.ask();
        jobs::submit(self.stack.http(), self.stack.wiring()?, ask).await
    }

    fn ask(&self) -> Ask {
        let (files, hook) = (self.shelf.url(), self.receiver.url("/hooks"));
        let mut ask = jobs::img2vid("job", Door::Http, (PICTURES, PAINTED), &files, &hook);
        for (place, image) in (0..PICTURES as usize).zip(1_u32..) {
            let picture = &mut ask.request["images"][place];
            picture["duracao"] = json!(CLIP_S);
            if HELD.contains(&place) {
                let name = photofinish_demo::samples::picture_name(image % PAINTED);
                picture["image_url"] = json!(format!("{files}/pictures/{name}?held"));
            }
        }
        ask.expected.frames *= CLIP_S as u64;
        ask.expected.video_s = CLIP_S;
        ask
    }

    /// Waits until an output is stored; others cannot be, since their pictures are held back.
    pub async fn middle(&self, job: &Submitted) -> anyhow::Result<()> {
        let met = wait_until(MIDDLE_DEADLINE, "an output is stored", || async {
            bucket::outputs(&self.stack, &job.id).is_ok_and(|stored| !stored.is_empty())
        });
        met.await?;
        self.is_middle(job)
    }

    /// An error unless at least one output is stored and at least one is not.
    pub fn is_middle(&self, job: &Submitted) -> anyhow::Result<()> {
        let stored = bucket::outputs(&self.stack, &job.id)?;
        let (stored, all) = (stored.len(), PICTURES as usize);
        anyhow::ensure!(
            stored >= 1 && stored < all && !self.shelf.is_open(),
            "not the middle: {stored} of {all} outputs are stored"
        );
        Ok(())
    }

    /// kill -9 (or FLUSHALL), with nothing tidied up.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        match self.victim {
            Victim::Service(name) => self.stack.kill_service(name).await,
            Victim::Worker => self.kill_worker().await,
            Victim::RabbitMq => {
                let node = self.node.as_ref().context("a node of its own")?;
                node.kill().await
            }
            Victim::Redis => {
                self.redis.kill();
                Ok(())
            }
            Victim::RedisContent => flush(&self.redis.url()),
        }
    }

    /// The job goes on as far as it can without the victim; then the victim is started again as it was.
    pub async fn revive(&mut self) -> anyhow::Result<()> {
        self.receiver.always(Answer::default());
        self.shelf.open();
        match self.victim {
            Victim::Service(name) => self.stack.restart_service(name).await,
            // RunPod starts another by itself; emptied, Redis still runs.
            Victim::Worker | Victim::RedisContent => Ok(()),
            Victim::RabbitMq => {
                let node = self.node.as_ref().context("a node of its own")?;
                node.restart().await?;
                self.stack.wait_ready().await
            }
            Victim::Redis => {
                self.redis.restart().await?;
                self.stack.wait_ready().await
            }
        }
    }

    /// Waits for the end of the job, as its client sees it.
    pub async fn follow(&self, job: &Submitted) -> anyhow::Result<Job> {
        let (http, wiring) = (self.stack.http(), self.stack.wiring()?);
        let ended = wait_for(END_DEADLINE, "the job ends", || async {
            let job = jobs::get(http, wiring, &job.id).await.ok()?;
            job.status.is_final().then_some(job)
        });
        let Err(error) = ended.await else {
            return jobs::get(http, wiring, &job.id).await;
        };
        let told = jobs::get(http, wiring, &job.id).await;
        let stored = bucket::outputs(&self.stack, &job.id)?;
        Err(error.context(format!("stored: {stored:#?}\ntold: {told:#?}")))
    }

    async fn kill_worker(&self) -> anyhow::Result<()> {
        let busy = self.runpod_workers("workers", |worker| {
            worker["pid"].is_u64()
                && worker["jobs"]
                    .as_array()
                    .is_some_and(|jobs| !jobs.is_empty())
        });
        let busy = busy.await?.into_iter().next();
        let worker = busy.context("no worker has an attempt")?;
        let sim = &self.stack.wiring()?.runpod;
        let url = format!("{sim}/_sim/workers/{worker}/kill");
        let sent = self.stack.http().post(&url).json(&json!({})).send().await;
        sent.and_then(|answer| answer.error_for_status().map(drop))
            .context("kill a worker")?;
        let worker = worker.as_str();
        wait_until(GONE_DEADLINE, "the worker is gone", || async move {
            let gone = self.runpod_workers("gone", |gone| gone["id"] == worker);
            gone.await.is_ok_and(|gone| !gone.is_empty())
        })
        .await
    }

    /// The ids of workers that the emulator lists and `which` wants.
    async fn runpod_workers(
        &self,
        list: &str,
        which: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<BTreeSet<String>> {
        let url = format!("{}/_sim/state", self.stack.wiring()?.runpod);
        let answer = self.stack.http().get(&url).send().await;
        let state: Value = answer
            .context("ask the emulator for its state")?
            .json()
            .await
            .context("read the emulator's state")?;
        let all = state[list].as_array().cloned().unwrap_or_default();
        let wanted = all.iter().filter(|worker| which(worker));
        Ok(wanted
            .filter_map(|worker| worker["id"].as_str().map(str::to_owned))
            .collect())
    }

    /// Stops everything and throws its files away: at the end of a test that went well (the logs of one that did not
    /// stay).
    pub async fn end(mut self) -> anyhow::Result<()> {
        self.stack.stop().await?;
        std::fs::remove_dir_all(self.stack.dir()).context("remove the scene's directory")
    }
}

fn options(victim: Victim, rabbit: &Rabbit, redis: &RedisServer) -> Options {
    let name = victim.name();
    let mut settings = vec![];
    // How jobs are split is the same in both.
    for service in ["ingest", "dispatcher"] {
        settings.push(Setting::new(service, "plan.split_over", SPLIT_OVER));
        settings.push(Setting::new(service, "plan.parallel_max", PARTS));
    }
    Options {
        dir: photofinish_kit::root().join("target/chaos").join(name),
        lasting: false,
        // Users are the broker's, not the virtual host's.
        tenant: format!("{name}-{}", &rabbit.vhost()[2..10]),
        servers: Some(Servers {
            amqp_url: rabbit.url(),
            rabbitmq_api: rabbit.api().to_owned(),
            vhost: rabbit.vhost().to_owned(),
            redis_url: redis.url(),
            redis_prefix: "photofinish:".to_owned(),
        }),
        settings,
    }
}

/// FLUSHALL, in Redis' own inline protocol.
fn flush(url: &str) -> anyhow::Result<()> {
    let place = url.trim_start_matches("redis://");
    let mut socket = std::net::TcpStream::connect(place).context("connect to Redis")?;
    socket.set_read_timeout(Some(GONE_DEADLINE))?;
    socket.write_all(b"FLUSHALL\r\n")?;
    let mut answer = [0; 5];
    socket.read_exact(&mut answer).context("empty Redis")?;
    anyhow::ensure!(&answer == b"+OK\r\n", "FLUSHALL answers {answer:?}");
    Ok(())
}
