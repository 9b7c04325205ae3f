//! No secret in any log, however much is logged.

use crate::house::{House, OPERATOR, ask, job};
use photofinish_kit::Method;
use serde_json::{Value, json};
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// All that was logged.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        log.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn no_key_password_or_signing_secret_is_ever_logged() {
    let log = Log::default();
    let writer = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(log.clone());
    // The test's own client speaks through hyper, as the product does not.
    let wanted = Targets::new()
        .with_default(LevelFilter::TRACE)
        .with_target("hyper", LevelFilter::INFO)
        .with_target("hyper_util", LevelFilter::INFO);
    // A test before, in this process, may have its own.
    let ours = tracing_subscriber::registry()
        .with(wanted)
        .with(writer)
        .try_init();
    assert!(ours.is_ok(), "run by nextest: each test is a process");
    let house = House::open().await;
    let mut secrets = vec![
        house.key.clone(),
        house.webhook_secret.clone(),
        OPERATOR.to_owned(),
    ];
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (_, operator) = house.operate(Method::POST, "/operator-keys", None).await;
    secrets.push(text(&operator["key"]));
    let path = format!("/tenants/{}/amqp-user", house.tenant);
    let (_, user) = house.operate(Method::POST, &path, None).await;
    secrets.push(text(&user["password"]));
    let hook = json!({"url": "https://example.com/hook"});
    let (_, endpoint) = house.post("/v1/webhook-endpoints", &hook).await;
    secrets.push(text(&endpoint["secret"]));
    let (status, _) = house.submit(Some("k"), &job(1)).await;
    assert_eq!(status, 202);
    let invented = format!("{}x", &house.key[..53]);
    secrets.push(invented.clone());
    let refused = house
        .call(Method::GET, "/v1/jobs")
        .header("X-API-Key", &invented);
    assert_eq!(ask(refused).await.0, 401);
    let hook = "a-token-that-opens-nothing.but-is-one";
    secrets.push(hook.to_owned());
    house
        .call(Method::POST, &format!("/hooks/runpod/{hook}"))
        .send()
        .await
        .unwrap();

    let logged = log.text();
    assert!(logged.contains("an operator's act"), "it was logged at all");
    for secret in secrets {
        // Of a key the first eight characters are shown to people; its end to nobody.
        let end = &secret[secret.len().saturating_sub(20)..];
        let told = logged.lines().find(|line| line.contains(end));
        assert!(told.is_none(), "{told:?}");
    }
}
