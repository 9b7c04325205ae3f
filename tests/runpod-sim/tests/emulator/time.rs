//! The virtual clock: long waits in short tests.

use std::time::Instant;

use super::*;

#[tokio::test]
async fn half_an_hour_of_retention_passes_by_a_jump() {
    let bench = Bench::start(&["--idle-timeout", "10h"]).await;
    let id = bench.submit(json!({"echo": 1})).await;
    bench.ended(&id).await;
    let status = format!("/v2/ep-sim/status/{id}");
    bench
        .control("clock", json!({"advance_ms": 29 * 60 * 1000}))
        .await;
    assert_eq!(bench.call("GET", &status, None).await.0, 200);
    bench
        .control("clock", json!({"advance_ms": 2 * 60 * 1000}))
        .await;
    wait_for("a 404", async || {
        (bench.call("GET", &status, None).await.0 == 404).then_some(())
    })
    .await;
    let sync = Some(json!({"input": {"echo": 1}}));
    let (_, answer) = bench.call("POST", "/v2/ep-sim/runsync", sync).await;
    let status = format!("/v2/ep-sim/status/{}", answer["id"].as_str().unwrap());
    bench.control("clock", json!({"advance_ms": 61_000})).await;
    wait_for("a 404 after a minute", async || {
        (bench.call("GET", &status, None).await.0 == 404).then_some(())
    })
    .await;
    assert!(
        bench.state().await["gone"].as_array().unwrap().is_empty(),
        "no worker was lost"
    );
    bench.sim.stop().await;
}

#[tokio::test]
async fn a_factor_makes_timeouts_and_durations_pass_faster() {
    // The client's own policy is five minutes.
    let bench = Bench::start(&["--clock-factor", "60"]).await;
    let began = Instant::now();
    let id = bench
        .submit(json!({"steps": 6000, "step_ms": 100, "ignore_stop": true}))
        .await;
    let end = bench.ended(&id).await;
    assert_eq!(end.error.unwrap().text, "executionTimeout exceeded");
    assert!(
        end.execution_time_ms.unwrap() >= 300_000,
        "in virtual milliseconds"
    );
    assert!(
        began.elapsed() < Duration::from_secs(25),
        "{:?}",
        began.elapsed()
    );
    bench.sim.stop().await;
}

#[tokio::test]
async fn a_slower_clock_ends_no_worker() {
    let flags = [
        "--workers-min",
        "1",
        "--clock-factor",
        "60",
        "--ping-interval",
        "5s",
    ];
    let bench = Bench::start(&flags).await;
    let worker = bench.worker_in("idle").await;
    // More than the 20 s of `--ping-loss` go by without a call.
    wait_for("silence", async || {
        let worker = bench.worker_in("idle").await;
        (worker["silentMs"].as_u64()? > 60_000).then_some(())
    })
    .await;
    bench.control("clock", json!({"factor": 1})).await;
    let job = bench.submit(json!({"steps": 5, "step_ms": 100})).await;
    let end = bench.ended(&job).await;
    assert_eq!(end.worker_id.as_deref(), worker["id"].as_str());
    bench.sim.stop().await;
}

#[tokio::test]
async fn the_factor_is_changed_at_run_time_and_has_bounds() {
    let bench = Bench::bare(&[]).await;
    bench.control("clock", json!({"factor": 1000})).await;
    let before = bench.call("GET", "/_sim/clock", None).await.1;
    assert_eq!(before["factor"], 1000.0);
    wait_for("a minute", async || {
        let now = bench.call("GET", "/_sim/clock", None).await.1;
        (now["now_ms"].as_u64()? >= before["now_ms"].as_u64()? + 60_000).then_some(())
    })
    .await;
    let refused = bench
        .call("POST", "/_sim/clock", Some(json!({"factor": 0})))
        .await;
    assert_eq!(refused.0, 400);
    bench.sim.stop().await;
}

#[tokio::test]
async fn ttl_takes_a_running_job_from_its_worker() {
    let bench = Bench::bare(&["--ttl", "1h"]).await;
    let id = bench.submit(json!({})).await;
    bench.take("w").await;
    bench
        .control("clock", json!({"advance_ms": 3_601_000}))
        .await;
    let path = "/v2/ep-sim/job-stop/w?gpu=x";
    let (status, stops) = bench.call_with("sim-worker-key", "GET", path, None).await;
    assert_eq!((status, stops), (200, json!({"jobsToStop": [id]})));
    let gone = bench
        .call("GET", &format!("/v2/ep-sim/status/{id}"), None)
        .await;
    assert_eq!(gone.0, 404);
    assert_eq!(
        bench.post("job-done", "w", &id, json!({"output": 1})).await,
        400
    );
    bench.sim.stop().await;
}
