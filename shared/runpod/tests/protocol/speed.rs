//! Nothing stands between a worker and its next job.

use std::time::{Duration, Instant};

use photofinish_runpod::worker::{Worker, WorkerSettings};
use tokio_util::sync::CancellationToken;

use crate::server::{Server, Then};
use crate::working::{Working, echo, env, give, healthy, job};

/// The best of many: a busy machine may spoil any one of them.
const ROUNDS: usize = 30;

#[tokio::test]
async fn an_empty_jobs_result_and_the_next_poll_come_within_milliseconds() {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let server = Server::start(move |seen| match seen.operation() {
        "job-take" => {
            let n = next.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            give(&job(&format!("j{n}"))).after(Duration::from_millis(20))
        }
        _ => healthy(seen),
    })
    .await;
    let _working = Working::start(&server, WorkerSettings::default(), echo);
    server.count("job-take", ROUNDS + 1).await;
    let (takes, posts) = (server.of("job-take"), server.of("job-done"));
    let handed = |n: usize| takes[n].at + Duration::from_millis(20);
    let result = (0..ROUNDS).map(|n| posts[n].at.saturating_duration_since(handed(n)));
    let again = (0..ROUNDS).map(|n| takes[n + 1].at.saturating_duration_since(posts[n].at));
    let (result, again) = (result.min().unwrap(), again.min().unwrap());
    println!("hand-out to result {result:?}, result to next poll {again:?}");
    assert!(result < Duration::from_millis(5), "{result:?}");
    assert!(again < Duration::from_millis(19), "{again:?}");
}

#[tokio::test]
async fn the_first_poll_does_not_wait_for_the_first_ping() {
    let server = Server::start(|seen| match seen.operation() {
        "ping" => Then::Hang,
        _ => healthy(seen),
    })
    .await;
    let mut best = Duration::MAX;
    for round in 1..=5 {
        let began = Instant::now();
        let worker = Worker::start(env(&server.url, &[]), WorkerSettings::default()).unwrap();
        let started = began.elapsed();
        let shutdown = CancellationToken::new();
        let mut side = tokio::task::JoinSet::new();
        side.spawn(worker.run(echo, shutdown.clone()));
        let takes = server.count("job-take", round).await;
        let polled = takes[round - 1].at - began;
        println!("Worker::start {started:?}, first poll after {polled:?}");
        best = best.min(polled);
        shutdown.cancel();
        side.join_next().await.unwrap().unwrap();
    }
    assert!(best < Duration::from_millis(75), "{best:?}");
}
