//! A notifier in this process with servers of its own, and a tenant with a secret.

use http::HeaderMap;
use jiff::Timestamp;
use photofinish_broker::{Broker, Outgoing, Route, Target};
use photofinish_contract::event::EventType;
use photofinish_contract::messages::{JobEvent, Receiver as Whom};
use photofinish_contract::request::{Fit, Image, Img2vid, JobRequest, Motion, Task};
use photofinish_jobstore::{DeliveryFilter, DeliveryView, JobStore};
use photofinish_kit::{Method, Rabbit, Received, Receiver, Redis, S3, wait_for};
use photofinish_model::delivery::DeliveryStatus;
use photofinish_model::plan::PartPlan;
use photofinish_model::sequence::{Moment, sequence};
use photofinish_model::{
    ItemState, JobId, JobSnapshot, JobStatus, OnItemError, OutputSource, Priority, StoredOutput,
    Tenant,
};
use photofinish_notifier::{app, config};
use photofinish_objects::{Objects, RunDoc, Sealer, TenantRecord, WebhookEndpointRecord};
use photofinish_runtime::config::{Sources, load};
use photofinish_runtime::{Clock, Context};
use serde::Serialize;
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use std::time::Duration;

pub(crate) const TENANT_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
pub(crate) const ENDPOINT_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
/// Longest wait for anything here.
pub(crate) const SOON: Duration = Duration::from_secs(20);
pub(crate) const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const LOOPBACK: (&str, &str) = ("outbound.receivers.allow", "127.0.0.0/8");

/// Everything that a test needs; ended on drop.
pub(crate) struct House {
    pub(crate) rabbit: Rabbit,
    pub(crate) broker: Broker,
    pub(crate) objects: Objects,
    pub(crate) jobstore: JobStore,
    pub(crate) tenant: Tenant,
    _s3: S3,
    notifier: Context,
    tester: Context,
}

impl Drop for House {
    fn drop(&mut self) {
        self.notifier.shutdown.cut();
        self.tester.shutdown.cut();
    }
}

impl House {
    /// One whose receivers may be on loopback.
    pub(crate) async fn open() -> Self {
        let redis = Redis::fresh().unwrap();
        Self::with(&redis.url, &redis.prefix, &[LOOPBACK]).await
    }

    /// The same with other settings.
    pub(crate) async fn open_with(more: &[(&str, &str)]) -> Self {
        let redis = Redis::fresh().unwrap();
        let all: Vec<(&str, &str)> = std::iter::once(LOOPBACK).chain(more.to_vec()).collect();
        Self::with(&redis.url, &redis.prefix, &all).await
    }

    /// One that is as careful as in production.
    pub(crate) async fn guarded() -> Self {
        let redis = Redis::fresh().unwrap();
        Self::with(&redis.url, &redis.prefix, &[]).await
    }

    /// One with this Redis.
    pub(crate) async fn with_redis(url: &str) -> Self {
        Self::with(url, "t:", &[LOOPBACK, ("redis.timeout_s", "1")]).await
    }

    /// One whose notifier goes by this clock.
    pub(crate) async fn at(clock: Clock) -> Self {
        let redis = Redis::fresh().unwrap();
        Self::with_clock(&redis.url, &redis.prefix, &[LOOPBACK], clock).await
    }

    /// One with this Redis, whose notifier goes by this clock.
    pub(crate) async fn at_with_redis(clock: Clock, url: &str) -> Self {
        Self::with_clock(url, "t:", &[LOOPBACK], clock).await
    }

    async fn with(redis_url: &str, prefix: &str, more: &[(&str, &str)]) -> Self {
        Self::with_clock(redis_url, prefix, more, Clock::system()).await
    }

    async fn with_clock(
        redis_url: &str,
        prefix: &str,
        more: &[(&str, &str)],
        clock: Clock,
    ) -> Self {
        photofinish_kit::install_crypto();
        let (rabbit, s3) = (Rabbit::fresh().await.unwrap(), S3::start().await.unwrap());
        let (amqp, endpoint, credentials) = (rabbit.url(), s3.endpoint(), s3.credentials());
        let mut overrides = vec![
            ("broker.url", amqp.as_str()),
            ("broker.lanes", "1"),
            ("redis.url", redis_url),
            ("redis.prefix", prefix),
            ("s3.endpoint", &endpoint),
            ("s3.bucket", s3.bucket()),
            ("s3.access_key_id", &credentials.access_key),
            ("s3.secret_access_key", &credentials.secret_key),
            ("secrets.key", KEY),
            ("links.public_url", "https://photofinish.example/"),
        ];
        overrides.extend_from_slice(more);
        let overrides = overrides
            .iter()
            .map(|(path, value)| ((*path).to_owned(), (*value).to_owned()));
        let sources = Sources {
            defaults: config::defaults(),
            overrides: overrides.collect(),
            ..Sources::default()
        };
        let settings: config::Settings = load(&sources).unwrap();
        let jobstore = JobStore::connect(&settings.redis.settings().unwrap()).unwrap();
        let objects = Objects::connect(&settings.s3.settings().unwrap()).unwrap();
        let tester = Context::detached("tester");
        let (tasks, health) = (&tester.tasks, &tester.health);
        let broker = Broker::connect(&settings.broker, "tester", tasks, health).unwrap();
        let mut notifier = Context::detached("notifier");
        notifier.clock = clock;
        app::build(settings, notifier.clone()).await.unwrap();
        let tenant: Tenant = "acme".parse().unwrap();
        let house = Self {
            rabbit,
            broker,
            objects,
            jobstore,
            tenant,
            _s3: s3,
            notifier,
            tester,
        };
        house.make_tenant(&house.tenant).await;
        house
    }

    /// Makes a webhook endpoint of the tenant.
    pub(crate) async fn endpoint(&self, id: &str, url: &str, event_types: &[&str]) {
        self.endpoint_with(id, url, |record| WebhookEndpointRecord {
            event_types: event_types.iter().map(ToString::to_string).collect(),
            ..record
        })
        .await;
    }

    /// Makes a webhook endpoint with a record of one's own.
    pub(crate) async fn endpoint_with(
        &self,
        id: &str,
        url: &str,
        record: impl FnOnce(WebhookEndpointRecord) -> WebhookEndpointRecord,
    ) {
        let (tenant, sealed) = (self.tenant.clone(), seal(ENDPOINT_SECRET));
        let new = WebhookEndpointRecord::new(id.to_owned(), tenant, url.to_owned(), sealed, at());
        self.put_endpoint(None, &record(new)).await;
    }

    /// Writes a version of an endpoint's record, and throws the copies away.
    pub(crate) async fn put_endpoint(&self, after: Option<u64>, record: &WebhookEndpointRecord) {
        let kind = WebhookEndpointRecord::KIND;
        let id = WebhookEndpointRecord::record_id(&self.tenant, &record.id);
        let put = self.objects.system_put(kind, &id, after, record);
        let version = put.await.unwrap();
        self.jobstore
            .keep_system_copy(kind, &id, version, Some(record))
            .await;
        let all: Vec<(String, u64, WebhookEndpointRecord)> = self
            .objects
            .system_list(kind, self.tenant.as_str())
            .await
            .unwrap();
        let version = all.iter().map(|(_, version, _)| version).sum();
        let records: Vec<_> = all.into_iter().map(|(_, _, record)| record).collect();
        let (kind, id) = ("webhook_endpoints", self.tenant.as_str());
        self.jobstore
            .keep_system_copy(kind, id, version, Some(&records))
            .await;
    }

    /// The newest version of an endpoint's record.
    pub(crate) async fn endpoint_record(&self, id: &str) -> (u64, WebhookEndpointRecord) {
        let id = WebhookEndpointRecord::record_id(&self.tenant, id);
        self.objects
            .system_get(WebhookEndpointRecord::KIND, &id)
            .await
            .unwrap()
            .expect("it is there")
    }

    /// Waits until an endpoint is disabled.
    pub(crate) async fn disabled(&self, id: &str) -> (u64, WebhookEndpointRecord) {
        wait_for(SOON, "the endpoint is disabled", || async {
            Some(self.endpoint_record(id).await).filter(|(_, record)| !record.enabled)
        })
        .await
        .unwrap()
    }

    /// Publishes an internal message as a service does.
    pub(crate) async fn publish(&self, route: Route, message: &impl Serialize) {
        let outgoing = Outgoing::json(Target::Pipeline(route), message).unwrap();
        self.broker.publisher().publish(outgoing).await.unwrap();
    }

    /// Waits until everything that was queued is handled.
    pub(crate) async fn settled(&self) {
        let last = self.job(1, None).await;
        let receiver = Receiver::start().await.unwrap();
        let url = receiver.url("/settled");
        self.put_endpoint(
            None,
            &WebhookEndpointRecord::new(
                format!("whe_{}", last.job),
                self.tenant.clone(),
                url,
                seal(ENDPOINT_SECRET),
                at(),
            ),
        )
        .await;
        self.tell(&self.complete(&last).await).await;
        receiver.wait(1, SOON).await.unwrap();
    }

    /// Plans a job of `items` items, as the dispatcher does; gives its snapshot, accepted.
    pub(crate) async fn job(&self, items: u16, webhook_url: Option<&str>) -> JobSnapshot {
        let run = run_doc(&self.tenant, items, webhook_url);
        self.objects.put_run(&run).await.unwrap();
        run.initial_snapshot()
    }

    /// Publishes an event as the dispatcher does.
    pub(crate) async fn tell(&self, event: &JobEvent) {
        let target = Target::Pipeline(Route::JobEvent);
        let outgoing = Outgoing::json(target, event).unwrap();
        self.broker.publisher().publish(outgoing).await.unwrap();
    }

    /// Ends a job well: every item stored; gives its final event, not published yet.
    pub(crate) async fn complete(&self, job: &JobSnapshot) -> JobEvent {
        let mut end = JobSnapshot {
            status: JobStatus::Completed,
            started_at: Some(at()),
            finished_at: Some(at()),
            ..job.clone()
        };
        for row in &mut end.items {
            row.state = stored(&job.tenant, &job.job, row.index);
        }
        self.objects.put_end(&end).await.unwrap();
        event(job, EventType::JobCompleted, Moment::Final)
    }

    /// Makes another tenant if it is not there, and ends a job of it that names this receiver.
    pub(crate) async fn job_ends_of(&self, tenant: &str, webhook_url: &str) {
        let tenant: Tenant = tenant.parse().unwrap();
        self.make_tenant(&tenant).await;
        let run = run_doc(&tenant, 1, Some(webhook_url));
        self.objects.put_run(&run).await.unwrap();
        self.tell(&self.complete(&run.initial_snapshot()).await)
            .await;
    }

    async fn make_tenant(&self, tenant: &Tenant) {
        let record = TenantRecord::new(tenant.clone(), 0, seal(TENANT_SECRET), at());
        let (kind, id) = (TenantRecord::KIND, tenant.as_str());
        if let Err(error) = self.objects.system_put(kind, id, None, &record).await {
            assert!(error.is_conflict(), "{error}");
        }
    }

    /// Waits until the job has a delivery of this status.
    pub(crate) async fn delivery(&self, job: &JobId, status: DeliveryStatus) -> DeliveryView {
        self.wait_delivery(None, job, status).await
    }

    /// Waits until the job has a delivery of this status to this endpoint.
    pub(crate) async fn delivery_to(
        &self,
        endpoint: &str,
        job: &JobId,
        status: DeliveryStatus,
    ) -> DeliveryView {
        self.wait_delivery(Some(endpoint), job, status).await
    }

    async fn wait_delivery(
        &self,
        endpoint: Option<&str>,
        job: &JobId,
        status: DeliveryStatus,
    ) -> DeliveryView {
        let filter = DeliveryFilter {
            endpoint: endpoint.map(str::to_owned),
            job: Some(job.clone()),
            status: Some(status),
            ..DeliveryFilter::default()
        };
        wait_for(SOON, &format!("a delivery that is {status:?}"), || async {
            let page = self
                .jobstore
                .deliveries(&self.tenant, &filter, 10, None)
                .await
                .unwrap();
            page.rows.into_iter().next()
        })
        .await
        .unwrap()
    }

    /// Binds a queue to `photofinish.events`, once the topology is there.
    pub(crate) async fn bind(&self, queue: &str, routing_key: &str) {
        self.bind_with(queue, routing_key, json!({})).await;
    }

    /// The same of a queue with arguments.
    pub(crate) async fn bind_with(&self, queue: &str, routing_key: &str, arguments: Value) {
        tokio::time::timeout(SOON, self.broker.wait_ready())
            .await
            .unwrap();
        let vhost = self.rabbit.vhost();
        let path = format!("/api/queues/{vhost}/{queue}");
        let body = json!({"durable": true, "arguments": arguments});
        self.rabbit
            .call(Method::PUT, &path, Some(body))
            .await
            .unwrap();
        let path = format!("/api/bindings/{vhost}/e/photofinish.events/q/{queue}");
        let body = json!({"routing_key": routing_key});
        self.rabbit
            .call(Method::POST, &path, Some(body))
            .await
            .unwrap();
    }

    /// Waits for a message of a bound queue.
    pub(crate) async fn message(&self, queue: &str) -> Value {
        let path = format!("/api/queues/{}/{queue}/get", self.rabbit.vhost());
        let path = path.as_str();
        let body = json!({"count": 1, "ackmode": "ack_requeue_false", "encoding": "auto"});
        let what = format!("a message in {queue}");
        wait_for(SOON, &what, || {
            let body = body.clone();
            async move {
                let got = self
                    .rabbit
                    .call(Method::POST, path, Some(body))
                    .await
                    .unwrap();
                got.as_array()?.first().cloned()
            }
        })
        .await
        .unwrap()
    }
}

/// Seals a secret as ingest does.
pub(crate) fn seal(secret: &str) -> String {
    Sealer::new(KEY).unwrap().seal(secret)
}

/// The moment at which everything here happens.
pub(crate) fn at() -> Timestamp {
    "2026-11-22T10:00:00Z".parse().unwrap()
}

/// An event of a job.
pub(crate) fn event(job: &JobSnapshot, event: EventType, moment: Moment) -> JobEvent {
    JobEvent {
        job: job.job.clone(),
        tenant: job.tenant.clone(),
        run: job.run,
        event,
        sequence: sequence(job.run, moment),
        at: at(),
        changed: Vec::new(),
    }
}

/// A stored output.
pub(crate) fn stored(tenant: &Tenant, job: &JobId, index: u16) -> ItemState {
    ItemState::Stored(StoredOutput {
        key: format!("{tenant}/{job}/{index:04}-image{index}.r1.00000000.mp4"),
        bytes: 1000 + u64::from(index),
        sha256: "0".repeat(64),
        duration_s: 3.0,
        run: 1,
        attempt: 1,
        source: OutputSource::PulledInProgress,
    })
}

/// Verifies a webhook with Standard Webhooks' own library; gives its body.
pub(crate) fn verified(received: &Received, secret: &str) -> Value {
    let headers: &HeaderMap = &received.headers;
    let webhook = Webhook::new(secret).unwrap();
    webhook
        .verify(&received.body, headers)
        .expect("the signature is good");
    received.json().unwrap()
}

pub(crate) fn run_doc(tenant: &Tenant, items: u16, webhook_url: Option<&str>) -> RunDoc {
    let image = |index: u16| Image {
        id: format!("image{index}"),
        image_url: "https://example.com/image.jpg".to_owned(),
        duration_s: 3.0,
        motion: Motion::ZoomIn,
    };
    let task = Task::Img2vid(Img2vid {
        frame_rate: 30.0,
        width: 1920,
        height: 1080,
        fit: Fit::Cover,
        on_item_error: OnItemError::Fail,
        images: (0..items).map(image).collect(),
    });
    RunDoc {
        job: JobId::from_random(uuid::Uuid::new_v4().as_u128()),
        tenant: tenant.clone(),
        run: 1,
        plan: vec![PartPlan {
            part: 0,
            items: (0..items).collect(),
        }],
        forecast: photofinish_model::estimate::Forecast::default(),
        request: JobRequest {
            task,
            webhook_url: webhook_url.map(str::to_owned),
            priority: Priority::Normal,
            deadline_s: 3600,
            metadata: None,
        },
        receivers: webhook_url
            .map(|url| Whom::JobUrl {
                url: url.to_owned(),
            })
            .into_iter()
            .collect(),
        accepted_at: at(),
        deadline_at: at(),
        created_at: at(),
        body_sha256: "0".repeat(64),
        carried: Vec::new(),
    }
}
