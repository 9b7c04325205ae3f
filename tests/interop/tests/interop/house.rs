//! An ingest in this process, with servers of its own and a tenant.

use photofinish_ingest::{app, config};
use photofinish_kit::{Method, Rabbit, Redis, S3};
use photofinish_runtime::Context;
use photofinish_runtime::config::{Sources, load};
use serde_json::{Value, json};

pub(crate) const OPERATOR: &str = "the-operators-key";
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// An ingest with a tenant who is an AMQP user, too.
pub(crate) struct House {
    pub(crate) rabbit: Rabbit,
    pub(crate) tenant: String,
    pub(crate) key: String,
    pub(crate) base: String,
    pub(crate) http: reqwest::Client,
    ingest: Context,
    _s3: S3,
}

impl House {
    pub(crate) async fn open() -> Self {
        photofinish_kit::install_crypto();
        let (rabbit, redis) = (Rabbit::fresh().await.unwrap(), Redis::fresh().unwrap());
        let s3 = S3::start().await.unwrap();
        let (amqp, endpoint, credentials) = (rabbit.url(), s3.endpoint(), s3.credentials());
        let overrides = [
            ("http.listen", "127.0.0.1:0"),
            ("auth.operator_key", OPERATOR),
            ("broker.url", amqp.as_str()),
            ("broker.lanes", "2"),
            ("redis.url", &redis.url),
            ("redis.prefix", &redis.prefix),
            ("s3.endpoint", &endpoint),
            ("s3.bucket", s3.bucket()),
            ("s3.path_style", "true"),
            ("s3.access_key_id", &credentials.access_key),
            ("s3.secret_access_key", &credentials.secret_key),
            ("secrets.key", KEY),
            ("tokens.keys", KEY),
        ];
        let overrides = overrides.map(|(path, value)| (path.to_owned(), value.to_owned()));
        let sources = Sources {
            defaults: config::defaults(),
            overrides: overrides.into(),
            ..Sources::default()
        };
        let ingest = Context::detached("ingest");
        app::build(load(&sources).unwrap(), ingest.clone())
            .await
            .unwrap();
        // AMQP users belong to the whole node.
        let tenant = rabbit.vhost().to_owned();
        let all = (".*", ".*", ".*");
        rabbit.user(&tenant, "secret", all).await.unwrap();
        let mut house = Self {
            base: format!("http://{}", ingest.ports.get("http").unwrap()),
            http: photofinish_kit::client().unwrap(),
            key: OPERATOR.to_owned(),
            rabbit,
            tenant,
            ingest,
            _s3: s3,
        };
        let wish = json!({"id": house.tenant});
        house.call(Method::POST, "/v1/admin/tenants", wish).await;
        let keys = format!("/v1/admin/tenants/{}/keys", house.tenant);
        let made = house.call(Method::POST, &keys, json!({})).await;
        made["key"].as_str().unwrap().clone_into(&mut house.key);
        house
    }

    pub(crate) async fn call(&self, method: Method, path: &str, body: Value) -> Value {
        let call = self.http.request(method, format!("{}{path}", self.base));
        let answer = call.bearer_auth(&self.key).json(&body).send().await;
        let answer = answer.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.ingest.shutdown.cut();
    }
}
