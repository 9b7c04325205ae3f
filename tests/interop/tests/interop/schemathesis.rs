//! Schemathesis against a real ingest: it makes calls from the served OpenAPI document, good and bad, and holds every
//! answer against what the document says.

use photofinish_ingest::{app, config};
use photofinish_interop::tool;
use photofinish_kit::{Rabbit, Redis, S3};
use photofinish_runtime::Context;
use photofinish_runtime::config::{Sources, load};
use serde_json::{Value, json};
use tokio::process::Command;

const OPERATOR: &str = "the-operators-key";
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
/// What an answer must never be: a fault of ours, or something that the document does not know.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_headers_conformance,response_schema_conformance,allow_header_conformance";
/// Seconds for the tenant's calls, and for the operator's.
const BUDGET_S: &str = "25";

#[tokio::test(flavor = "multi_thread")]
async fn no_call_is_answered_otherwise_than_the_document_says() {
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
    let base = format!("http://{}", ingest.ports.get("http").unwrap());
    let key = tenants_key(&base).await;
    for (key, which) in [(key.as_str(), "--exclude-tag"), (OPERATOR, "--include-tag")] {
        let answer = Command::new(tool("venv/bin/schemathesis").unwrap())
            .args(["run", &format!("{base}/openapi.json"), which, "admin"])
            .args(["--header", &format!("Authorization: Bearer {key}")])
            .args([
                "--checks",
                CHECKS,
                "--max-time",
                BUDGET_S,
                "--max-examples",
                "20",
            ])
            .args([
                "--phases",
                "examples,coverage,fuzzing",
                "--seed",
                "1",
                "--no-color",
            ])
            .output()
            .await
            .unwrap();
        let told = String::from_utf8_lossy(&answer.stdout);
        assert!(
            answer.status.success(),
            "{told}{}",
            String::from_utf8_lossy(&answer.stderr)
        );
    }
    ingest.shutdown.cut();
}

/// An API key of a new tenant.
async fn tenants_key(base: &str) -> String {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let post = |path: &str, body: Value| {
        http.post(format!("{base}{path}"))
            .bearer_auth(OPERATOR)
            .json(&body)
            .send()
    };
    post("/v1/admin/tenants", json!({"id": "acme"}))
        .await
        .unwrap();
    let made = post("/v1/admin/tenants/acme/keys", json!({}))
        .await
        .unwrap();
    let made: Value = made.json().await.unwrap();
    made["key"].as_str().unwrap().to_owned()
}
