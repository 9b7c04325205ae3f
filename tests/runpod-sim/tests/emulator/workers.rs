//! Workers: scaled, lost, stopped, frozen, and gone with the emulator.

use std::path::Path;
use std::process::Stdio;

use photofinish_runpod::client::JobStatus;
use photofinish_runpod::worker::{Job, JobContext, JobOutcome, Worker, WorkerEnv, WorkerSettings};
use tokio_util::sync::CancellationToken;

use super::*;

#[tokio::test]
async fn a_killed_workers_job_runs_again_elsewhere() {
    let bench = Bench::start(&["--workers-max", "1"]).await;
    let id = bench.submit(json!({"steps": 20, "step_ms": 100})).await;
    let first = bench
        .until(&id, "progress", |answer| answer.output.is_some())
        .await;
    let lost = first.worker_id.unwrap();
    bench.signal(&lost, "KILL").await;
    let end = bench.ended(&id).await;
    assert_eq!((end.status, end.retries), (JobStatus::Completed, 1));
    assert_ne!(end.worker_id, Some(lost));
    assert_eq!(bench.client.health("ep-sim").await.unwrap().jobs.retried, 1);
    bench.sim.stop().await;
}

#[tokio::test]
async fn a_frozen_worker_is_lost_when_its_pings_stop() {
    let flags = [
        "--workers-max",
        "1",
        "--ping-loss",
        "3s",
        "--poll-hold",
        "1s",
    ];
    let bench = Bench::start(&flags).await;
    let id = bench.submit(json!({"steps": 10, "step_ms": 100})).await;
    let first = bench
        .until(&id, "progress", |answer| answer.output.is_some())
        .await;
    bench.signal(&first.worker_id.unwrap(), "STOP").await;
    let end = bench.ended(&id).await;
    assert_eq!((end.status, end.retries), (JobStatus::Completed, 1));
    let gone = &bench.state().await["gone"][0]["how"];
    assert!(gone.as_str().unwrap().starts_with("killed"), "{gone}");
    bench.sim.stop().await;
}

#[tokio::test]
async fn workers_come_after_the_delay_idle_out_and_take_their_files_along() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let flags = [
        "--idle-timeout",
        "1s",
        "--queue-delay",
        "10m",
        "--worker-dir",
        path,
    ];
    let bench = Bench::start(&flags).await;
    let id = bench.submit(json!({"steps": 5, "step_ms": 100})).await;
    assert!(
        bench.state().await["workers"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    bench.control("clock", json!({"advance_ms": 600_000})).await;
    let running = bench.worker_in("running").await;
    let files = dir.path().join(running["id"].as_str().unwrap());
    assert!(files.join("work").is_dir() && files.join("output").is_dir());
    let end = bench.ended(&id).await;
    assert!(end.delay_time_ms.unwrap() >= 600_000);
    let how = wait_for("the worker's end", async || {
        bench.state().await["gone"][0]["how"]
            .as_str()
            .map(str::to_owned)
    });
    assert_eq!(how.await, "stopped: exit status: 0");
    assert!(!files.exists());
    bench.sim.stop().await;
}

#[tokio::test]
async fn a_stopped_worker_posts_what_it_has_and_takes_no_more() {
    let bench = Bench::start(&["--workers-max", "1"]).await;
    let id = bench.submit(json!({"steps": 600, "step_ms": 100})).await;
    let running = bench
        .until(&id, "progress", |answer| answer.output.is_some())
        .await;
    bench
        .signal(running.worker_id.as_deref().unwrap(), "TERM")
        .await;
    let end = bench.ended(&id).await;
    assert_eq!((end.status, end.retries), (JobStatus::Failed, 0));
    assert_eq!(end.error.unwrap().error_type(), Some("stopped_early"));
    bench.sim.stop().await;
}

#[tokio::test]
async fn workers_are_served_until_they_have_ended() {
    let bench = Bench::start(&["--workers-max", "1", "--stop-grace", "10m"]).await;
    let id = bench.submit(json!({"steps": 600, "step_ms": 100})).await;
    bench
        .until(&id, "progress", |answer| answer.output.is_some())
        .await;
    // It posts what it has and ends; unheard it would try until it is killed.
    let stopped = tokio::time::timeout(DEADLINE, bench.sim.stop()).await;
    assert!(stopped.is_ok());
}

#[tokio::test]
async fn a_job_over_its_time_fails_and_its_worker_is_stopped() {
    let flags = [
        "--workers-max",
        "1",
        "--stop-grace",
        "500ms",
        "--lenient-policy",
        "true",
        "--execution-lag",
        "100ms",
    ];
    let bench = Bench::start(&flags).await;
    let long = RunRequest {
        execution_timeout: Duration::from_secs(1),
        ..request(
            json!({"steps": 600, "step_ms": 100, "ignore_stop": true}),
            None,
        )
    };
    let id = bench.client.run("ep-sim", &long).await.unwrap().id;
    let end = bench.ended(&id).await;
    assert_eq!(end.status, JobStatus::Failed);
    assert_eq!(end.error.unwrap().text, "executionTimeout exceeded");
    let next = bench.submit(json!({"echo": 1})).await;
    let next = bench.ended(&next).await;
    assert_eq!(next.status, JobStatus::Completed);
    assert_ne!(next.worker_id, end.worker_id);
    bench.sim.stop().await;
}

#[tokio::test]
async fn one_worker_with_three_slots_takes_a_batch() {
    let flags = [
        "--workers-max",
        "1",
        "--worker-env",
        "CONCURRENCY=3",
        "--cold-start",
        "500ms",
    ];
    let bench = Bench::start(&flags).await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(bench.submit(json!({"steps": 10, "step_ms": 100})).await);
    }
    wait_for("three at once", async || {
        let running = bench.worker_in("running").await;
        (running["jobs"].as_array().unwrap().len() == 3).then_some(())
    })
    .await;
    for id in &ids {
        assert_eq!(bench.ended(id).await.status, JobStatus::Completed);
    }
    assert!(bench.calls("job-take-batch").await > 0);
    bench.sim.stop().await;
}

/// An outside worker in this process, with templates as RunPod's own local server has them.
fn outside_worker(bench: &Bench) -> WorkerEnv {
    let api = format!("{}/ep-sim", bench.sim.base_url());
    WorkerEnv::from_map([
        (
            "RUNPOD_WEBHOOK_GET_JOB",
            format!("{api}/job-take/$RUNPOD_POD_ID"),
        ),
        (
            "RUNPOD_WEBHOOK_POST_OUTPUT",
            format!("{api}/job-done/$RUNPOD_POD_ID/$ID"),
        ),
        ("RUNPOD_WEBHOOK_PING", format!("{api}/ping/$RUNPOD_POD_ID")),
        ("RUNPOD_AI_API_KEY", "sim-worker-key".to_owned()),
        ("RUNPOD_POD_ID", "outside1".to_owned()),
        ("RUNPOD_PING_INTERVAL", "1000".to_owned()),
    ])
    .unwrap()
}

#[tokio::test]
async fn templates_without_a_question_mark_do() {
    let bench = Bench::bare(&[]).await;
    let worker = Worker::start(outside_worker(&bench), WorkerSettings::default()).unwrap();
    wait_for("a ping before any job-take", async || {
        (bench.calls("ping").await > 0).then_some(())
    })
    .await;
    assert_eq!(bench.calls("job-take").await, 0);
    let shutdown = CancellationToken::new();
    let handler = async |job: Job| JobOutcome::done(job.input);
    let mut side = tokio::task::JoinSet::new();
    let panics = move |job: Job, _: JobContext| async move {
        assert!(job.input["panic"].is_null(), "as asked");
        handler(job).await
    };
    side.spawn(worker.run(panics, shutdown.clone()));
    let id = bench.submit(json!({"x": "ü"})).await;
    assert_eq!(bench.ended(&id).await.output, Some(json!({"x": "ü"})));
    let id = bench.submit(json!({"panic": true})).await;
    let end = bench.ended(&id).await;
    assert_eq!(end.error.unwrap().error_type(), Some("handler_panicked"));
    shutdown.cancel();
    side.join_next().await.unwrap().unwrap();
    bench.sim.stop().await;
}

#[tokio::test]
async fn a_result_above_the_limit_becomes_an_error() {
    let bench = Bench::bare(&[]).await;
    let settings = WorkerSettings {
        result_bytes_max: 1000,
        ..WorkerSettings::default()
    };
    let worker = Worker::start(outside_worker(&bench), settings).unwrap();
    let shutdown = CancellationToken::new();
    let mut side = tokio::task::JoinSet::new();
    let large = |_: Job, _: JobContext| async { JobOutcome::done(json!("x".repeat(2000))) };
    side.spawn(worker.run(large, shutdown.clone()));
    let id = bench.submit(json!({})).await;
    let end = bench.ended(&id).await;
    assert_eq!(end.error.unwrap().error_type(), Some("result_too_large"));
    shutdown.cancel();
    side.join_next().await.unwrap().unwrap();
    bench.sim.stop().await;
}

#[tokio::test]
async fn a_job_that_slips_in_while_stopping_is_given_back_as_failed() {
    let bench = Bench::bare(&[]).await;
    let settings = WorkerSettings {
        take_grace: Duration::from_secs(5),
        ..WorkerSettings::default()
    };
    let worker = Worker::start(outside_worker(&bench), settings).unwrap();
    let shutdown = CancellationToken::new();
    let mut side = tokio::task::JoinSet::new();
    let never = |_: Job, _: JobContext| async { JobOutcome::done(json!("taken after all")) };
    side.spawn(worker.run(never, shutdown.clone()));
    wait_for("an open poll", async || {
        (bench.calls("job-take").await > 0).then_some(())
    })
    .await;
    shutdown.cancel();
    let id = bench.submit(json!({})).await;
    let end = bench.ended(&id).await;
    assert_eq!(end.error.unwrap().error_type(), Some("worker_stopping"));
    side.join_next().await.unwrap().unwrap();
    bench.sim.stop().await;
}

#[tokio::test]
async fn workers_end_with_an_emulator_that_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let ports = dir.path().join("ports.json");
    let mut sim = tokio::process::Command::new(env!("CARGO_BIN_EXE_runpod-sim"))
        .args([
            "--listen",
            "127.0.0.1:0",
            "--workers-min",
            "1",
            "--cold-start",
            "0",
        ])
        .args(["--worker", env!("CARGO_BIN_EXE_runpod-echo-worker")])
        .args([
            Path::new("--ports-file"),
            &ports,
            Path::new("--worker-dir"),
            dir.path(),
        ])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let text = wait_for("the ports file", async || {
        std::fs::read_to_string(&ports).ok()
    })
    .await;
    let ports: Value = serde_json::from_str(&text).unwrap();
    let url = format!("http://{}/_sim/state", ports["http"].as_str().unwrap());
    drop(rustls::crypto::ring::default_provider().install_default());
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let pid = wait_for("an idle worker", async || {
        let state: Value = http.get(&url).send().await.ok()?.json().await.ok()?;
        let worker = &state["workers"][0];
        if worker["state"] == "idle" {
            worker["pid"].as_u64()
        } else {
            None
        }
    })
    .await;
    sim.kill().await.unwrap();
    wait_for("the worker's end", async || (!runs(pid)).then_some(())).await;
}

/// Whether a process exists and is more than a zombie.
pub(super) fn runs(pid: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit(')')
        .next()
        .and_then(|rest| rest.trim().chars().next());
    state.is_some_and(|state| state != 'Z')
}
