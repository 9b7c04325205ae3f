//! Nobody waits for a tenant that floods, sends nonsense, leaves its answers lying, or reads nothing.

use crate::house::{House, SOON, job};
use crate::jobs::accepted;
use crate::streams::{Followed, follow, progress};
use photofinish_broker::WorkQueue;
use photofinish_jobstore::Logged;
use photofinish_kit::stranger::{Properties, Stranger};
use photofinish_kit::{Method, Redis, wait_until};
use photofinish_model::{JobSnapshot, JobStatus};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpSocket;

/// Messages of the tenant that floods, of the one that leaves its answers lying, of nonsense, and of who behaves.
const FLOOD: usize = 60;
const UNHEARD: usize = 40;
const NONSENSE: usize = 20;
const GOOD: usize = 10;

/// Publishes as a tenant's user, each body under an id of its own.
async fn send(house: &House, tenant: &str, bodies: &[Vec<u8>], reply_to: Option<&str>) {
    let url = house.rabbit.url_as(tenant, "secret");
    let mut stranger = Stranger::connect(&url).await.unwrap();
    for (number, body) in bodies.iter().enumerate() {
        let properties = Properties {
            message_id: Some(format!("m-{number}").into_bytes()),
            correlation_id: Some(number.to_string().into_bytes()),
            reply_to: reply_to.map(|queue| queue.as_bytes().to_vec()),
            user_id: Some(tenant.into()),
            persistent: true,
            ..Properties::default()
        };
        let sent = stranger.publish("photofinish.jobs", b"job.submit", &properties, body);
        sent.await.unwrap();
    }
    stranger.flush().await.unwrap();
}

/// A queue that takes nothing.
async fn full_queue(house: &House, name: &str) {
    let path = format!("/api/queues/{}/{name}", house.rabbit.vhost());
    let arguments = json!({"x-max-length": 0, "x-overflow": "reject-publish"});
    let queue = json!({"durable": true, "arguments": arguments});
    house
        .rabbit
        .call(Method::PUT, &path, Some(queue))
        .await
        .unwrap();
}

#[tokio::test]
async fn submissions_wait_for_no_other_tenants() {
    let redis = Redis::fresh().unwrap();
    let few = [("admission.submissions_concurrency", "4")];
    let house = House::with(&redis.url, &redis.prefix, &few).await;
    let flooding = house.tenant.to_string();
    let name = || format!("c-{}", uuid::Uuid::new_v4().simple());
    let (unheard, good) = (name(), name());
    for tenant in [&unheard, &good] {
        house.make_tenant(tenant).await;
    }
    for tenant in [&flooding, &unheard, &good] {
        house.amqp_user(tenant).await;
    }
    house.limit(json!({"quotas": {"requests_per_s": 1}})).await;
    let replies = format!("{unheard}.replies");
    full_queue(&house, &replies).await;
    house.broker.wait_ready().await;
    let fine = job(1).to_string().into_bytes();
    let mut nonsense = vec![vec![b' '; (1 << 20) + 1]; 2];
    nonsense.resize(NONSENSE, b"{\"images\": \xff".to_vec());
    send(&house, &flooding, &vec![fine.clone(); FLOOD], None).await;
    let bodies = [vec![fine.clone(); UNHEARD], nonsense].concat();
    send(&house, &unheard, &bodies, Some(&replies)).await;
    send(&house, &good, &vec![fine; GOOD], None).await;

    let mut planned: BTreeMap<String, usize> = BTreeMap::new();
    let count = |planned: &BTreeMap<String, usize>, tenant: &str| {
        planned.get(tenant).copied().unwrap_or_default()
    };
    while count(&planned, &good) < GOOD || count(&planned, &unheard) < UNHEARD {
        let told = accepted(house.planned().await.0);
        *planned.entry(told.tenant.to_string()).or_default() += 1;
    }
    // One a second of the flood is taken: it is far from over, and nobody waited for its end.
    assert!(count(&planned, &flooding) < FLOOD / 2, "{planned:?}");
    assert_eq!(count(&planned, &unheard), UNHEARD, "each once");
    let kept = house.all_in("photofinish.rejected", NONSENSE).await;
    assert_eq!(kept.len(), NONSENSE);
    assert_eq!(house.broker.depth(WorkQueue::Parked).await.unwrap(), 0);
}

#[tokio::test]
async fn a_stream_waits_for_no_other_client() {
    // Who reads nothing is not let go here: whoever waited for it would wait for ever.
    let redis = Redis::fresh().unwrap();
    let limits = [
        ("http.streams_per_tenant_max", "2"),
        ("http.write_timeout_s", "600"),
    ];
    let house = House::with(&redis.url, &redis.prefix, &limits).await;
    let mut body = job(1);
    body["metadata"] = json!({"text": "x".repeat(15_000)});
    let (_, shown) = house.submit(None, &body).await;
    let id = shown["id"].as_str().unwrap();
    let known = house.jobstore.job(&id.parse().unwrap()).await;
    let snapshot = known.unwrap().unwrap();
    // More than its socket holds.
    let events = 300;
    for settled in 1..=events {
        let event = progress(&snapshot, settled);
        let logged = house.jobstore.log_event(&event, Duration::ZERO).await;
        assert_eq!(logged.unwrap(), Logged::New);
    }
    let deaf = TcpSocket::new_v4().unwrap();
    deaf.set_recv_buffer_size(4096).unwrap();
    let mut deaf = deaf
        .connect(house.address().parse().unwrap())
        .await
        .unwrap();
    let ask = format!(
        "GET /v1/jobs/{id}/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n",
        house.key
    );
    deaf.write_all(ask.as_bytes()).await.unwrap();
    let mut stream = Followed::open(follow(&house, id, None)).await;
    let full = || async { follow(&house, id, None).send().await.unwrap().status() == 429 };
    wait_until(SOON, "both follow", full).await.unwrap();
    for sequence in 0..=events {
        // The first is the acceptance.
        let beyond = if sequence == 0 { 0 } else { 2 };
        let told = stream.next().await.unwrap().0;
        assert_eq!(told, 10_000_000 + beyond + u64::from(sequence));
    }
    let end = JobSnapshot {
        status: JobStatus::Cancelled,
        finished_at: Some(snapshot.created_at),
        ..snapshot
    };
    let _recorded = house.jobstore.finish(&end).await.unwrap();
    assert_eq!(stream.next().await.unwrap().0, 19_999_999);
    assert_eq!(stream.next().await, None);
    drop(deaf);
}
