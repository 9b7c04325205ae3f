//! The official Python worker on our emulator.

use std::path::Path;
use std::time::Duration;

use photofinish_interop::{House, SOON, python, script};
use photofinish_kit::{wait_for, wait_until};
use serde_json::{Value, json};

async fn house(program: &str, flags: &[&str]) -> House {
    let python = python().unwrap();
    let script = script(program);
    House::start(
        &[&python.to_string_lossy(), "-u", &script.to_string_lossy()],
        flags,
    )
    .await
    .unwrap()
}

#[tokio::test]
async fn python_worker_runs_jobs_and_reports_errors() {
    let house = house("python/handler.py", &[]).await;
    let say = json!({"x": 1, "ü": ["é", null]});
    let echo = house
        .run(json!({"what": "echo", "say": say}))
        .await
        .unwrap();
    let done = house.until_status(&echo, "COMPLETED").await.unwrap();
    assert_eq!(done["output"], say);
    assert!(
        done["executionTime"].is_u64()
            && done["delayTime"].is_u64()
            && done["workerId"].is_string(),
        "{done}"
    );

    let nothing = house.run(json!({"what": "nothing"})).await.unwrap();
    let done = house.until_status(&nothing, "COMPLETED").await.unwrap();
    assert_eq!(done.get("output"), None, "an empty result has no output");

    let raised = house.run(json!({"what": "raise"})).await.unwrap();
    let failed = house.until_status(&raised, "FAILED").await.unwrap();
    let error: Value = serde_json::from_str(failed["error"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&error["error_message"], &error["worker_id"]),
        (&json!("boom"), &failed["workerId"])
    );

    let told = house.run(json!({"what": "error"})).await.unwrap();
    let failed = house.until_status(&told, "FAILED").await.unwrap();
    assert_eq!(
        (&failed["error"], &failed["output"]),
        (&json!("bad seed"), &json!({"partial": 5}))
    );
}

#[tokio::test]
async fn python_worker_shows_progress_before_its_result() {
    let house = house("python/handler.py", &[]).await;
    let gate = house.path("gate");
    let job = house
        .run(json!({"what": "progress", "gate": gate}))
        .await
        .unwrap();
    let seen = house
        .until(&job, "progress is shown", |status| {
            status["output"]["step"] == 1
        })
        .await
        .unwrap();
    assert_eq!(
        (&seen["status"], &seen["output"]["of"]),
        (&json!("IN_PROGRESS"), &json!("ü"))
    );
    std::fs::write(gate, "").unwrap();
    let done = house.until_status(&job, "COMPLETED").await.unwrap();
    assert_eq!(done["output"], json!({"done": true}));
}

#[tokio::test]
async fn python_worker_streams() {
    let house = house("python/generator.py", &[]).await;
    let job = house
        .run(json!({"chunks": [1, {"two": 2}, "three"]}))
        .await
        .unwrap();
    let mut chunks = Vec::new();
    let stream = format!("stream/{job}");
    loop {
        let answer = house.call(&stream, None).await.unwrap();
        let some = answer["stream"].as_array().unwrap();
        chunks.extend(some.iter().map(|chunk| chunk["output"].clone()));
        if answer["status"] == "COMPLETED" && some.is_empty() {
            break;
        }
    }
    assert_eq!(chunks, [json!(1), json!({"two": 2}), json!("three")]);
    let done = house.until_status(&job, "COMPLETED").await.unwrap();
    assert_eq!(done["output"], json!(chunks), "the aggregate");

    let job = house.run(json!({"chunks": ["a", "raise"]})).await.unwrap();
    let failed = house.until_status(&job, "FAILED").await.unwrap();
    assert!(
        failed["error"].as_str().unwrap().contains("mid"),
        "{failed}"
    );
}

#[tokio::test]
async fn python_worker_is_told_of_a_cancelled_job_and_goes_on() {
    let house = house("python/handler.py", &[]).await;
    let gate = house.path("never");
    let job = house
        .run(json!({"what": "wait", "gate": gate}))
        .await
        .unwrap();
    let running = house.until_status(&job, "IN_PROGRESS").await.unwrap();
    there(&format!("{gate}.started")).await;
    let answer = house
        .call(&format!("cancel/{job}"), Some(json!({})))
        .await
        .unwrap();
    assert_eq!(answer["status"], "CANCELLED");
    there(&format!("{gate}.cancelled")).await;
    let next = house.run(json!({"what": "echo", "say": 1})).await.unwrap();
    let done = house.until_status(&next, "COMPLETED").await.unwrap();
    assert_eq!(
        done["workerId"], running["workerId"],
        "the same worker does the next job"
    );
    assert_eq!(
        house.call(&format!("status/{job}"), None).await.unwrap()["status"],
        "CANCELLED"
    );
}

#[tokio::test]
async fn python_worker_finishes_its_job_after_sigterm() {
    let house = house("python/handler.py", &[]).await;
    let gate = house.path("gate");
    let job = house
        .run(json!({"what": "wait", "gate": gate}))
        .await
        .unwrap();
    let running = house.until_status(&job, "IN_PROGRESS").await.unwrap();
    let worker = running["workerId"].as_str().unwrap();
    house
        .control(&format!("workers/{worker}/kill"), json!({"signal": "TERM"}))
        .await
        .unwrap();
    std::fs::write(&gate, "").unwrap();
    let done = house.until_status(&job, "COMPLETED").await.unwrap();
    assert_eq!(
        (&done["workerId"], done["retries"].as_u64()),
        (&running["workerId"], None),
        "{done}"
    );
    let how = ended(&house, worker).await;
    assert!(how.contains("exit status: 0"), "{how}");
}

/// The SDK takes a job with the poll that is open at SIGTERM and loses it, once its loop that runs jobs has ended.
/// RunPod's queue must not.
#[tokio::test]
async fn a_job_that_the_python_worker_swallows_at_its_end_runs_on_another() {
    let house = house("python/handler.py", &["--poll-hold", "20s"]).await;
    let first = house.run(json!({"what": "echo", "say": 1})).await.unwrap();
    let done = house.until_status(&first, "COMPLETED").await.unwrap();
    let worker = done["workerId"].as_str().unwrap().to_owned();
    wait_until(SOON, "its next poll is open", || async {
        let state = house.state().await.unwrap_or_default();
        state["calls"]["job-take"].as_u64() >= Some(2)
    })
    .await
    .unwrap();
    house
        .control(&format!("workers/{worker}/kill"), json!({"signal": "TERM"}))
        .await
        .unwrap();
    wait_until(SOON, "it heard SIGTERM", || async {
        house.logs().contains("Received shutdown signal")
    })
    .await
    .unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await; // paced: the loop that runs jobs looks every 0.1 s
    let second = house.run(json!({"what": "echo", "say": 2})).await.unwrap();
    let done = house.until_status(&second, "COMPLETED").await.unwrap();
    assert_eq!(done["output"], 2);
    assert_ne!(done["workerId"], json!(worker), "{done}");
    assert_eq!(done["retries"], 1, "the first one swallowed it: {done}");
}

#[tokio::test]
async fn python_worker_that_asks_for_it_is_replaced() {
    let house = house("python/handler.py", &[]).await;
    let job = house.run(json!({"what": "refresh"})).await.unwrap();
    let done = house.until_status(&job, "COMPLETED").await.unwrap();
    assert_eq!(done["output"], json!({"r": 2}));
    // By itself or, as the SDK waits for its open polls, by force.
    ended(&house, done["workerId"].as_str().unwrap()).await;
    let next = house.run(json!({"what": "echo", "say": 1})).await.unwrap();
    let again = house.until_status(&next, "COMPLETED").await.unwrap();
    assert_ne!(again["workerId"], done["workerId"]);
}

#[tokio::test]
async fn python_worker_takes_several_jobs_at_once() {
    let house = house(
        "python/handler.py",
        &["--worker-env", "INTEROP_CONCURRENCY=3"],
    )
    .await;
    let gate = house.path("gate");
    let mut jobs = Vec::new();
    for _ in 0..3 {
        jobs.push(
            house
                .run(json!({"what": "wait", "gate": gate}))
                .await
                .unwrap(),
        );
    }
    for job in &jobs {
        house.until_status(job, "IN_PROGRESS").await.unwrap();
    }
    let health = house.call("health", None).await.unwrap();
    assert_eq!(
        (&health["jobs"]["inProgress"], &health["workers"]["running"]),
        (&json!(3), &json!(1))
    );
    std::fs::write(&gate, "").unwrap();
    for job in &jobs {
        house.until_status(job, "COMPLETED").await.unwrap();
    }
}

/// Waits for a file that the handler leaves.
async fn there(path: &str) {
    wait_until(SOON, path, || async { Path::new(path).exists() })
        .await
        .unwrap();
}

/// How a worker ended.
async fn ended(house: &House, worker: &str) -> String {
    let gone = wait_for(SOON, "the worker ends", || async {
        let state = house.state().await.ok()?;
        find_gone(&state, worker)
    });
    gone.await.unwrap()
}

/// Wherever in the emulator's state it lists workers that are gone.
fn find_gone(state: &Value, worker: &str) -> Option<String> {
    let map = state.as_object()?;
    let rows = map.get("gone").and_then(Value::as_array);
    let row = rows.and_then(|rows| rows.iter().find(|row| row["id"] == worker));
    match row {
        Some(row) => Some(row["how"].as_str().unwrap_or_default().to_owned()),
        None => map.values().find_map(|value| find_gone(value, worker)),
    }
}
