//! How a worker ends: told to stop, refreshed, or thawed after everybody had given it up.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use photofinish_runpod::worker::{Clocks, Job, JobContext, JobOutcome, Reading, WorkerSettings};
use serde_json::json;
use tokio::sync::Notify;

use crate::server::{Server, Then};
use crate::working::{Gate, Working, echo, error_of, give, healthy, in_turn, job, job_of, quick};

/// A server that hands a job so long after the poll was opened.
async fn late_job(after: Duration) -> Server {
    Server::start(move |seen| match seen.operation() {
        "job-take" => give(&job("late")).after(after),
        _ => healthy(seen),
    })
    .await
}

#[tokio::test]
async fn a_job_that_is_handed_over_at_the_last_moment_is_never_lost() {
    // Around the moment of the signal, to both sides of the end of the grace.
    let (mut returned, mut cut) = (0, 0);
    for after_ms in [180, 200, 205, 240, 290, 298, 300, 302, 305, 350, 600] {
        let server = late_job(Duration::from_millis(after_ms)).await;
        let settings = WorkerSettings {
            take_grace: Duration::from_millis(100),
            ..quick()
        };
        let mut working = Working::start(&server, settings, echo);
        let opened = server.count("job-take", 1).await[0].at;
        tokio::time::sleep_until((opened + Duration::from_millis(200)).into()).await; // paced: the signal's moment
        working.shutdown.cancel();
        let signalled = Instant::now();
        let took = working.ended().await;
        assert!(took < Duration::from_secs(5), "{took:?}");
        let handed = opened + Duration::from_millis(after_ms);
        let posts = server.of("job-done");
        let pinged = server
            .of("ping")
            .iter()
            .any(|ping| ping.target.contains("late"));
        match posts.as_slice() {
            // Never named in a ping: RunPod runs it again.
            [] => {
                assert!(!pinged, "{after_ms}: pinged and then forgotten");
                cut += 1;
            }
            [post] if post.json()["error"].is_null() => {
                let late = handed.saturating_duration_since(signalled);
                assert!(
                    late < Duration::from_millis(30),
                    "{after_ms}: done after the signal"
                );
            }
            [post] => {
                assert_eq!(error_of(post)["error_type"], "worker_stopping");
                returned += 1;
            }
            more => unreachable!("{more:?}"),
        }
        let asked = server.of("job-take");
        let after = asked
            .iter()
            .filter(|take| take.at > signalled + Duration::from_millis(50));
        assert_eq!(after.count(), 0, "{after_ms}: polled after the signal");
    }
    assert!(
        returned >= 1 && cut >= 1,
        "{returned} returned, {cut} cut off"
    );
}

#[tokio::test]
async fn running_jobs_are_told_and_their_results_posted_whatever_the_post_meets() {
    let posts = AtomicUsize::new(0);
    let take = in_turn("job-take-batch", vec![give(&json!([job("a"), job("b")]))]);
    let server = Server::start(move |seen| match seen.operation() {
        "job-done" if posts.fetch_add(1, Ordering::SeqCst) < 2 => Then::status(500),
        _ => take(seen),
    })
    .await;
    let settings = WorkerSettings {
        concurrency: 2,
        drain_max: Duration::from_millis(600),
        ..quick()
    };
    // One ends as told, the other never does.
    let handler = |job: Job, context: JobContext| async move {
        if job.id == "b" {
            std::future::pending::<()>().await;
        }
        context.stopping.cancelled().await;
        JobOutcome::done(json!("what there was"))
    };
    let mut working = Working::start(&server, settings, handler);
    server
        .until("both in hand", |seen| {
            let named = |seen: &crate::server::Seen| seen.target.contains("job_id=a%2Cb&");
            seen.iter().any(named).then_some(())
        })
        .await;
    working.shutdown.cancel();
    working.ended().await;
    let posts = server.of("job-done");
    let last = |id: &str| {
        posts
            .iter()
            .rfind(|seen| job_of(seen) == id)
            .unwrap()
            .clone()
    };
    assert_eq!(last("a").json(), json!({"output": "what there was"}));
    assert_eq!(error_of(&last("b"))["error_type"], "worker_stopping");
    // Pinged to the end.
    let pinged = server.of("ping").last().unwrap().at;
    assert!(last("b").at.saturating_duration_since(pinged) < Duration::from_millis(400));
}

#[tokio::test]
async fn after_so_many_jobs_the_last_result_asks_for_a_fresh_worker_and_the_loop_ends() {
    let next = AtomicUsize::new(0);
    let server = Server::start(move |seen| match seen.operation() {
        "job-take" => give(&job(&format!("j{}", next.fetch_add(1, Ordering::SeqCst)))),
        _ => healthy(seen),
    })
    .await;
    let settings = WorkerSettings {
        refresh_after_jobs: 3,
        ..quick()
    };
    let mut working = Working::start(&server, settings, echo);
    working.ended().await;
    let posts = server.of("job-done");
    let stops: Vec<bool> = posts
        .iter()
        .map(|post| post.json()["stopPod"] == true)
        .collect();
    assert_eq!(stops, [false, false, true]);
    assert_eq!(server.of("job-take").len(), 3, "and none is taken any more");
}

#[tokio::test]
async fn with_several_jobs_at_once_only_the_very_last_result_asks_for_a_fresh_worker() {
    let gate = Gate::default();
    let posts = AtomicUsize::new(0);
    let take = in_turn(
        "job-take-batch",
        vec![give(&json!([job("a"), job("b"), job("c")]))],
    );
    let server = Server::start(move |seen| match seen.operation() {
        // The first one to be posted needs a second try: the others wait for it.
        "job-done" if posts.fetch_add(1, Ordering::SeqCst) == 0 => Then::status(500),
        _ => take(seen),
    })
    .await;
    let settings = WorkerSettings {
        concurrency: 5,
        refresh_after_jobs: 3,
        ..quick()
    };
    let mut working = Working::start(&server, settings, gate.handler());
    let asked = server.count("job-take-batch", 1).await;
    assert!(
        asked[0].target.contains("batch_size=3&"),
        "no more than are left"
    );
    for id in ["a", "b", "c"] {
        gate.let_go(id);
    }
    working.ended().await;
    let posts = server.of("job-done");
    let stops: Vec<bool> = posts
        .iter()
        .map(|post| post.json()["stopPod"] == true)
        .collect();
    assert_eq!(stops, [false, false, false, true]);
    assert_eq!(server.of("job-take-batch").len(), 1);
}

#[tokio::test]
async fn a_result_that_is_slow_to_arrive_is_not_overtaken_by_the_one_that_asks_for_a_fresh_worker()
{
    let gate = Gate::default();
    let (takes, refused) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let posted = Arc::clone(&refused);
    let server = Server::start(move |seen| match seen.operation() {
        "job-take-batch" => give(&job("a")),
        // The last one is handed out once the first result has been refused, and still is.
        "job-take" if posted.load(Ordering::SeqCst) == 0 => Then::status(204),
        "job-take" if takes.fetch_add(1, Ordering::SeqCst) == 0 => give(&job("b")),
        "job-done" if job_of(seen) == "a" && posted.fetch_add(1, Ordering::SeqCst) < 5 => {
            Then::status(500)
        }
        _ => healthy(seen),
    })
    .await;
    let settings = WorkerSettings {
        concurrency: 2,
        refresh_after_jobs: 2,
        ..quick()
    };
    let mut working = Working::start(&server, settings, gate.handler());
    gate.let_go("a");
    gate.let_go("b");
    working.ended().await;
    let posts = server.of("job-done");
    let last = posts.last().unwrap();
    assert_eq!(
        (job_of(last), last.json()["stopPod"].as_bool()),
        ("b", Some(true))
    );
    assert_eq!(refused.load(Ordering::SeqCst), 6, "five refused, one taken");
}

#[tokio::test]
async fn a_job_can_ask_for_a_fresh_worker() {
    let server = Server::start(in_turn("job-take", vec![give(&job("a")), give(&job("b"))])).await;
    let handler = |job: Job, context: JobContext| async move {
        if job.id == "b" {
            context.refresh_worker();
        }
        JobOutcome::done(json!(job.id))
    };
    let mut working = Working::start(&server, quick(), handler);
    working.ended().await;
    let posts = server.of("job-done");
    assert_eq!(posts[0].json(), json!({"output": "a"}));
    assert_eq!(posts[1].json(), json!({"output": "b", "stopPod": true}));
}

/// Clocks that can be moved, and how: monotonic and wall time in milliseconds.
fn clocks() -> (Clocks, Arc<AtomicU64>) {
    let (began, jump) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let jumped = Arc::clone(&jump);
    let clocks = Clocks::new(move || Reading {
        monotonic: began.elapsed(),
        wall: began.elapsed() + Duration::from_millis(jumped.load(Ordering::SeqCst)),
    });
    (clocks, jump)
}

#[tokio::test]
async fn a_thawed_worker_gives_its_connections_up_pings_and_polls_at_once() {
    let server = Server::start(healthy).await;
    let (clocks, jump) = clocks();
    let settings = WorkerSettings {
        clocks,
        ..WorkerSettings::default()
    };
    let _working = Working::start(&server, settings, echo);
    server.count("job-stop", 1).await;
    server.count("job-take", 1).await;
    server.count("ping", 5).await;
    let before = server.seen();
    let pings = |connection: usize, operation: &str| {
        let found = before.iter().filter(|seen| seen.operation() == operation);
        found.filter(|seen| seen.connection == connection).count()
    };
    let ping = before
        .iter()
        .find(|seen| seen.operation() == "ping")
        .unwrap();
    assert_eq!(pings(ping.connection, "ping"), 5, "one connection for all");
    jump.store(60_000, Ordering::SeqCst);
    // Within a tick and the grace of the poll; each on a connection that is new.
    for operation in ["ping", "job-take", "job-stop"] {
        let known: Vec<usize> = before.iter().map(|seen| seen.connection).collect();
        server
            .until("a call on a new connection", |seen| {
                let fresh = |seen: &&crate::server::Seen| {
                    seen.operation() == operation && !known.contains(&seen.connection)
                };
                seen.iter().find(fresh).map(|_| ())
            })
            .await;
    }
    assert_eq!(server.of("job-take").len(), 2);
    let renewed = server.of("job-take")[1].at;
    let first = server.of("job-take")[0].at;
    assert!(
        renewed - first < Duration::from_secs(15),
        "not the 90 s of a poll"
    );
}

#[tokio::test]
async fn after_a_thaw_a_dead_post_is_repeated_at_once() {
    let (clocks, jump) = clocks();
    let posts = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&posts);
    let server = Server::start(move |seen| match seen.operation() {
        "job-take"
            if seen.target.contains("job_in_progress=0") && *counted.lock().unwrap() == 0 =>
        {
            give(&job("j"))
        }
        "job-done" => {
            let mut posts = counted.lock().unwrap();
            *posts += 1;
            if *posts == 1 {
                Then::Hang
            } else {
                Then::status(200)
            }
        }
        _ => healthy(seen),
    })
    .await;
    let settings = WorkerSettings {
        clocks,
        ..WorkerSettings::default()
    };
    let _working = Working::start(&server, settings, echo);
    server.count("job-done", 1).await;
    jump.store(60_000, Ordering::SeqCst);
    let posts = server.count("job-done", 2).await;
    let waited = posts[1].at - posts[0].at;
    assert!(
        waited < Duration::from_secs(10),
        "not the 30 s of its timeout: {waited:?}"
    );
    assert_ne!(posts[0].connection, posts[1].connection);
    server.count("job-take", 2).await;
}

#[tokio::test]
async fn after_a_thaw_a_job_that_lies_in_the_old_connection_is_taken() {
    let (clocks, jump) = clocks();
    let (thawed, pinged) = (Arc::new(Notify::new()), Mutex::new(None));
    let told = Arc::clone(&thawed);
    let takes = AtomicUsize::new(0);
    let server = Server::start(move |seen| match seen.operation() {
        // Handed over on the old connection at the moment of the ping after the thaw.
        "job-take" if takes.fetch_add(1, Ordering::SeqCst) == 0 => {
            Then::Upon(Arc::clone(&told), Box::new(give(&job("j"))))
        }
        "ping" => {
            let mut pinged = pinged.lock().unwrap();
            if *pinged.get_or_insert(seen.connection) != seen.connection {
                told.notify_one();
            }
            healthy(seen)
        }
        _ => healthy(seen),
    })
    .await;
    let settings = WorkerSettings {
        clocks,
        ..WorkerSettings::default()
    };
    let _working = Working::start(&server, settings, echo);
    server.count("job-take", 1).await;
    server.count("ping", 2).await;
    jump.store(60_000, Ordering::SeqCst);
    let posts = server.count("job-done", 1).await;
    assert_eq!(posts[0].json(), json!({"output": {"job": "j"}}));
}
