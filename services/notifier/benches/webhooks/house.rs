//! A notifier as a process, with a broker, a Redis and a bucket of its own, and tenants with one endpoint each.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::StreamExt as _;
use jiff::Timestamp;
use photofinish_broker::{Broker, Outgoing, Publisher, Route, Target};
use photofinish_contract::event::EventType;
use photofinish_contract::messages::JobEvent;
use photofinish_contract::request::{Fit, Image, Img2vid, JobRequest, Motion, Task};
use photofinish_jobstore::JobStore;
use photofinish_kit::{Process, ProcessSpec, Rabbit, RabbitNode, RedisServer, S3};
use photofinish_model::plan::PartPlan;
use photofinish_model::sequence::{Moment, event_id, sequence};
use photofinish_model::{JobId, OnItemError, Priority, Tenant};
use photofinish_notifier::config;
use photofinish_objects::{Objects, RunDoc, Sealer, TenantRecord, WebhookEndpointRecord};
use photofinish_runtime::Context;
use photofinish_runtime::config::{Sources, load};
use serde_json::{Value, json};

use crate::receiver::Receiver;

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const TENANTS: usize = 20;
/// What fills a body up to about 1 KiB.
const FILLING_CHARS: usize = 300;
/// Records and publishes under way at once.
const PARALLEL: usize = 256;
const START_DEADLINE: Duration = Duration::from_secs(60);

/// Everything; ended on drop.
pub(crate) struct House {
    pub(crate) receiver: Receiver,
    pub(crate) notifier: Process,
    pub(crate) rabbit: Rabbit,
    node: RabbitNode,
    redis: RedisServer,
    publisher: Publisher,
    jobstore: JobStore,
    tenants: Vec<Tenant>,
    tester: Context,
    _s3: S3,
    _dir: tempfile::TempDir,
}

impl Drop for House {
    fn drop(&mut self) {
        self.tester.shutdown.cut();
    }
}

/// An event that can be told, and its id.
#[derive(Debug, Clone)]
pub(crate) struct Ready {
    pub(crate) id: String,
    event: JobEvent,
}

impl House {
    /// `hung` of the tenants' endpoints never answer.
    pub(crate) async fn start(hung: usize) -> anyhow::Result<Self> {
        photofinish_kit::install_crypto();
        let (node, redis) = (RabbitNode::start().await?, RedisServer::start().await?);
        let (rabbit, s3) = (node.vhost().await?, S3::start().await?);
        let dir = tempfile::tempdir()?;
        let credentials = s3.credentials();
        let settings = [
            ("broker.url", rabbit.url()),
            ("broker.lanes", "1".to_owned()),
            ("redis.url", redis.url()),
            ("redis.prefix", "b:".to_owned()),
            ("s3.endpoint", s3.endpoint()),
            ("s3.bucket", s3.bucket().to_owned()),
            ("s3.access_key_id", credentials.access_key.clone()),
            ("s3.secret_access_key", credentials.secret_key.clone()),
            ("secrets.key", KEY.to_owned()),
            ("outbound.receivers.allow", "127.0.0.0/8".to_owned()),
        ];
        let overrides = settings
            .iter()
            .map(|(path, value)| ((*path).to_owned(), value.clone()));
        let sources = Sources {
            defaults: config::defaults(),
            overrides: overrides.collect(),
            ..Sources::default()
        };
        let wrong = |errors: Vec<String>| anyhow::anyhow!(errors.join("; "));
        let own: config::Settings = load(&sources).context("read the settings")?;
        let redis_settings = own.redis.settings().map_err(wrong)?;
        let s3_settings = own.s3.settings().map_err(wrong)?;
        let jobstore = JobStore::connect(&redis_settings)?;
        let objects = Objects::connect(&s3_settings)?;
        let tester = Context::detached("bench");
        let broker = Broker::connect(&own.broker, "bench", &tester.tasks, &tester.health)?;
        let receiver = Receiver::start().await?;
        let tenants = tenants(&objects, &receiver, hung).await?;
        let mut spec = ProcessSpec::service("photofinish-notifier", dir.path())?
            .env("PHOTOFINISH__ADMIN__LISTEN", "127.0.0.1:0");
        for (path, value) in settings {
            let name = path.to_uppercase().replace('.', "__");
            spec = spec.env(&format!("PHOTOFINISH__{name}"), value);
        }
        let (notifier, _ports) = Process::start_ready(spec, START_DEADLINE).await?;
        tokio::time::timeout(START_DEADLINE, broker.wait_ready())
            .await
            .context("the broker in time")?;
        Ok(Self {
            receiver,
            notifier,
            publisher: broker.publisher(),
            rabbit,
            node,
            redis,
            jobstore,
            tenants,
            tester,
            _s3: s3,
            _dir: dir,
        })
    }

    /// Jobs that have begun, with the event that tells it, spread evenly over the tenants.
    pub(crate) async fn ready(&self, events: usize) -> anyhow::Result<Vec<Ready>> {
        let made = futures_util::stream::iter(0..events).map(|n| self.one(n % TENANTS));
        let mut made = made.buffered(PARALLEL);
        let mut ready = Vec::with_capacity(events);
        while let Some(one) = made.next().await {
            ready.push(one?);
        }
        Ok(ready)
    }

    async fn one(&self, tenant: usize) -> anyhow::Result<Ready> {
        let snapshot = run(&self.tenants[tenant]).initial_snapshot();
        let _created = self.jobstore.create(&snapshot).await?;
        let event = JobEvent {
            job: snapshot.job.clone(),
            tenant: snapshot.tenant.clone(),
            run: 1,
            event: EventType::JobStarted,
            sequence: sequence(1, Moment::Started),
            at: Timestamp::now(),
            changed: Vec::new(),
        };
        let kind = event.event.as_str();
        let id = event_id(&event.job, 1, kind, event.sequence);
        Ok(Ready { id, event })
    }

    /// Publishes an event as the dispatcher does.
    pub(crate) async fn tell(&self, ready: &Ready) -> anyhow::Result<()> {
        let target = Target::Pipeline(Route::JobEvent);
        let outgoing = Outgoing::json(target, &ready.event)?.message_id(ready.id.clone());
        Ok(self.publisher.publish(outgoing).await?)
    }

    /// Publishes them all as fast as the broker confirms them.
    pub(crate) async fn tell_all(&self, ready: &[Ready]) -> anyhow::Result<()> {
        let mut told = futures_util::stream::iter(ready)
            .map(|ready| self.tell(ready))
            .buffer_unordered(PARALLEL);
        while let Some(told) = told.next().await {
            told?;
        }
        Ok(())
    }

    /// Kills the notifier and starts it again; gives when it was started.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<Instant> {
        let spec = self.notifier.spec().clone();
        self.notifier.kill().await?;
        let begun = Instant::now();
        (self.notifier, _) = Process::start_ready(spec, START_DEADLINE).await?;
        Ok(begun)
    }

    /// Processor seconds that notifier, broker and Redis have used.
    pub(crate) fn cpu_s(&self) -> anyhow::Result<f64> {
        let broker = std::fs::read_to_string(self.node.dir().join("rabbitmq/pid"))?;
        let redis = self.redis.pid().context("Redis runs")?;
        let pids = [self.notifier.pid(), broker.trim().parse()?, redis];
        pids.iter().map(|pid| cpu_of(*pid)).sum()
    }

    /// Resident MiB of the notifier.
    pub(crate) fn memory(&self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.notifier.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: f64 = line
            .and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
            .context("no VmRSS")?;
        Ok(kib / 1024.0)
    }
}

/// Ticks of 10 ms in user and kernel mode.
fn cpu_of(pid: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks: Vec<f64> = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse().ok())
        .collect();
    Ok(ticks.iter().sum::<f64>() / 100.0)
}

async fn tenants(
    objects: &Objects,
    receiver: &Receiver,
    hung: usize,
) -> anyhow::Result<Vec<Tenant>> {
    let sealer = Sealer::new(KEY)?;
    let at = Timestamp::now();
    let mut tenants = Vec::new();
    for n in 0..TENANTS {
        let tenant: Tenant = format!("bench-{n}").parse()?;
        let record = TenantRecord::new(tenant.clone(), 0, sealer.seal(SECRET), at);
        objects
            .system_put(TenantRecord::KIND, tenant.as_str(), None, &record)
            .await?;
        let way = if n < hung { "hung" } else { "well" };
        let url = format!("http://{}/{way}/{n}", receiver.addr);
        let id = format!("whe_{n:032x}");
        let record_id = WebhookEndpointRecord::record_id(&tenant, &id);
        let record = WebhookEndpointRecord::new(id, tenant.clone(), url, sealer.seal(SECRET), at);
        objects
            .system_put(WebhookEndpointRecord::KIND, &record_id, None, &record)
            .await?;
        tenants.push(tenant);
    }
    Ok(tenants)
}

fn run(tenant: &Tenant) -> RunDoc {
    let now = Timestamp::now();
    let filling: Value = json!({"filling": "x".repeat(FILLING_CHARS)});
    RunDoc {
        job: JobId::from_random(uuid::Uuid::new_v4().as_u128()),
        tenant: tenant.clone(),
        run: 1,
        plan: vec![PartPlan {
            part: 0,
            items: vec![0],
        }],
        forecast: photofinish_model::estimate::Forecast::default(),
        request: JobRequest {
            task: Task::Img2vid(Img2vid {
                frame_rate: 30.0,
                width: 1920,
                height: 1080,
                fit: Fit::Cover,
                on_item_error: OnItemError::Fail,
                images: vec![Image {
                    id: "image1".to_owned(),
                    image_url: "https://example.com/image.jpg".to_owned(),
                    duration_s: 3.0,
                    motion: Motion::ZoomIn,
                }],
            }),
            webhook_url: None,
            priority: Priority::Normal,
            deadline_s: 3600,
            metadata: filling.as_object().cloned(),
        },
        receivers: Vec::new(),
        accepted_at: now,
        deadline_at: now,
        created_at: now,
        body_sha256: "0".repeat(64),
        carried: Vec::new(),
    }
}
