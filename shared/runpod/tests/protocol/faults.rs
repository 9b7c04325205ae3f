//! The worker against every bad behaviour of the other side, for each call that it makes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use photofinish_runpod::worker::{Job, JobContext, JobOutcome, WorkerSettings};
use serde_json::json;

use crate::server::{Server, Then};
use crate::working::{Working, echo, give, healthy, in_turn, job, job_of, quick};

/// All that can go wrong with any call.
fn bad_behaviours() -> Vec<Then> {
    let problem = json!({"detail": "why"});
    vec![
        Then::json(401, &problem),
        Then::json(404, &problem),
        Then::json(500, &problem),
        Then::edge_page(),
        Then::status(302).with("location", "http://127.0.0.1:1/"),
        Then::text(200, "text/html", "<html></html>"),
        Then::json(200, &json!({"unknown": "fields"})),
        Then::json(200, &json!("SOME_STATUS")),
        Then::json(
            200,
            &json!([null, 3, {}, {"id": ""}, {"id": 7, "input": {}}, [], "x"]),
        ),
        Then::Endless,
        Then::Cut,
        Then::Hang,
        Then::CutBody(200),
        Then::HangBody(200),
    ]
}

#[tokio::test]
async fn a_job_is_taken_after_any_fault_of_job_take_and_the_server_is_not_flooded() {
    let tries = bad_behaviours().into_iter().map(async |then| {
        let answers = vec![then.clone(), then.clone(), then.clone(), give(&job("j"))];
        let server = Server::start(in_turn("job-take", answers)).await;
        let settings = WorkerSettings {
            poll_timeout: Duration::from_secs(1),
            ..quick()
        };
        let _working = Working::start(&server, settings, echo);
        let done = server.count("job-done", 1).await;
        assert_eq!(done[0].json(), json!({"output": {"job": "j"}}), "{then:?}");
        let takes = server.of("job-take");
        let waited = takes[3].at - takes[0].at;
        assert!(waited >= Duration::from_millis(300), "{then:?}: {waited:?}");
        assert_eq!(server.of("job-done").len(), 1, "{then:?}");
    });
    join_all(tries).await;
}

#[tokio::test]
async fn a_429_is_obeyed_by_both_polls() {
    let slow = Then::status(429).with("retry-after", "1");
    let answers = vec![slow.clone(), give(&job("j"))];
    let server = Server::start(in_turn("job-take", answers)).await;
    let _working = Working::start(&server, quick(), echo);
    server.count("job-done", 1).await;
    let takes = server.of("job-take");
    let waited = takes[1].at - takes[0].at;
    assert!(waited >= Duration::from_secs(1), "{waited:?}");
    let unnamed = Server::start(|seen| match seen.operation() {
        "job-stop" => Then::status(429).with("retry-after", "1"),
        "job-take" => Then::status(429),
        _ => healthy(seen),
    })
    .await;
    let _working = Working::start(&unnamed, quick(), echo);
    unnamed.count("job-stop", 2).await;
    assert_eq!(
        unnamed.of("job-take").len(),
        1,
        "without a wait: 2.5 s at least"
    );
}

#[tokio::test]
async fn an_idle_worker_asks_a_server_that_holds_nothing_a_few_times_a_second_at_most() {
    for status in [204, 400] {
        let server = Server::start(move |seen| match seen.operation() {
            "job-take" | "job-stop" => Then::status(status),
            _ => healthy(seen),
        })
        .await;
        let _working = Working::start(&server, WorkerSettings::default(), echo);
        tokio::time::sleep(Duration::from_secs(3)).await; // paced: the idle time that is measured
        for operation in ["job-take", "job-stop"] {
            let polls = server.of(operation).len();
            assert!(
                (3..=12).contains(&polls),
                "{status}: {polls} {operation} in 3 s"
            );
        }
    }
}

#[tokio::test]
async fn a_poll_that_was_held_is_followed_by_the_next_at_once() {
    let held = Duration::from_millis(700);
    let answers = vec![Then::status(204).after(held); 3];
    let server = Server::start(in_turn("job-take", answers)).await;
    let _working = Working::start(&server, quick(), echo);
    let takes = server.count("job-take", 4).await;
    // The best of three, for a busy machine; a pause would be 50 ms at least.
    let gaps = takes.windows(2).map(|pair| pair[1].at - pair[0].at);
    let gap = gaps.min().unwrap();
    assert!(gap < held + Duration::from_millis(45), "{gap:?}");
}

#[tokio::test]
async fn a_result_is_posted_again_after_any_fault_that_may_pass() {
    let passing = [
        Then::status(408),
        Then::status(429),
        Then::status(500),
        Then::edge_page(),
        Then::status(302),
        Then::Cut,
        Then::Hang,
    ];
    let tries = passing.into_iter().map(async |then| {
        let posts = AtomicUsize::new(0);
        let bad = then.clone();
        let server = Server::start(move |seen| match seen.operation() {
            "job-take" if seen.target.contains("job_in_progress=0") => give(&job("j")),
            "job-done" if posts.fetch_add(1, Ordering::SeqCst) % 3 < 2 => bad.clone(),
            _ => healthy(seen),
        })
        .await;
        let _working = Working::start(&server, quick(), echo);
        let posts = server.count("job-done", 3).await;
        for post in &posts {
            assert_eq!(post.json(), json!({"output": {"job": "j"}}), "{then:?}");
            assert_eq!(job_of(post), "j");
        }
        // It is over with the third: the slot is free.
        server.count("job-take", 2).await;
    });
    join_all(tries).await;
}

#[tokio::test]
async fn a_result_is_not_posted_again_before_runpod_says() {
    let answers = vec![Then::status(429).with("retry-after", "1")];
    let (posts, takes) = (
        in_turn("job-done", answers),
        in_turn("job-take", vec![give(&job("j"))]),
    );
    let server = Server::start(move |seen| match seen.operation() {
        "job-done" => posts(seen),
        _ => takes(seen),
    })
    .await;
    let _working = Working::start(&server, quick(), echo);
    let posts = server.count("job-done", 2).await;
    let waited = posts[1].at - posts[0].at;
    assert!(waited >= Duration::from_secs(1), "{waited:?}");
}

#[tokio::test]
async fn a_result_has_arrived_with_the_status_whatever_the_answers_body_is() {
    let odd = [
        Then::CutBody(200),
        Then::HangBody(200),
        Then::Endless,
        Then::text(200, "text/html", "<html></html>"),
        Then::json(201, &json!({"unknown": "fields"})),
    ];
    let tries = odd.into_iter().map(async |then| {
        let (bad, takes) = (then.clone(), in_turn("job-take", vec![give(&job("j"))]));
        let server = Server::start(move |seen| match seen.operation() {
            "job-done" => bad.clone(),
            _ => takes(seen),
        })
        .await;
        let _working = Working::start(&server, quick(), echo);
        server.count("job-take", 2).await;
        assert_eq!(server.of("job-done").len(), 1, "{then:?}");
    });
    join_all(tries).await;
}

#[tokio::test]
async fn a_result_that_is_refused_is_given_up_and_the_next_job_taken() {
    for status in [400, 401, 404] {
        let posts = AtomicUsize::new(0);
        let server = Server::start(move |seen| match seen.operation() {
            "job-take" => give(&job(&format!("j{}", posts.fetch_add(1, Ordering::SeqCst)))),
            "job-done" if job_of(seen) == "j0" => Then::json(status, &json!({"detail": "closed"})),
            _ => healthy(seen),
        })
        .await;
        let _working = Working::start(&server, quick(), echo);
        let posts = server.count("job-done", 2).await;
        assert_eq!(
            (job_of(&posts[0]), job_of(&posts[1])),
            ("j0", "j1"),
            "{status}"
        );
    }
}

#[tokio::test]
async fn a_result_is_given_up_at_its_deadline_and_what_had_arrived_is_not_insisted_on() {
    let answers = vec![give(&job("j0")), give(&job("j1"))];
    let takes = in_turn("job-take", answers);
    let posts = AtomicUsize::new(0);
    let server = Server::start(move |seen| match seen.operation() {
        "job-done" if job_of(seen) == "j0" => Then::status(503),
        // The first post of j1 arrives and its answer does not; then it is closed.
        "job-done" if posts.fetch_add(1, Ordering::SeqCst) == 0 => Then::Cut,
        "job-done" => Then::status(400),
        _ => takes(seen),
    })
    .await;
    let settings = WorkerSettings {
        result_deadline: Duration::from_millis(800),
        ..quick()
    };
    let _working = Working::start(&server, settings, echo);
    server.count("job-take", 3).await;
    let posts = server.of("job-done");
    let (first, second): (Vec<_>, Vec<_>) = posts.iter().partition(|seen| job_of(seen) == "j0");
    assert!(
        first.len() >= 3 && second.len() == 2,
        "{} {}",
        first.len(),
        second.len()
    );
    let insisted = first[first.len() - 1].at - first[0].at;
    assert!(insisted < Duration::from_millis(1500), "{insisted:?}");
}

#[tokio::test]
async fn pings_go_on_and_jobs_are_done_whatever_a_ping_brings() {
    let mut all = bad_behaviours();
    all.push(Then::status(429).with("retry-after", "60"));
    let tries = all.into_iter().map(async |then| {
        let bad = then.clone();
        let take = in_turn(
            "job-take",
            vec![give(&job("j")).after(Duration::from_millis(300))],
        );
        let server = Server::start(move |seen| match seen.operation() {
            "ping" => bad.clone(),
            _ => take(seen),
        })
        .await;
        let began = Instant::now();
        let _working = Working::start(&server, quick(), echo);
        server.count("job-done", 1).await;
        let pings = server.count("ping", 4).await.len();
        let most = 6 + began.elapsed().as_millis() / 150;
        assert!(pings as u128 <= most, "{then:?}: {pings} pings");
    });
    join_all(tries).await;
}

#[tokio::test]
async fn a_cancel_is_heard_after_any_fault_of_job_stop() {
    let tries = bad_behaviours().into_iter().map(async |then| {
        let stop = json!({"jobsToStop": ["nobody", 3, null, "j"]});
        let bad = vec![then.clone(), then.clone(), Then::json(200, &stop)];
        let (stops, takes) = (
            in_turn("job-stop", bad),
            in_turn("job-take", vec![give(&job("j")), give(&job("k"))]),
        );
        let server = Server::start(move |seen| match seen.operation() {
            "job-stop" => stops(seen),
            _ => takes(seen),
        })
        .await;
        let settings = WorkerSettings {
            poll_timeout: Duration::from_secs(1),
            ..quick()
        };
        let until_cancelled = |job: Job, context: JobContext| async move {
            if job.id == "j" {
                context.cancelled.cancelled().await;
            }
            JobOutcome::done(json!(job.id))
        };
        let _working = Working::start(&server, settings, until_cancelled);
        let posts = server.count("job-done", 1).await;
        assert_eq!(job_of(&posts[0]), "k", "{then:?}: nothing is posted of j");
    });
    join_all(tries).await;
}

#[tokio::test]
async fn a_stop_that_is_repeated_at_once_does_not_spin() {
    let take = in_turn("job-take", vec![give(&job("j"))]);
    let server = Server::start(move |seen| match seen.operation() {
        "job-stop" => Then::json(200, &json!({"jobsToStop": ["j"]})),
        _ => take(seen),
    })
    .await;
    let stubborn = |_: Job, _: JobContext| std::future::pending::<JobOutcome>();
    let settings = WorkerSettings {
        cancel_grace: Duration::from_millis(1500),
        ..quick()
    };
    let _working = Working::start(&server, settings, stubborn);
    let began = Instant::now();
    server.count("job-take", 2).await;
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(1400), "its grace: {took:?}");
    let stops = server.of("job-stop").len();
    assert!(stops <= 8, "{stops} polls in {took:?}");
    assert!(server.of("job-done").is_empty());
}
