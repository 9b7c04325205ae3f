//! Polls that are held open, and what becomes of jobs when everything goes wrong at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::routing::post;
use axum::{Json, Router};

use super::*;

#[tokio::test]
async fn job_take_and_job_stop_are_held_open_and_wake_at_once() {
    let bench = Bench::bare(&["--poll-hold", "1s"]).await;
    let poll = async |operation: &str| {
        let path = format!("/v2/ep-sim/{operation}/w?gpu=x");
        bench.call_with("sim-worker-key", "GET", &path, None).await
    };
    for operation in ["job-take", "job-stop", "job-take-batch"] {
        let began = Instant::now();
        assert_eq!(poll(operation).await, (204, Value::Null));
        let held = began.elapsed();
        assert!(held >= Duration::from_millis(990), "{operation}: {held:?}");
    }
    let bench = Bench::bare(&["--poll-hold", "1m"]).await;
    let poll = async |operation: &str| {
        let path = format!("/v2/ep-sim/{operation}/w?gpu=x&batch_size=2");
        bench.call_with("sim-worker-key", "GET", &path, None).await
    };
    let submit = async {
        wait_for("an open poll", async || {
            (bench.calls("job-take").await > 0).then_some(())
        })
        .await;
        let began = Instant::now();
        (bench.submit(json!({"n": 1})).await, began)
    };
    let ((status, job), (id, began)) = tokio::join!(poll("job-take"), submit);
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    assert_eq!((status, &job["id"]), (200, &json!(id)));
    let cancel = async {
        wait_for("an open poll", async || {
            (bench.calls("job-stop").await > 0).then_some(())
        })
        .await;
        bench
            .call("POST", &format!("/v2/ep-sim/cancel/{id}"), None)
            .await
    };
    let (stops, (_, cancelled)) = tokio::join!(poll("job-stop"), cancel);
    assert_eq!(stops, (200, json!({"jobsToStop": [id]})));
    assert_eq!(cancelled["status"], "CANCELLED");
    for _ in 0..3 {
        bench.submit(json!({})).await;
    }
    let (_, batch) = poll("job-take-batch").await;
    assert_eq!(batch.as_array().unwrap().len(), 2);
    bench.sim.stop().await;
}

#[tokio::test]
async fn under_every_fault_at_once_each_accepted_job_ends_once() {
    let told: Arc<Mutex<BTreeMap<String, Vec<String>>>> = Arc::default();
    let kept = Arc::clone(&told);
    let hook = post(move |Json(body): Json<Value>| async move {
        let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
        kept.lock()
            .unwrap()
            .entry(text("id"))
            .or_default()
            .push(text("status"));
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let mut side = tokio::task::JoinSet::new();
    side.spawn(axum::serve(listener, Router::new().route("/", hook)).into_future());
    let flags = [
        "--retries-max",
        "100",
        "--ping-loss",
        "5s",
        "--poll-hold",
        "1s",
    ];
    let bench = Bench::start(&flags).await;
    for fault in [
        json!({"operation": "job-done", "rate": 0.2, "status": 500, "seed": 1}),
        json!({"operation": "job-done", "rate": 0.1, "cut": "before", "perform": true, "seed": 2}),
        json!({"operation": "job-take", "rate": 0.1, "cut": "before", "seed": 3}),
        json!({"operation": "ping", "rate": 0.2, "ignore": true, "seed": 4}),
    ] {
        bench.fault(fault).await;
    }
    bench.control("faults/queue", json!({"double": 5})).await;
    for at in ["take", "output", "result", "result_kept"] {
        bench
            .control(
                "faults/worker",
                json!({"at": at, "count": 2, "after_ms": 5}),
            )
            .await;
    }
    bench.control("faults/start", json!({"crash": 1})).await;
    let mut ids = Vec::new();
    for n in 0..40 {
        let input = json!({"steps": 1, "step_ms": 20, "echo": n, "announce": true});
        ids.push(bench.submit_with(input, Some(url.clone())).await);
    }
    for (n, id) in ids.iter().enumerate() {
        let end = bench.ended(id).await;
        assert_eq!(end.output.unwrap()["echo"], json!(n), "{id}");
    }
    wait_for("a webhook for each", async || {
        (told.lock().unwrap().len() == 40).then_some(())
    })
    .await;
    let told = told.lock().unwrap().clone();
    assert!(told.values().all(|ends| *ends == ["COMPLETED"]), "{told:?}");
    let state = bench.state().await;
    assert_eq!(state["health"]["jobs"]["completed"], 40);
    assert_eq!(state["mishaps"]["traps"], json!([]), "all sprang");
    assert!(state["gone"].as_array().unwrap().len() >= 4, "and killed");
    bench.sim.stop().await;
}
