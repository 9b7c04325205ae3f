//! The circuit breaker, over the wire: what is not sent, and what is tried.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use metrics::{Counter, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, SharedString, Unit};
use photofinish_runpod::client::{BreakerPolicy, Client, ClientSettings, RunError, StatusError};
use serde_json::json;

use crate::client::{request, settings};
use crate::server::{Server, Then};

/// A server that answers 500 until it is told to be well again, and a client with quick breakers.
async fn ailing() -> (Server, Arc<AtomicBool>, Client) {
    let well = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&well);
    let server = Server::start(move |_| {
        if told.load(Ordering::SeqCst) {
            Then::json(200, &json!({"id": "a", "status": "IN_QUEUE", "jobs": {}}))
        } else {
            Then::json(500, &json!({"detail": "on fire"}))
        }
    })
    .await;
    let policy = BreakerPolicy {
        failures_max: 3,
        open_min: Duration::from_millis(300),
        open_max: Duration::from_secs(1),
    };
    let quick = ClientSettings {
        submit_breaker: policy,
        question_breaker: policy,
        ..settings(&server.url)
    };
    (server, well, Client::new(quick).unwrap())
}

/// Submits until one is let out; what came of it.
async fn until_let_out(client: &Client) -> Result<(), RunError> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        assert!(Instant::now() < deadline, "never let out");
        match client.run("ep", &request()).await {
            Err(RunError::Open { retry_after }) => {
                assert!(retry_after <= Duration::from_secs(1));
                tokio::time::sleep(Duration::from_millis(10)).await; // paced: between two looks
            }
            other => return other.map(drop),
        }
    }
}

#[tokio::test]
async fn an_open_breaker_sends_nothing_tries_one_and_closes_with_its_answer() {
    let (server, well, client) = ailing().await;
    for _ in 0..3 {
        assert!(client.submits_refused_for("ep").is_none());
        let error = client.run("ep", &request()).await.unwrap_err();
        assert!(!error.is_refused(), "a 500 may be queued: {error:?}");
    }
    let error = client.run("ep", &request()).await.unwrap_err();
    assert!(matches!(error, RunError::Open { .. }), "{error:?}");
    assert!(error.is_refused() && error.retry_after().is_some());
    assert!(client.submits_refused_for("ep").is_some());
    assert_eq!(server.seen().len(), 3, "nothing was sent");
    assert!(
        client
            .status("ep", "id")
            .await
            .is_err_and(|error| !matches!(error, StatusError::NotAsked { .. }))
    );
    assert!(client.submits_refused_for("other").is_none());
    // The first try fails, and the wait begins anew.
    let probe = until_let_out(&client).await;
    assert!(matches!(probe, Err(RunError::Unknown(_))));
    assert_eq!(server.of("v2").len(), 5);
    assert!(matches!(
        client.run("ep", &request()).await,
        Err(RunError::Open { .. })
    ));
    well.store(true, Ordering::SeqCst);
    until_let_out(&client).await.unwrap();
    for _ in 0..20 {
        client.run("ep", &request()).await.unwrap();
    }
}

#[tokio::test]
async fn of_many_at_once_one_alone_is_the_try() {
    let (server, _well, client) = ailing().await;
    for _ in 0..3 {
        drop(client.run("ep", &request()).await);
    }
    while client.submits_refused_for("ep").is_some() {
        tokio::time::sleep(Duration::from_millis(5)).await; // paced: between two looks
    }
    let one = request();
    let all = (0..20).map(|_| client.run("ep", &one));
    let results = futures_util::future::join_all(all).await;
    let open = results
        .iter()
        .filter(|result| matches!(result, Err(RunError::Open { .. })));
    assert_eq!((open.count(), server.seen().len()), (19, 4));
}

#[tokio::test]
async fn questions_have_a_breaker_of_their_own_and_refusals_do_not_open_it() {
    let (server, _well, client) = ailing().await;
    for _ in 0..3 {
        drop(client.status("ep", "id").await);
    }
    let error = client.health("ep").await.unwrap_err();
    assert!(matches!(error, StatusError::NotAsked { .. }) && error.is_transient());
    assert_eq!(server.seen().len(), 3);
    assert!(client.submits_refused_for("ep").is_none(), "submits go on");
    let refusing = Server::start(|_| Then::json(404, &json!({}))).await;
    let client = Client::new(settings(&refusing.url)).unwrap();
    for _ in 0..30 {
        assert!(matches!(
            client.status("ep", "id").await,
            Err(StatusError::NotFound { .. })
        ));
        assert!(matches!(
            client.run("ep", &request()).await,
            Err(RunError::Refused { status: 404, .. })
        ));
    }
}

#[tokio::test]
async fn a_burst_of_429_opens_it_for_as_long_as_runpod_asks() {
    let server = Server::start(|_| Then::status(429).with("retry-after", "30")).await;
    let client = Client::new(settings(&server.url)).unwrap();
    for _ in 0..5 {
        let error = client.run("ep", &request()).await.unwrap_err();
        assert_eq!(error.retry_after(), Some(Duration::from_secs(30)));
    }
    let wait = client.submits_refused_for("ep").unwrap();
    assert!(
        wait > Duration::from_secs(29) && wait <= Duration::from_secs(30),
        "{wait:?}"
    );
}

/// Gauges by name and labels.
#[derive(Debug, Default)]
struct Gauges(Mutex<BTreeMap<String, Arc<Last>>>);

#[derive(Debug, Default)]
struct Last(Mutex<f64>);

impl GaugeFn for Last {
    fn increment(&self, value: f64) {
        *self.0.lock().unwrap() += value;
    }
    fn decrement(&self, value: f64) {
        *self.0.lock().unwrap() -= value;
    }
    fn set(&self, value: f64) {
        *self.0.lock().unwrap() = value;
    }
}

impl metrics::Recorder for Gauges {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        let mut gauges = self.0.lock().unwrap();
        Gauge::from_arc(Arc::clone(gauges.entry(key.to_string()).or_default()))
    }
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[tokio::test]
async fn its_state_is_a_metric() {
    let gauges = Gauges::default();
    let _here = metrics::set_default_local_recorder(&gauges);
    let state = || {
        let gauges = gauges.0.lock().unwrap();
        let found = gauges.iter().find(|(key, _)| {
            key.contains("photofinish_runpod_breaker_state") && key.contains("submits")
        });
        found.map(|(_, last)| *last.0.lock().unwrap())
    };
    let (_server, well, client) = ailing().await;
    for _ in 0..3 {
        drop(client.run("ep", &request()).await);
    }
    assert_eq!(state(), Some(2.0), "open");
    well.store(true, Ordering::SeqCst);
    until_let_out(&client).await.unwrap();
    assert_eq!(state(), Some(0.0), "closed");
}
