//! Faults of the queue, of webhooks, and of workers at a given moment.

use std::sync::{Arc, Mutex};

use axum::extract::Query;
use axum::routing::post;
use axum::{Json, Router};
use photofinish_runpod::client::JobStatus;

use super::*;

/// What a webhook receiver saw: the token of the query and the body.
type Seen = Arc<Mutex<Vec<(String, Value)>>>;

#[derive(serde::Deserialize)]
struct Token {
    token: String,
}

/// A receiver that takes everything, and its address.
async fn receiver(side: &mut tokio::task::JoinSet<std::io::Result<()>>) -> (Seen, String) {
    let seen = Seen::default();
    let kept = Arc::clone(&seen);
    let hook = post(
        move |Query(query): Query<Token>, Json(body): Json<Value>| async move {
            kept.lock().unwrap().push((query.token, body));
        },
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "http://{}/hook?token=secret",
        listener.local_addr().unwrap()
    );
    side.spawn(axum::serve(listener, Router::new().route("/hook", hook)).into_future());
    (seen, url)
}

#[tokio::test]
async fn webhooks_are_lost_doubled_late_and_forged() {
    let mut side = tokio::task::JoinSet::new();
    let (seen, url) = receiver(&mut side).await;
    let bench = Bench::bare(&[]).await;
    let job = async || {
        let id = bench.submit_with(json!({}), Some(url.clone())).await;
        bench.take("w").await;
        assert_eq!(
            bench.post("job-done", "w", &id, json!({"output": 1})).await,
            200
        );
        id
    };
    let count = |id: &str| {
        let seen = seen.lock().unwrap();
        seen.iter().filter(|(_, body)| body["id"] == id).count()
    };
    let until = async |id: &str, n: usize| {
        wait_for("webhooks", async || (count(id) == n).then_some(())).await;
    };
    bench.control("faults/webhook", json!({"lose": true})).await;
    let lost = job().await;
    bench.control("faults/webhook", json!({"copies": 2})).await;
    let doubled = job().await;
    until(&doubled, 2).await;
    bench
        .control("faults/webhook", json!({"delay_ms": 600_000}))
        .await;
    let late = job().await;
    let plain = job().await;
    until(&plain, 1).await;
    assert_eq!((count(&late), count(&lost)), (0, 0));
    bench.control("clock", json!({"advance_ms": 600_000})).await;
    until(&late, 1).await;
    bench
        .control("faults/webhook", json!({"forge": true}))
        .await;
    let forged = job().await;
    until(&forged, 1).await;
    let seen = seen.lock().unwrap().clone();
    for (token, body) in seen {
        let expected = if body["id"] == json!(forged) {
            "forged"
        } else {
            "secret"
        };
        assert_eq!(token, expected);
    }
    assert_eq!(count(&lost), 0);
    bench.sim.stop().await;
}

#[tokio::test]
async fn every_end_is_told_to_the_webhook_and_a_slow_receiver_is_called_again() {
    let mut side = tokio::task::JoinSet::new();
    let (seen, url) = receiver(&mut side).await;
    let bench = Bench::bare(&["--ttl", "1h"]).await;
    let submit = async || bench.submit_with(json!({}), Some(url.clone())).await;
    let failed = submit().await;
    bench.take("w").await;
    bench
        .post("job-done", "w", &failed, json!({"error": "x"}))
        .await;
    let cancelled = submit().await;
    bench
        .call("POST", &format!("/v2/ep-sim/cancel/{cancelled}"), None)
        .await;
    let unseen = submit().await;
    bench
        .control("clock", json!({"advance_ms": 3_601_000}))
        .await;
    wait_for("three webhooks", async || {
        (seen.lock().unwrap().len() == 3).then_some(())
    })
    .await;
    let told = |id: &str| {
        let seen = seen.lock().unwrap();
        let (_, body) = seen
            .iter()
            .find(|(_, body)| body["id"] == id)
            .unwrap()
            .clone();
        body["status"].as_str().unwrap().to_owned()
    };
    assert_eq!(told(&failed), "FAILED");
    assert_eq!(told(&cancelled), "CANCELLED");
    assert_eq!(told(&unseen), "TIMED_OUT");
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let slow = bench.submit_with(json!({}), Some(url)).await;
    bench.take("w").await;
    bench.control("clock", json!({"factor": 20})).await;
    bench
        .post("job-done", "w", &slow, json!({"output": 1}))
        .await;
    let before = 3;
    wait_for("three tries", async || {
        (bench.calls("webhook").await == before + 3).then_some(())
    })
    .await;
    bench.sim.stop().await;
}

#[tokio::test]
async fn a_doubled_job_runs_on_two_workers_at_once() {
    let bench = Bench::start(&["--workers-max", "2"]).await;
    bench.control("faults/queue", json!({"double": 1})).await;
    let id = bench.submit(json!({"steps": 30, "step_ms": 100})).await;
    wait_for("two workers with it", async || {
        let workers = bench.sim.workers("ep-sim");
        let with = workers.iter().filter(|worker| worker.jobs == [id.clone()]);
        (with.count() == 2).then_some(())
    })
    .await;
    assert_eq!(bench.ended(&id).await.status, JobStatus::Completed);
    wait_for("the second result", async || {
        (bench.calls("job-done").await >= 2).then_some(())
    })
    .await;
    let (_, health) = bench.call("GET", "/v2/ep-sim/health", None).await;
    assert_eq!(
        (&health["jobs"]["completed"], &health["jobs"]["retried"]),
        (&json!(1), &json!(0))
    );
    bench.sim.stop().await;
}

#[tokio::test]
async fn the_queue_loses_a_job_that_it_had_accepted() {
    let bench = Bench::bare(&[]).await;
    bench.control("faults/queue", json!({"lose": 1})).await;
    let lost = bench.submit(json!({})).await;
    let kept = bench.submit(json!({})).await;
    assert_eq!(
        bench
            .call("GET", &format!("/v2/ep-sim/status/{lost}"), None)
            .await
            .0,
        404
    );
    assert_eq!(bench.take("w").await["id"], json!(kept));
    bench.sim.stop().await;
}

/// Runs a job whose worker is killed at a moment; returns how often it was killed and the end.
async fn killed_at(trap: Value, input: Value) -> (usize, u32, JobStatus) {
    let bench = Bench::start(&["--workers-max", "1"]).await;
    bench.control("faults/worker", trap).await;
    let id = bench.submit(input).await;
    let end = bench.ended(&id).await;
    let gone = wait_for("the killed worker", async || {
        let state = bench.state().await;
        let gone = state["gone"].as_array()?.len();
        (gone > 0).then_some(gone)
    });
    let killed = (gone.await, end.retries, end.status);
    bench.sim.stop().await;
    killed
}

#[tokio::test]
async fn a_worker_is_killed_when_it_takes_a_job_announces_an_output_or_posts_its_result() {
    let input = json!({"steps": 3, "step_ms": 100, "announce": true});
    let again = (1, 1, JobStatus::Completed);
    for at in ["take", "output", "result"] {
        assert_eq!(
            killed_at(json!({"at": at}), input.clone()).await,
            again,
            "{at}"
        );
    }
    let kept = killed_at(json!({"at": "result_kept"}), input.clone()).await;
    assert_eq!(kept, (1, 0, JobStatus::Completed));
    let later = killed_at(json!({"at": "take", "after_ms": 150}), input).await;
    assert_eq!(later, again);
}

#[tokio::test]
async fn a_worker_is_killed_after_a_while_and_frozen_and_thawed() {
    let bench = Bench::start(&["--workers-min", "1", "--workers-max", "1"]).await;
    let worker = bench.worker_in("idle").await;
    let id = worker["id"].as_str().unwrap();
    let stat =
        || std::fs::read_to_string(format!("/proc/{}/stat", worker["pid"])).unwrap_or_default();
    bench.signal(id, "STOP").await;
    wait_for("a stopped process", async || {
        stat().contains(") T ").then_some(())
    })
    .await;
    bench.signal(id, "CONT").await;
    wait_for("a thawed process", async || {
        (!stat().contains(") T ")).then_some(())
    })
    .await;
    let job = bench.submit(json!({"echo": 1})).await;
    assert_eq!(bench.ended(&job).await.worker_id.as_deref(), Some(id));
    let kill = json!({"signal": "KILL", "after_ms": 100});
    bench.control(&format!("workers/{id}/kill"), kill).await;
    wait_for("its end", async || {
        let state = bench.state().await;
        (state["gone"][0]["id"] == worker["id"]).then_some(())
    })
    .await;
    bench.sim.stop().await;
}
