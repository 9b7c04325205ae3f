//! An ingest in this process with servers of its own, a tenant with a key, and an AMQP user of the same name.

use photofinish_broker::{Broker, WorkQueue};
use photofinish_contract::messages::PlanMessage;
use photofinish_ingest::{app, config};
use photofinish_jobstore::JobStore;
use photofinish_kit::{Method, Rabbit, Redis, S3, wait_for};
use photofinish_model::Tenant;
use photofinish_objects::Objects;
use photofinish_runtime::Context;
use photofinish_runtime::config::{Sources, load};
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use std::time::Duration;

/// Longest wait for anything here.
pub(crate) const SOON: Duration = Duration::from_secs(20);
pub(crate) const OPERATOR: &str = "the operator's key";
pub(crate) const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// Everything that a test needs; ended on drop.
pub(crate) struct House {
    pub(crate) rabbit: Rabbit,
    pub(crate) broker: Broker,
    pub(crate) objects: Objects,
    pub(crate) jobstore: JobStore,
    pub(crate) tenant: Tenant,
    /// The tenant's API key.
    pub(crate) key: String,
    pub(crate) webhook_secret: String,
    pub(crate) http: reqwest::Client,
    base: String,
    s3: S3,
    ingest: Context,
    tester: Context,
}

impl Drop for House {
    fn drop(&mut self) {
        self.ingest.shutdown.cut();
        self.tester.shutdown.cut();
    }
}

impl House {
    pub(crate) async fn open() -> Self {
        let redis = Redis::fresh().unwrap();
        Self::with(&redis.url, &redis.prefix, &[]).await
    }

    pub(crate) async fn with(redis_url: &str, prefix: &str, more: &[(&str, &str)]) -> Self {
        photofinish_kit::install_crypto();
        let (rabbit, s3) = (Rabbit::fresh().await.unwrap(), S3::start().await.unwrap());
        let (amqp, endpoint, credentials) = (rabbit.url(), s3.endpoint(), s3.credentials());
        let mut overrides = vec![
            ("http.listen", "127.0.0.1:0"),
            ("links.public_url", "https://photofinish.example/"),
            ("auth.operator_key", OPERATOR),
            ("broker.url", amqp.as_str()),
            ("broker.management_url", rabbit.api()),
            ("broker.lanes", "2"),
            ("redis.url", redis_url),
            ("redis.prefix", prefix),
            ("redis.timeout_s", "2"),
            ("s3.endpoint", &endpoint),
            ("s3.bucket", s3.bucket()),
            ("s3.path_style", "true"),
            ("s3.access_key_id", &credentials.access_key),
            ("s3.secret_access_key", &credentials.secret_key),
            ("secrets.key", KEY),
            ("tokens.keys", KEY),
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
        let ingest = Context::detached("ingest");
        app::build(settings, ingest.clone()).await.unwrap();
        let base = format!("http://{}", ingest.ports.get("http").unwrap());
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        // A tenant of its own for each test: AMQP users belong to the whole node.
        let tenant: Tenant = format!("t-{}", uuid::Uuid::new_v4().simple())
            .parse()
            .unwrap();
        let mut house = Self {
            rabbit,
            broker,
            objects,
            jobstore,
            tenant,
            key: String::new(),
            webhook_secret: String::new(),
            http,
            base,
            s3,
            ingest,
            tester,
        };
        (house.webhook_secret, house.key) = house.make_tenant(house.tenant.as_str()).await;
        house
    }

    /// The webhook secret and an API key of a new tenant.
    pub(crate) async fn make_tenant(&self, name: &str) -> (String, String) {
        let made = self.admin("/v1/admin/tenants", json!({"id": name})).await;
        let keys = format!("/v1/admin/tenants/{name}/keys");
        let key = self.admin(&keys, json!({})).await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&made["webhook_secret"]), text(&key["key"]))
    }

    /// The file of an object of the bucket.
    pub(crate) fn bucket_file(&self, key: &str) -> std::path::PathBuf {
        self.s3.root().join(self.s3.bucket()).join(key)
    }

    /// Begins the end of ingest.
    pub(crate) fn stop(&self) {
        self.ingest.shutdown.stop();
    }

    /// Where ingest listens.
    pub(crate) fn address(&self) -> &str {
        self.base.trim_start_matches("http://")
    }

    async fn admin(&self, path: &str, body: Value) -> Value {
        let call = self
            .call(Method::POST, path)
            .bearer_auth(OPERATOR)
            .json(&body);
        let (status, answer) = ask(call).await;
        assert_eq!(status, 201, "{path}: {answer}");
        answer
    }

    pub(crate) fn call(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    /// A call with the tenant's key.
    pub(crate) fn mine(&self, method: Method, path: &str) -> RequestBuilder {
        self.call(method, path).bearer_auth(&self.key)
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        ask(self.mine(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        ask(self.mine(Method::POST, path).json(body)).await
    }

    pub(crate) async fn submit(&self, key: Option<&str>, body: &Value) -> (u16, Value) {
        let mut call = self.mine(Method::POST, "/v1/jobs").json(body);
        if let Some(key) = key {
            call = call.header("Idempotency-Key", key);
        }
        ask(call).await
    }

    /// The next message to the dispatcher, with its message id.
    pub(crate) async fn planned(&self) -> (PlanMessage, String) {
        let held = wait_for(SOON, "a message to the dispatcher", || async {
            self.broker.get(WorkQueue::Plan).await.ok().flatten()
        });
        let held = held.await.unwrap();
        let message = held.incoming().json().unwrap();
        let id = held.incoming().message_id.clone().unwrap();
        held.settle(photofinish_broker::Disposition::Ack).await;
        (message, id)
    }

    /// Asserts that the dispatcher was told nothing more.
    pub(crate) async fn nothing_planned(&self) {
        let look = || async { self.broker.get(WorkQueue::Plan).await.ok() };
        let left = wait_for(SOON, "a look at the queue", look).await.unwrap();
        assert!(left.is_none());
    }

    /// Makes the AMQP user of a name, who may publish through the management API.
    pub(crate) async fn amqp_user(&self, name: &str) {
        let user = json!({"password": "secret", "tags": "management"});
        self.rabbit
            .call(Method::PUT, &format!("/api/users/{name}"), Some(user))
            .await
            .unwrap();
        let all = json!({"configure": ".*", "write": ".*", "read": ".*"});
        let path = format!("/api/permissions/{}/{name}", self.rabbit.vhost());
        self.rabbit
            .call(Method::PUT, &path, Some(all))
            .await
            .unwrap();
    }

    /// Publishes to `photofinish.jobs` as the tenant's AMQP user.
    pub(crate) async fn publish(&self, routing_key: &str, properties: Value, body: &str) {
        self.publish_as(self.tenant.as_str(), routing_key, properties, body)
            .await;
    }

    pub(crate) async fn publish_as(
        &self,
        user: &str,
        routing_key: &str,
        properties: Value,
        body: &str,
    ) {
        self.broker.wait_ready().await;
        let path = format!(
            "/api/exchanges/{}/photofinish.jobs/publish",
            self.rabbit.vhost()
        );
        let api = self.rabbit.api();
        let host = api.rsplit('@').next().unwrap();
        let message = json!({"properties": properties, "routing_key": routing_key,
            "payload": body, "payload_encoding": "string"});
        let call = self
            .http
            .post(format!("http://{host}{path}"))
            .basic_auth(user, Some("secret"));
        let (status, answer) = ask(call.json(&message)).await;
        assert_eq!((status, &answer["routed"]), (200, &json!(true)), "{answer}");
    }

    pub(crate) async fn make_queue(&self, name: &str) {
        let path = format!("/api/queues/{}/{name}", self.rabbit.vhost());
        let durable = json!({"durable": true});
        self.rabbit
            .call(Method::PUT, &path, Some(durable))
            .await
            .unwrap();
    }

    /// The next message of any queue: the management API's description of it.
    pub(crate) async fn next_in(&self, queue: &str) -> Value {
        let path = format!("/api/queues/{}/{queue}/get", self.rabbit.vhost());
        let ask = json!({"count": 1, "ackmode": "ack_requeue_false", "encoding": "auto"});
        let next = wait_for(SOON, queue, || async {
            let got = self
                .rabbit
                .call(Method::POST, &path, Some(ask.clone()))
                .await
                .ok()?;
            got.as_array()?.first().cloned()
        });
        next.await.unwrap()
    }
}

/// Status and JSON of an answer.
pub(crate) async fn ask(call: RequestBuilder) -> (u16, Value) {
    let answer = call.send().await.unwrap();
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    (
        status,
        serde_json::from_str(&text).unwrap_or(Value::String(text)),
    )
}

/// A good job of so many pictures.
pub(crate) fn job(items: usize) -> Value {
    let images: Vec<Value> = (0..items)
        .map(|n| json!({"image_url": format!("https://example.com/{n}.jpg"), "duracao": 2.0}))
        .collect();
    json!({"operation": "img2vid", "images": images, "metadata": {"order": "A-17"}})
}
