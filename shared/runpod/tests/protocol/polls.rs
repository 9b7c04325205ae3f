//! What each call looks like, how many jobs a poll asks for, and what is made of its answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use photofinish_runpod::worker::{Job, JobContext, JobOutcome, Worker, WorkerSettings};
use serde_json::{Value, json};

use crate::server::{Seen, Server, Then};
use crate::working::{
    Gate, Working, echo, env, error_of, give, healthy, in_turn, job, job_of, quick,
};

#[tokio::test]
async fn every_call_has_the_headers_and_the_url_of_the_protocol() {
    let server = Server::start(in_turn("job-take", vec![give(&job("j-u1"))])).await;
    let _working = Working::start(&server, quick(), echo);
    server.count("job-take", 2).await;
    let first = |operation: &str| server.of(operation)[0].clone();
    let (take, stop, ping, done) = (
        first("job-take"),
        first("job-stop"),
        first("ping"),
        first("job-done"),
    );
    assert_eq!(take.target, "/job-take/w1?gpu=A+B&job_in_progress=0");
    assert_eq!(stop.target, "/job-stop/w1?gpu=A+B");
    assert_eq!(ping.target, "/ping/w1?gpu=A+B&runpod_version=1.12.0");
    assert_eq!(done.target, "/job-done/w1/j-u1?gpu=A+B&isStream=false");
    for seen in [&take, &stop, &ping, &done] {
        assert_eq!(
            seen.header("authorization"),
            Some("wkey"),
            "raw, not Bearer"
        );
        assert!(
            seen.header("user-agent")
                .unwrap()
                .starts_with("photofinish-worker/")
        );
    }
    for poll in [&take, &stop] {
        assert_eq!(poll.method, "GET");
        assert_eq!(poll.header("content-type"), Some("application/json"));
    }
    assert_eq!(
        (ping.method.as_str(), done.method.as_str()),
        ("GET", "POST")
    );
    assert_eq!(
        done.header("content-type"),
        Some("application/x-www-form-urlencoded")
    );
    assert_eq!(done.header("charset"), Some("utf-8"));
    assert_eq!(done.header("x-request-id"), Some("j-u1"));
    assert_eq!(
        done.header("content-length"),
        Some(done.body.len().to_string().as_str())
    );
    assert_eq!(done.json(), json!({"output": {"job": "j-u1"}}));
}

#[tokio::test]
async fn the_first_ping_goes_out_before_anything_is_taken_and_later_ones_name_all_jobs() {
    let server = Server::start(in_turn(
        "job-take-batch",
        vec![give(&json!([job("a"), job("b,c")]))],
    ))
    .await;
    let settings = WorkerSettings {
        concurrency: 2,
        ..quick()
    };
    let worker = Worker::start(env(&server.url, &[]), settings).unwrap();
    let pings = server.count("ping", 2).await;
    assert!(pings.iter().all(|ping| !ping.target.contains("job_id")));
    assert!(server.of("job-take-batch").is_empty());
    let (gate, shutdown) = (Gate::default(), tokio_util::sync::CancellationToken::new());
    let mut side = tokio::task::JoinSet::new();
    side.spawn(worker.run(gate.handler(), shutdown.clone()));
    let named = |ids: &'static str| {
        move |seen: &[Seen]| {
            let last = seen.iter().rfind(|seen| seen.operation() == "ping")?;
            last.target
                .contains(&format!("&job_id={ids}&"))
                .then_some(())
        }
    };
    server.until("a ping with both", named("a%2Cb%2Cc")).await;
    gate.let_go("a");
    server.until("a ping with one", named("b%2Cc")).await;
    gate.let_go("b,c");
    server
        .until("a ping without any", |seen| {
            let last = seen.iter().rfind(|seen| seen.operation() == "ping")?;
            (!last.target.contains("job_id")).then_some(())
        })
        .await;
    shutdown.cancel();
    side.join_next().await.unwrap().unwrap();
}

#[tokio::test]
async fn pings_go_on_while_the_handler_blocks_every_thread() {
    let server = Server::start(in_turn("job-take", vec![give(&job("j"))])).await;
    let blocking = |_: Job, _: JobContext| async {
        std::thread::sleep(Duration::from_millis(1500)); // paced: a handler that blocks
        JobOutcome::done(json!(1))
    };
    let url = server.url.clone();
    let began = Instant::now();
    // The worker has a runtime of its own, with one thread, as a GPU process may have.
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let worker = Worker::start(env(&url, &[]), quick()).unwrap();
            let shutdown = tokio_util::sync::CancellationToken::new();
            shutdown
                .clone()
                .run_until_cancelled(worker.run(blocking, shutdown.clone()))
                .await;
        });
    });
    server.count("job-done", 1).await;
    let named = server
        .of("ping")
        .iter()
        .filter(|ping| ping.target.contains("job_id=j&"))
        .count();
    assert!(named >= 4, "{named} pings in {:?}", began.elapsed());
    drop(thread);
}

#[tokio::test]
async fn one_poll_at_a_time_asks_for_the_free_slots_and_none_when_there_are_none() {
    let gate = Gate::default();
    let batch = AtomicUsize::new(0);
    let server = Server::start(move |seen| match seen.operation() {
        "job-take" => Then::status(204).after(Duration::from_millis(600)),
        "job-take-batch" => match batch.fetch_add(1, Ordering::SeqCst) {
            // Fewer than asked for, then all the rest.
            0 => give(&json!([job("a")])),
            1 => give(&json!([job("b"), job("c")])),
            _ => Then::status(204).after(Duration::from_millis(600)),
        },
        _ => healthy(seen),
    })
    .await;
    let settings = WorkerSettings {
        concurrency: 3,
        ..quick()
    };
    let _working = Working::start(&server, settings, gate.handler());
    let batches = server.count("job-take-batch", 2).await;
    assert_eq!(
        batches[0].target,
        "/job-take-batch/w1?gpu=A+B&batch_size=3&job_in_progress=0"
    );
    assert_eq!(
        batches[1].target,
        "/job-take-batch/w1?gpu=A+B&batch_size=2&job_in_progress=1"
    );
    tokio::time::sleep(Duration::from_millis(500)).await; // paced: nothing must happen
    assert_eq!(
        (
            server.of("job-take").len(),
            server.of("job-take-batch").len()
        ),
        (0, 2),
        "while full"
    );
    gate.let_go("b");
    let takes = server.count("job-take", 1).await;
    assert_eq!(takes[0].target, "/job-take/w1?gpu=A+B&job_in_progress=1");
    gate.let_go("a");
    gate.let_go("c");
    server.count("job-take-batch", 4).await;
    let seen = server.seen();
    let mut polls = seen
        .iter()
        .filter(|seen| seen.operation().starts_with("job-take"));
    assert!(
        polls.clone().all(|seen| seen.open == 1),
        "never two at once"
    );
    let last = polls.next_back().unwrap();
    assert_eq!(
        last.target,
        "/job-take-batch/w1?gpu=A+B&batch_size=3&job_in_progress=0"
    );
}

#[tokio::test]
async fn elements_that_are_no_jobs_harm_none_of_the_others() {
    let list = json!([
        job("a"), {"input": {}}, {"id": "no-input"}, null, 5, "x", [], {"id": 7, "input": 1}, job("b"),
        {"id": "null-input", "input": null},
    ]);
    // On the single URL: RunPod may answer with a list there, too.
    let server = Server::start(in_turn("job-take", vec![give(&list)])).await;
    let _working = Working::start(&server, quick(), echo);
    let posts = server.count("job-done", 4).await;
    let of = |id: &str| posts.iter().find(|seen| job_of(seen) == id).unwrap();
    assert_eq!(of("a").json(), json!({"output": {"job": "a"}}));
    assert_eq!(of("b").json(), json!({"output": {"job": "b"}}));
    assert_eq!(of("null-input").json(), json!({"output": null}));
    assert_eq!(error_of(of("no-input"))["error_type"], "missing_input");
    server.count("job-take", 2).await;
    assert_eq!(server.of("job-done").len(), 4);
}

#[tokio::test]
async fn more_jobs_than_asked_for_are_all_done_no_more_at_once_than_there_are_slots() {
    let list: Vec<Value> = (0..6).map(|n| job(&format!("j{n}"))).collect();
    let server = Server::start(in_turn("job-take", vec![give(&json!(list))])).await;
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (at_once, highest) = (Arc::clone(&now), Arc::clone(&most));
    let counted = move |_: Job, _: JobContext| {
        let (now, most) = (Arc::clone(&at_once), Arc::clone(&highest));
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(20)).await; // paced: the work
            now.fetch_sub(1, Ordering::SeqCst);
            JobOutcome::done(json!(1))
        }
    };
    let _working = Working::start(&server, quick(), counted);
    server.count("job-done", 6).await;
    assert_eq!(most.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_job_that_comes_twice_at_once_is_done_once_and_later_again() {
    let gate = Gate::default();
    let answers = vec![
        give(&json!([job("a"), job("a")])),
        give(&job("a")),
        give(&job("b")),
    ];
    let server = Server::start(in_turn("job-take-batch", answers)).await;
    let settings = WorkerSettings {
        concurrency: 4,
        ..quick()
    };
    let _working = Working::start(&server, settings, gate.handler());
    server.count("job-take-batch", 4).await;
    gate.let_go("a");
    gate.let_go("b");
    server.count("job-done", 2).await;
    let again = Server::start(in_turn("job-take", vec![give(&job("a")), give(&job("a"))])).await;
    let _working = Working::start(&again, quick(), echo);
    again.count("job-done", 2).await;
    assert_eq!(server.of("job-done").len(), 2, "one of a, one of b");
}

#[tokio::test]
async fn errors_are_structured_and_results_that_are_too_large_do_not_get_lost() {
    let jobs = json!([
        job("fails"),
        job("large"),
        job("fails-large"),
        job("panics")
    ]);
    let server = Server::start(in_turn("job-take", vec![give(&jobs)])).await;
    let settings = WorkerSettings {
        result_bytes_max: 2000,
        progress_interval_min: Duration::from_millis(1),
        // A panic's trace may take a while to print.
        result_timeout: Duration::from_secs(15),
        ..quick()
    };
    let large = || json!("x".repeat(3000));
    let handler = move |job: Job, context: JobContext| async move {
        let mut failed = JobOutcome::failed("my_code", "it \"broke\" ü");
        match job.id.as_str() {
            "large" => {
                context.progress.send(&json!({"all": large()}));
                JobOutcome::done(large())
            }
            "fails-large" => {
                if let JobOutcome::Failed { output, .. } = &mut failed {
                    *output = Some(large());
                }
                failed
            }
            "panics" => panic!("on purpose"),
            _ => failed,
        }
    };
    let _working = Working::start(&server, settings, handler);
    let posts = server.count("job-done", 4).await;
    assert_eq!(posts.len(), 4, "the progress is left out");
    let of = |id: &str| posts.iter().find(|seen| job_of(seen) == id).unwrap();
    let expected = json!({
        "error_type": "my_code", "error_message": "it \"broke\" ü", "error_traceback": "",
        "hostname": "w1-host", "worker_id": "w1", "runpod_version": "1.12.0",
    });
    assert_eq!(error_of(of("fails")), expected);
    assert_eq!(
        of("fails").json().as_object().unwrap().len(),
        1,
        "no status, no output"
    );
    assert_eq!(error_of(of("large"))["error_type"], "result_too_large");
    assert_eq!(
        error_of(of("fails-large")),
        expected,
        "its own error, without the output"
    );
    assert_eq!(error_of(of("panics"))["error_type"], "handler_panicked");
    assert!(posts.iter().all(|post| post.body.len() <= 2000));
}
