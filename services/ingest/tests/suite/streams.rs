//! What happens to a job, followed as it happens.

use crate::house::{House, SOON, ask, job};
use crate::jobs::{accepted, half_done, redis_flush, run_doc};
use photofinish_broker::{Outgoing, Target};
use photofinish_contract::event::EventType;
use photofinish_contract::messages::JobEvent;
use photofinish_jobstore::{EVENTS_PAGE_MAX, Logged};
use photofinish_kit::{Method, RedisServer, wait_until};
use photofinish_model::sequence::{Moment, sequence};
use photofinish_model::{JobSnapshot, JobStatus};
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// Streams look by themselves after five seconds: what comes sooner was a wake-up.
const WOKEN: Duration = Duration::from_millis(4500);

/// A stream as a client reads it.
pub(crate) struct Followed {
    answer: Response,
    text: String,
}

impl Followed {
    pub(crate) async fn open(call: RequestBuilder) -> Self {
        let answer = call.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        assert!(answer.headers().get("content-encoding").is_none());
        let text = String::new();
        Self { answer, text }
    }

    /// Id, type and body of the next event; nothing at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<(u64, String, Value)> {
        let next = async {
            loop {
                if let Some((event, rest)) = self.text.split_once("\n\n") {
                    let (event, rest) = (event.to_owned(), rest.to_owned());
                    self.text = rest;
                    let field = |name: &str| {
                        let mut lines = event.lines();
                        lines
                            .find_map(|line| line.strip_prefix(name))
                            .map(str::to_owned)
                    };
                    // A comment is no event.
                    let Some(id) = field("id: ") else { continue };
                    let body = serde_json::from_str(&field("data: ").unwrap()).unwrap();
                    return Some((id.parse().unwrap(), field("event: ").unwrap(), body));
                }
                let chunk = self.answer.chunk().await.ok().flatten()?;
                self.text.push_str(std::str::from_utf8(&chunk).unwrap());
            }
        };
        timeout(SOON, next).await.unwrap()
    }
}

pub(crate) fn follow(house: &House, job: &str, after: Option<u64>) -> RequestBuilder {
    let call = house.mine(Method::GET, &format!("/v1/jobs/{job}/events"));
    let call = call.header("accept", "text/event-stream");
    match after {
        Some(after) => call.header("last-event-id", after.to_string()),
        None => call,
    }
}

/// Tells an event as the notifier does.
async fn tell(house: &House, event: &JobEvent) {
    let logged = house
        .jobstore
        .log_event(event, Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(logged, Logged::New);
    let routing_key = format!("{}.job.img2vid.{}", house.tenant, event.event.last_word());
    let body = json!({"subject": event.job});
    let outgoing = Outgoing::json(Target::Events { routing_key }, &body).unwrap();
    house.broker.publisher().publish(outgoing).await.unwrap();
}

pub(crate) fn progress(job: &JobSnapshot, settled: u32) -> JobEvent {
    JobEvent {
        job: job.job.clone(),
        tenant: job.tenant.clone(),
        run: 1,
        event: EventType::JobProgress,
        sequence: sequence(1, Moment::Progress(settled)),
        at: job.created_at,
        changed: vec![0],
    }
}

#[tokio::test]
async fn a_stream_tells_what_happens_as_it_happens_and_ends_with_the_run() {
    let house = House::open().await;
    let (_, shown) = house.submit(None, &job(2)).await;
    let id = shown["id"].as_str().unwrap();
    let snapshot = house
        .jobstore
        .job(&id.parse().unwrap())
        .await
        .unwrap()
        .unwrap();
    let mut stream = Followed::open(follow(&house, id, None)).await;
    let (first, kind, body) = stream.next().await.unwrap();
    assert_eq!((first, kind.as_str()), (10_000_000, "job.accepted"));
    assert_eq!(
        (&body["type"], &body["sequence"]),
        (&json!(kind), &json!(first))
    );
    assert_eq!(
        (&body["data"]["id"], &body["data"]["status"]),
        (&json!(id), &json!("accepted"))
    );

    for settled in [1, 2] {
        let told = Instant::now();
        tell(&house, &progress(&snapshot, settled)).await;
        let (sequence, kind, body) = stream.next().await.unwrap();
        assert_eq!(
            (sequence, kind.as_str()),
            (10_000_002 + u64::from(settled), "job.progress")
        );
        assert_eq!(body["changed"][0]["item"], "image1");
        assert!(body["data"].get("outputs").is_none());
        assert!(
            told.elapsed() < WOKEN,
            "woken, not found: {:?}",
            told.elapsed()
        );
    }
    let end = JobSnapshot {
        status: JobStatus::Cancelled,
        finished_at: Some(snapshot.created_at),
        ..snapshot
    };
    let _recorded = house.jobstore.finish(&end).await.unwrap();
    let (last, kind, body) = stream.next().await.unwrap();
    assert_eq!((last, kind.as_str()), (19_999_999, "job.cancelled"));
    assert_eq!(body["data"]["outputs"].as_array().unwrap().len(), 2);
    assert_eq!(stream.next().await, None, "it ends");

    let mut again = Followed::open(follow(&house, id, Some(10_000_003))).await;
    let ids = [again.next().await.unwrap().0, again.next().await.unwrap().0];
    assert_eq!((ids, again.next().await), ([10_000_004, 19_999_999], None));
    let over = follow(&house, id, Some(last)).send().await.unwrap();
    assert_eq!(over.status(), 204, "a browser need not come again");
    let odd = follow(&house, id, None).header("last-event-id", "x");
    let (status, problem) = ask(odd).await;
    assert_eq!((status, &problem["code"]), (422, &json!("invalid_request")));
    let (_, other) = house.make_tenant("somebody-else").await;
    let path = format!("/v1/jobs/{id}/events");
    let (status, _) = ask(house.call(Method::GET, &path).bearer_auth(other)).await;
    assert_eq!(status, 404, "another tenant's job");
}

#[tokio::test]
async fn a_long_log_is_told_whole_before_the_end() {
    let house = House::open().await;
    let (_, shown) = house.submit(None, &job(2)).await;
    let id = shown["id"].as_str().unwrap().to_owned();
    let known = house.jobstore.job(&id.parse().unwrap()).await;
    let snapshot = known.unwrap().unwrap();
    let settled = EVENTS_PAGE_MAX as u32 + 5;
    for settled in 1..=settled {
        let event = progress(&snapshot, settled);
        let logged = house.jobstore.log_event(&event, Duration::ZERO).await;
        assert_eq!(logged.unwrap(), Logged::New);
    }
    let end = JobSnapshot {
        status: JobStatus::Cancelled,
        finished_at: Some(snapshot.created_at),
        ..snapshot
    };
    let _recorded = house.jobstore.finish(&end).await.unwrap();
    let begun = Instant::now();
    let mut stream = Followed::open(follow(&house, &id, Some(10_000_002))).await;
    for settled in 1..=settled {
        let told = stream.next().await.unwrap().0;
        assert_eq!(told, 10_000_002 + u64::from(settled));
    }
    assert_eq!(stream.next().await.unwrap().0, 19_999_999);
    assert_eq!(stream.next().await, None);
    assert!(begun.elapsed() < WOKEN, "without waiting between two pages");
}

#[tokio::test]
async fn what_redis_has_lost_the_bucket_still_tells() {
    let redis = RedisServer::start().await.unwrap();
    let house = House::with(&redis.url(), "x:", &[]).await;
    let end = half_done(&house).await;
    redis_flush(&redis.url()).await.unwrap();
    let mut stream = Followed::open(follow(&house, end.job.as_str(), None)).await;
    let mut kinds = Vec::new();
    while let Some((_, kind, _)) = stream.next().await {
        kinds.push(kind);
    }
    assert_eq!(kinds, ["job.accepted", "job.started", "job.failed"]);
}

#[tokio::test]
async fn streams_are_limited_and_end_with_the_process() {
    let redis = photofinish_kit::Redis::fresh().unwrap();
    let limits = [("http.streams_per_tenant_max", "1")];
    let house = House::with(&redis.url, &redis.prefix, &limits).await;
    house.submit(None, &job(1)).await;
    let told = accepted(house.planned().await.0);
    house
        .objects
        .put_run(&run_doc(&house, &told, &job(1)))
        .await
        .unwrap();
    let id = told.job.as_str();
    let mut stream = Followed::open(follow(&house, id, None)).await;
    assert!(stream.next().await.is_some());
    let refused = follow(&house, id, None).send().await.unwrap();
    assert_eq!(refused.status(), 429);
    assert!(refused.headers().contains_key("retry-after"));
    drop(stream);
    let free = || async { follow(&house, id, None).send().await.unwrap().status() == 200 };
    wait_until(SOON, "the seat is free again", free)
        .await
        .unwrap();

    let mut stream = None;
    let seated = || async { follow(&house, id, None).send().await.ok() };
    while stream.is_none() {
        stream = seated().await.filter(|answer| answer.status() == 200);
    }
    let mut stream = Followed {
        answer: stream.unwrap(),
        text: String::new(),
    };
    assert!(stream.next().await.is_some());
    house.stop();
    assert_eq!(stream.next().await, None);
}
