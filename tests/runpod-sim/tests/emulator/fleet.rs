//! How many workers there are, of which version, on which endpoint.

use photofinish_runpod_sim::endpoints::EndpointSpec;

use super::workers::runs;
use super::*;

/// The last worker's end, in words.
async fn ends(bench: &Bench, n: usize) -> Vec<String> {
    wait_for("ended workers", async || {
        let state = bench.state().await;
        let gone = state["gone"].as_array()?;
        let how = gone.iter().filter_map(|gone| gone["how"].as_str());
        (gone.len() >= n).then(|| how.map(str::to_owned).collect())
    })
    .await
}

#[tokio::test]
async fn with_flashboot_an_idle_worker_is_frozen_and_woken_and_told_so_by_a_400() {
    let flags = [
        "--workers-max",
        "1",
        "--flashboot",
        "true",
        "--idle-timeout",
        "500ms",
    ];
    let bench = Bench::start(&flags).await;
    let first = bench.submit(json!({"echo": 1})).await;
    let first = bench.ended(&first).await;
    let frozen = bench.worker_in("frozen").await;
    assert_eq!(frozen["id"].as_str(), first.worker_id.as_deref());
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", frozen["pid"])).unwrap();
    assert!(stat.contains(") T "), "{stat}");
    let second = bench.submit(json!({"echo": 2})).await;
    let second = bench.ended(&second).await;
    assert_eq!((second.worker_id, second.retries), (first.worker_id, 0));
    assert!(bench.state().await["gone"].as_array().unwrap().is_empty());
    bench.sim.stop().await;
}

#[tokio::test]
async fn by_request_count_workers_come_at_once_and_by_number() {
    let flags = [
        "--scaler",
        "REQUEST_COUNT",
        "--request-count",
        "2",
        "--workers-max",
        "5",
    ];
    let bench = Bench::start(&flags).await;
    for _ in 0..5 {
        bench.submit(json!({"steps": 20, "step_ms": 100})).await;
    }
    let started = async || bench.sim.workers("ep-sim").len();
    wait_for("three workers", async || {
        (started().await == 3).then_some(())
    })
    .await;
    bench.worker_in("running").await;
    assert_eq!(started().await, 3, "five jobs, two each");
    bench.sim.stop().await;
}

#[tokio::test]
async fn throttled_workers_do_not_start_and_are_shown() {
    let bench = Bench::start(&["--workers-max", "1", "--workers-throttled", "1"]).await;
    let id = bench.submit(json!({"echo": 1})).await;
    let (_, health) = bench.call("GET", "/v2/ep-sim/health", None).await;
    assert_eq!(health["workers"]["throttled"], 1);
    bench.control("clock", json!({"advance_ms": 60_000})).await;
    tokio::time::sleep(Duration::from_millis(300)).await; // paced: the scaler looks a few times
    assert!(bench.sim.workers("ep-sim").is_empty());
    bench.control("throttle", json!({"workers": 0})).await;
    assert_eq!(bench.ended(&id).await.output.unwrap()["echo"], 1);
    bench.sim.stop().await;
}

#[tokio::test]
async fn a_start_that_crashes_shows_as_unhealthy_and_is_tried_again() {
    let bench = Bench::start(&["--workers-max", "1"]).await;
    bench.control("faults/start", json!({"crash": 1})).await;
    let id = bench.submit(json!({"echo": 1})).await;
    wait_for("an unhealthy worker", async || {
        let (_, health) = bench.call("GET", "/v2/ep-sim/health", None).await;
        (health["workers"]["unhealthy"] == 1).then_some(())
    })
    .await;
    assert_eq!(bench.ended(&id).await.output.unwrap()["echo"], 1);
    let (_, health) = bench.call("GET", "/v2/ep-sim/health", None).await;
    assert_eq!(
        health["workers"]["unhealthy"], 0,
        "one that called makes it well"
    );
    assert_eq!(ends(&bench, 1).await, ["crashed at its start, as asked"]);
    bench.sim.stop().await;
}

#[tokio::test]
async fn a_start_that_takes_too_long_is_killed() {
    let flags = ["--workers-max", "1", "--init-timeout", "7m"];
    let bench = Bench::start(&flags).await;
    bench
        .control("faults/start", json!({"slow": 1, "delay_ms": 3_600_000}))
        .await;
    let id = bench.submit(json!({"echo": 1})).await;
    bench.worker_in("initializing").await;
    bench.control("clock", json!({"advance_ms": 421_000})).await;
    assert_eq!(ends(&bench, 1).await, ["killed before it was up"]);
    assert_eq!(bench.ended(&id).await.output.unwrap()["echo"], 1);
    bench.sim.stop().await;
}

#[tokio::test]
async fn a_new_image_replaces_idle_workers_at_once_and_busy_ones_after_their_job() {
    let bench = Bench::start(&["--workers-min", "2", "--workers-max", "4"]).await;
    wait_for("two idle workers", async || {
        let (_, metrics) = bench.call("GET", "/v2/ep-sim/metrics", None).await;
        (metrics["workers"]["ready"] == 2).then_some(())
    })
    .await;
    let long = bench
        .submit(json!({"steps": 15, "step_ms": 100, "env": "RUNPOD_SIM"}))
        .await;
    bench.worker_in("running").await;
    let spec = bench
        .sim
        .change_endpoint("ep-sim", |spec| spec.image = "w:2".to_owned());
    assert_eq!(spec.unwrap().version, 2);
    let old = bench.ended(&long).await.output.unwrap();
    assert_eq!(
        old["env"]["RUNPOD_SIM_VERSION"], "1",
        "it was not interrupted"
    );
    wait_for("two new workers", async || {
        let workers = bench.sim.workers("ep-sim");
        let fresh = workers.iter().filter(|w| !w.stale && w.version == 2);
        (workers.len() == 2 && fresh.count() == 2).then_some(())
    })
    .await;
    let new = bench.submit(json!({"env": "RUNPOD_SIM"})).await;
    let new = bench.ended(&new).await.output.unwrap();
    assert_eq!(new["env"]["RUNPOD_SIM_IMAGE"], "w:2");
    let unchanged = bench
        .sim
        .change_endpoint("ep-sim", |spec| spec.workers_min = 0);
    assert_eq!(
        unchanged.unwrap().version,
        2,
        "bounds hold at once, without new workers"
    );
    assert_eq!(bench.sim.releases("ep-sim").len(), 2);
    bench.sim.stop().await;
}

#[tokio::test]
async fn endpoints_have_queues_and_workers_of_their_own_and_end_alone() {
    let bench = Bench::start(&["--endpoint-also", "ep-two"]).await;
    let run = async |endpoint: &str, input: Value| {
        let path = format!("/v2/{endpoint}/run");
        let (_, answer) = bench
            .call("POST", &path, Some(json!({"input": input})))
            .await;
        answer["id"].as_str().unwrap().to_owned()
    };
    let first = bench.submit(json!({"env": "RUNPOD_ENDPOINT_ID"})).await;
    let two = run("ep-two", json!({"steps": 600, "step_ms": 100})).await;
    let output = bench.ended(&first).await.output.unwrap();
    assert_eq!(output["env"]["RUNPOD_ENDPOINT_ID"], "ep-sim");
    let foreign = bench
        .call("GET", &format!("/v2/ep-sim/status/{two}"), None)
        .await;
    assert_eq!(foreign.0, 404);
    let pid = wait_for("a busy worker there", async || {
        let state = bench.state().await;
        let worker = &state["endpoints"]["ep-two"]["workers"][0];
        worker["pid"]
            .as_u64()
            .filter(|_| worker["state"] == "running")
    })
    .await;
    assert!(bench.sim.delete_endpoint("ep-two") && !bench.sim.delete_endpoint("ep-two"));
    wait_for("its worker's end", async || (!runs(pid)).then_some(())).await;
    assert_eq!(bench.call("GET", "/v2/ep-two/health", None).await.0, 404);
    let third = bench.sim.endpoint_spec("ep-sim").unwrap();
    let third = EndpointSpec {
        id: "ep-three".to_owned(),
        ..third
    };
    assert!(bench.sim.create_endpoint(third.clone()) && !bench.sim.create_endpoint(third));
    let id = run("ep-three", json!({"echo": 3})).await;
    let done = format!("/v2/ep-three/status-sync/{id}");
    assert_eq!(bench.call("GET", &done, None).await.1["output"]["echo"], 3);
    bench.sim.stop().await;
}

#[tokio::test]
async fn a_busy_worker_that_denies_its_job_for_a_minute_loses_it() {
    let bench = Bench::bare(&["--poll-hold", "100ms"]).await;
    let id = bench.submit(json!({})).await;
    bench.take("w").await;
    let path = "/v2/ep-sim/job-take/w?gpu=x&job_in_progress=0";
    assert_eq!(
        bench.call_with("sim-worker-key", "GET", path, None).await.0,
        204
    );
    bench.control("clock", json!({"advance_ms": 30_000})).await;
    assert_eq!(bench.status(&id).await.retries, 0);
    bench.control("clock", json!({"advance_ms": 31_000})).await;
    bench
        .until(&id, "the queue", |answer| answer.retries == 1)
        .await;
    bench.sim.stop().await;
}

#[tokio::test]
async fn an_emulator_that_could_not_start_leaves_no_workers() {
    let dir = tempfile::tempdir().unwrap();
    let mark = dir.path().join("started");
    let worker = format!("touch {}", mark.display());
    let nowhere = dir.path().join("none/ports.json");
    let flags = [
        "runpod-sim",
        "--listen",
        "127.0.0.1:0",
        "--workers-min",
        "1",
        "--cold-start",
        "0",
        "--worker",
        &worker,
        "--ports-file",
        nowhere.to_str().unwrap(),
    ];
    let config = Config::try_parse_from(flags).unwrap();
    assert!(Sim::start(config).await.is_err());
    tokio::time::sleep(Duration::from_millis(300)).await; // paced: the scaler would look a few times
    assert!(!mark.exists());
}
