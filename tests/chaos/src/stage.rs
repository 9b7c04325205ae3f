//! The product at work: every process, a Redis of its own, a virtual host or a broker of its own.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use photofinish_contract::job::Job;
use photofinish_demo::jobs::{self, Ask, Door, Expected, Submitted};
use photofinish_demo::stack::{Options, Stack};
use photofinish_demo::up;
use photofinish_demo::wiring::{RunPod, Servers, Setting, Wiring, stand_in_dir};
use photofinish_kit::{Rabbit, RabbitNode, Receiver, RedisServer, wait_for, wait_until};
use photofinish_stand_in::diary::{self, Line, Word};
use photofinish_stand_in::{OPEN, Wishes};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::{Emulator, bucket};

/// Where the pictures of stand-in jobs would be; nobody ever looks there.
const NOWHERE: &str = "http://pictures.example";
/// Frames a second of stand-in jobs.
const FRAME_RATE: u32 = 10;
/// Bytes of an output that says nothing of them; the stand-in's own default.
const BYTES: u64 = 1024;
const STATE_DEADLINE: Duration = Duration::from_secs(60);
/// From the end of the fault to the end of the job.
const END_DEADLINE: Duration = Duration::from_secs(100);

/// How a stage is to be.
#[derive(Debug, Clone)]
pub struct Setup {
    /// For names of directories and tenants.
    pub name: &'static str,
    /// What differs from the services' defaults.
    pub settings: Vec<Setting>,
    /// The emulator and its workers.
    pub runpod: RunPod,
    /// Whether the broker is a node of its own, to be killed.
    pub own_broker: bool,
    /// The directory of the services' programs, of another version; none: those of this one.
    pub programs: Option<PathBuf>,
}

impl Setup {
    /// One whose workers are stand-ins.
    pub fn stand_in(name: &'static str) -> Self {
        Self {
            name,
            settings: Vec::new(),
            runpod: RunPod::stand_in(),
            own_broker: false,
            programs: None,
        }
    }

    /// With a setting of a service.
    #[must_use]
    pub fn with(mut self, service: &'static str, path: &'static str, value: &str) -> Self {
        self.settings.push(Setting::new(service, path, value));
        self
    }

    /// Where jobs with more than `over` items are split in so many parts.
    #[must_use]
    pub fn split(mut self, over: &str, parts: &str) -> Self {
        // How jobs are split is the same in both.
        for service in ["ingest", "dispatcher"] {
            self = self.with(service, "plan.split_over", over);
            self = self.with(service, "plan.parallel_max", parts);
        }
        self
    }
}

/// What outputs are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Making {
    /// Clips, by the worker.
    Rendered,
    /// Bytes, by the stand-in.
    StandIn,
}

/// The whole product, running.
#[derive(Debug)]
pub struct Stage {
    /// The processes.
    pub stack: Stack,
    /// The receiver of webhooks.
    pub receiver: Receiver,
    /// The virtual host.
    pub rabbit: Rabbit,
    /// The Redis.
    pub redis: RedisServer,
    /// The broker, where it is one of its own.
    pub node: Option<RabbitNode>,
    /// What outputs are.
    pub making: Making,
}

impl Stage {
    /// Starts everything.
    pub async fn set(setup: Setup) -> anyhow::Result<Self> {
        let node = if setup.own_broker {
            Some(RabbitNode::start().await?)
        } else {
            None
        };
        let rabbit = match &node {
            Some(node) => node.vhost().await?,
            None => Rabbit::fresh().await?,
        };
        let redis = RedisServer::start().await?;
        // Of whatever version.
        let making = if setup.runpod.worker.ends_with(RunPod::stand_in().worker) {
            Making::StandIn
        } else {
            Making::Rendered
        };
        let programs = setup.programs.clone();
        let mut stack = Stack::claim(options(setup, &rabbit, &redis))?;
        stack.take_programs(programs);
        stack.start().await?;
        Ok(Self {
            stack,
            receiver: Receiver::start().await?,
            rabbit,
            redis,
            node,
            making,
        })
    }

    /// The emulator's control API.
    pub fn emulator(&self) -> anyhow::Result<Emulator<'_>> {
        let wiring = self.stack.wiring()?;
        Ok(Emulator::new(self.stack.http(), &wiring.runpod))
    }

    /// A job for stand-ins: an item for each of the queries (see `photofinish-stand-in`), `{name}-{place}`, a second
    /// long.
    pub fn ask(&self, name: &'static str, queries: &[&str]) -> Ask {
        let items: Vec<_> = (0..queries.len())
            .map(|place| format!("{name}-{place:04}"))
            .collect();
        let image = |(item, query): (&String, &&str)| json!({"id": item, "image_url": format!("{NOWHERE}/{item}?{query}"), "duracao": 1.0});
        let images: Vec<_> = items.iter().zip(queries).map(image).collect();
        let request = json!({
            "operation": "img2vid", "frame_rate": FRAME_RATE, "width": 128, "height": 72, "images": images,
            "webhook_url": self.receiver.url(&format!("/hooks/{name}")),
        });
        let expected = Expected {
            items,
            size: (128, 72),
            frames: u64::from(FRAME_RATE),
            video_s: 1.0,
            audio_s: None,
            tolerance_s: 1.0 / f64::from(FRAME_RATE),
        };
        Ask {
            name,
            door: Door::Http,
            request,
            expected,
        }
    }

    /// Submits a job of the stage's own tenant.
    pub async fn submit(&self, ask: Ask) -> anyhow::Result<Submitted> {
        jobs::submit(self.stack.http(), self.stack.wiring()?, ask).await
    }

    /// Makes one more tenant: the same addresses, another client.
    pub async fn tenant(&self, name: &str) -> anyhow::Result<Wiring> {
        let mut wiring = self.stack.wiring()?.clone();
        wiring.client.tenant = format!("{name}-{}", &self.rabbit.vhost()[2..10]);
        wiring.client = up::make_tenant(self.stack.http(), &wiring).await?;
        Ok(wiring)
    }

    /// Waits for the end of a job, as its client sees it.
    pub async fn follow(&self, wiring: &Wiring, job: &Submitted) -> anyhow::Result<Job> {
        let (http, tenant) = (self.stack.http(), &wiring.client.tenant);
        // A job of many items is dear to ask for.
        let end = bucket::root(&self.stack).join(format!("{tenant}/{}/_job/end-1.json", job.id));
        let ended = wait_for(END_DEADLINE, "the job ends", || async {
            if !end.exists() {
                return None;
            }
            let job = jobs::get(http, wiring, &job.id).await.ok()?;
            job.status.is_final().then_some(job)
        });
        let Err(error) = ended.await else {
            return jobs::get(http, wiring, &job.id).await;
        };
        let told = jobs::get(http, wiring, &job.id).await;
        let stored = bucket::outputs(&self.stack, tenant, &job.id)?;
        let context = format!(
            "{}: stored: {stored:#?}\ntold: {told:#?}\nRunPod: {:#}",
            job.ask.name,
            self.emulator()?.state().await.unwrap_or_default()
        );
        Err(error.context(context))
    }

    /// Asks for the end of a job.
    pub async fn cancel(&self, job: &Submitted) -> anyhow::Result<()> {
        let wiring = self.stack.wiring()?;
        let url = format!("{}/v1/jobs/{}", wiring.ingest, job.id);
        let call = self.stack.http().delete(url);
        let answer = call.bearer_auth(&wiring.client.api_key).send().await?;
        answer
            .error_for_status()
            .map(drop)
            .context("cancel the job")
    }

    /// The keys of the outputs that are stored for a job of the stage's own tenant.
    pub fn stored(&self, job: &Submitted) -> anyhow::Result<BTreeSet<String>> {
        let tenant = &self.stack.wiring()?.client.tenant;
        bucket::outputs(&self.stack, tenant, &job.id)
    }

    /// Waits until at least so many outputs of a job are stored.
    pub async fn stored_at_least(&self, job: &Submitted, many: usize) -> anyhow::Result<()> {
        let met = || async { self.stored(job).is_ok_and(|stored| stored.len() >= many) };
        let what = format!("{many} outputs of {} are stored", job.ask.name);
        wait_until(STATE_DEADLINE, &what, met).await
    }

    /// Waits until a client is told of at least so many outputs of a job.
    pub async fn settled_at_least(&self, job: &Submitted, many: u32) -> anyhow::Result<()> {
        let (http, wiring) = (self.stack.http(), self.stack.wiring()?);
        let what = format!("{many} outputs of {} are told", job.ask.name);
        wait_until(STATE_DEADLINE, &what, || async {
            let told = jobs::get(http, wiring, &job.id).await;
            told.is_ok_and(|told| told.progress.items_done >= many)
        })
        .await
    }

    /// The directory that the stand-ins share.
    pub fn stand_in_dir(&self) -> PathBuf {
        stand_in_dir(self.stack.dir())
    }

    /// Lets go of the items that are held.
    pub fn open(&self) -> anyhow::Result<()> {
        std::fs::create_dir_all(self.stand_in_dir())?;
        std::fs::write(self.stand_in_dir().join(OPEN), "").context("let go of what is held")
    }

    /// Holds items again.
    pub fn close(&self) -> anyhow::Result<()> {
        std::fs::remove_file(self.stand_in_dir().join(OPEN)).context("hold items")
    }

    /// Whether held items are let go.
    pub fn is_open(&self) -> bool {
        self.stand_in_dir().join(OPEN).exists()
    }

    /// Everything that stand-ins have done for the items of a job.
    pub fn diary(&self, job: &Submitted) -> anyhow::Result<Vec<Line>> {
        let mut lines = diary::read(&self.stand_in_dir())?;
        lines.retain(|line| job.ask.expected.items.contains(&line.item));
        Ok(lines)
    }

    /// How often this was done for an item of a job.
    pub fn times(&self, job: &Submitted, word: Word, item: usize) -> anyhow::Result<usize> {
        let item = &job.ask.expected.items[item];
        let lines = self.diary(job)?;
        let those = lines
            .iter()
            .filter(|line| line.word == word && line.item == *item);
        Ok(those.count())
    }

    /// Waits until this was done for an item of a job.
    pub async fn done(&self, job: &Submitted, word: Word, item: usize) -> anyhow::Result<()> {
        let what = format!("{word:?} of item {item} of {}", job.ask.name);
        let met = || async { self.times(job, word, item).is_ok_and(|times| times > 0) };
        wait_until(STATE_DEADLINE, &what, met).await
    }

    /// Sends a signal to a service, to freeze it or to let it go on.
    pub fn signal(&self, service: &str, signal: Signal) -> anyhow::Result<()> {
        let pid = i32::try_from(self.stack.service(service)?.pid())?;
        let pid = Pid::from_raw(pid).context("a process has a number")?;
        kill_process(pid, signal).with_context(|| format!("send a signal to {service}"))
    }

    /// Redis forgets everything.
    pub fn flush_redis(&self) -> anyhow::Result<()> {
        self.redis.flush()
    }

    /// Stops everything and throws its files away: at the end of a test that went well (the logs of one that did not
    /// stay).
    pub async fn end(mut self) -> anyhow::Result<()> {
        self.stack.stop().await?;
        std::fs::remove_dir_all(self.stack.dir()).context("remove the stage's directory")
    }
}

/// Bytes that the output of an item of a stand-in job has.
pub(crate) fn bytes_of(request: &Value, place: usize) -> u64 {
    let url = request["images"][place]["image_url"].as_str();
    Wishes::of(url.unwrap_or_default()).bytes.unwrap_or(BYTES)
}

fn options(setup: Setup, rabbit: &Rabbit, redis: &RedisServer) -> Options {
    Options {
        dir: photofinish_kit::root()
            .join("target/chaos")
            .join(setup.name),
        lasting: false,
        // Users are the broker's, not the virtual host's.
        tenant: format!("{}-{}", setup.name, &rabbit.vhost()[2..10]),
        servers: Some(Servers {
            amqp_url: rabbit.url(),
            rabbitmq_api: rabbit.api().to_owned(),
            vhost: rabbit.vhost().to_owned(),
            redis_url: redis.url(),
            redis_prefix: "photofinish:".to_owned(),
        }),
        settings: setup.settings,
        runpod: setup.runpod,
    }
}
