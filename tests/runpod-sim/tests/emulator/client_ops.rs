//! Operations of the client API beyond /run and /status, as RunPod's documents have them.

use std::time::Instant;

use super::*;

#[tokio::test]
async fn runsync_holds_until_the_end_and_its_id_says_sync() {
    let bench = Bench::start(&[]).await;
    let body = json!({"input": {"steps": 2, "step_ms": 100, "echo": "now"}});
    let (status, answer) = bench.call("POST", "/v2/ep-sim/runsync", Some(body)).await;
    assert_eq!((status, &answer["status"]), (200, &json!("COMPLETED")));
    assert_eq!(answer["output"]["echo"], "now");
    let id = answer["id"].as_str().unwrap();
    assert!(id.starts_with("sync-") && id.ends_with("-u1"), "{id}");
    bench.sim.stop().await;
}

#[tokio::test]
async fn runsync_and_status_sync_answer_what_is_known_when_the_wait_is_over() {
    let bench = Bench::bare(&["--clock-factor", "10"]).await;
    let began = Instant::now();
    let run = Some(json!({"input": {}}));
    let (status, answer) = bench
        .call("POST", "/v2/ep-sim/runsync?wait=1000", run.clone())
        .await;
    assert_eq!((status, &answer["status"]), (200, &json!("IN_QUEUE")));
    let (status, _) = bench.call("POST", "/v2/ep-sim/runsync", run).await;
    assert_eq!(status, 200);
    let real = began.elapsed();
    assert!(
        real >= Duration::from_secs(9),
        "90 s by default, ten times as fast: {real:?}"
    );
    assert_eq!(bench.take("w").await["id"], answer["id"]);
    let path = format!(
        "/v2/ep-sim/status-sync/{}?wait=1000",
        answer["id"].as_str().unwrap()
    );
    for verb in ["GET", "POST"] {
        let (status, answer) = bench.call(verb, &path, None).await;
        assert_eq!((status, &answer["status"]), (200, &json!("IN_PROGRESS")));
    }
    let unknown = bench
        .call("GET", "/v2/ep-sim/status-sync/nobody", None)
        .await;
    assert_eq!(unknown.0, 404);
    bench.sim.stop().await;
}

#[tokio::test]
async fn status_sync_wakes_at_the_end() {
    let bench = Bench::start(&[]).await;
    let id = bench.submit(json!({"steps": 3, "step_ms": 100})).await;
    let path = format!("/v2/ep-sim/status-sync/{id}?wait=90000");
    let (_, answer) = bench.call("GET", &path, None).await;
    assert_eq!(answer["status"], "COMPLETED");
    bench.sim.stop().await;
}

#[tokio::test]
async fn a_stream_is_drained_once_and_the_rest_comes_with_the_end() {
    let bench = Bench::bare(&["--clock-factor", "10"]).await;
    let id = bench.submit(json!({})).await;
    let path = format!("/v2/ep-sim/stream/{id}");
    let began = Instant::now();
    let empty = bench.call("GET", &path, None).await;
    assert_eq!(empty, (200, json!({"status": "IN_QUEUE", "stream": []})));
    let real = began.elapsed();
    assert!(
        real >= Duration::from_millis(990),
        "10 s by default: {real:?}"
    );
    bench.take("w").await;
    for chunk in ["a", "b"] {
        assert_eq!(
            bench
                .post("job-stream", "w", &id, json!({"output": chunk}))
                .await,
            200
        );
    }
    let both = json!({"status": "IN_PROGRESS", "stream": [{"output": "a"}, {"output": "b"}]});
    assert_eq!(bench.call("GET", &path, None).await, (200, both));
    bench
        .post("job-stream", "w", &id, json!({"output": {"n": 3}}))
        .await;
    assert_eq!(
        bench
            .post("job-done", "w", &id, json!({"output": []}))
            .await,
        200
    );
    let rest = json!({"status": "COMPLETED", "stream": [{"output": {"n": 3}}]});
    assert_eq!(bench.call("POST", &path, None).await, (200, rest));
    let none = json!({"status": "COMPLETED", "stream": []});
    assert_eq!(bench.call("GET", &path, None).await, (200, none));
    bench.sim.stop().await;
}

#[tokio::test]
async fn a_failed_job_is_retried_with_its_id_and_input() {
    let bench = Bench::bare(&[]).await;
    let id = bench.submit(json!({"n": 1})).await;
    let retry = format!("/v2/ep-sim/retry/{id}");
    assert_eq!(bench.call("POST", &retry, None).await.0, 400, "not failed");
    bench.take("w").await;
    bench
        .post("job-done", "w", &id, json!({"error": "x", "output": 1}))
        .await;
    let queued = json!({"id": id, "status": "IN_QUEUE"});
    assert_eq!(
        bench.call("POST", &retry, Some(json!({}))).await,
        (200, queued.clone())
    );
    let path = format!("/v2/ep-sim/status/{id}");
    assert_eq!(
        bench.call("POST", &path, None).await,
        (200, queued),
        "no output is left"
    );
    let again = bench.take("w").await;
    assert_eq!(
        (&again["id"], &again["input"]),
        (&json!(id), &json!({"n": 1}))
    );
    assert_eq!(
        bench.call("POST", "/v2/ep-sim/retry/nobody", None).await.0,
        404
    );
    bench.sim.stop().await;
}

#[tokio::test]
async fn posts_without_a_payload_may_have_any_body_or_none() {
    let bench = Bench::bare(&["--rate-limits", "off"]).await;
    for (body, content_type) in [
        ("", None),
        ("{}", Some("application/json")),
        ("", Some("text/plain")),
    ] {
        let id = bench.submit(json!({})).await;
        for path in [
            format!("status/{id}"),
            format!("cancel/{id}"),
            "purge-queue".to_owned(),
        ] {
            let url = bench.url(&format!("/v2/ep-sim/{path}"));
            let mut request = bench
                .http
                .post(url)
                .header("Authorization", "Bearer sim-client-key");
            if let Some(content_type) = content_type {
                request = request.header("Content-Type", content_type);
            }
            let answer = request.body(body).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{path}");
        }
    }
    bench.sim.stop().await;
}

#[tokio::test]
async fn a_purge_cancels_what_is_queued_and_says_how_many() {
    let bench = Bench::bare(&[]).await;
    let (running, queued) = (bench.submit(json!({})).await, bench.submit(json!({})).await);
    bench.take("w").await;
    let purged = bench.call("POST", "/v2/ep-sim/purge-queue", None).await;
    assert_eq!(purged, (200, json!({"removed": 1, "status": "completed"})));
    let status = async |id: &str| {
        let (_, answer) = bench
            .call("GET", &format!("/v2/ep-sim/status/{id}"), None)
            .await;
        answer["status"].clone()
    };
    assert_eq!(
        (status(&running).await, status(&queued).await),
        (json!("IN_PROGRESS"), json!("CANCELLED"))
    );
    bench.sim.stop().await;
}

#[tokio::test]
async fn health_metrics_and_requests_have_all_their_keys() {
    let bench = Bench::start(&["--workers-min", "1"]).await;
    let worker = bench.worker_in("idle").await;
    let id = bench.submit(json!({"echo": 1})).await;
    bench.ended(&id).await;
    let (_, health) = bench.call("GET", "/v2/ep-sim/health", None).await;
    for key in ["completed", "failed", "inProgress", "inQueue", "retried"] {
        assert!(health["jobs"][key].is_u64(), "{key}");
    }
    for key in [
        "idle",
        "initializing",
        "ready",
        "running",
        "throttled",
        "unhealthy",
    ] {
        assert!(health["workers"][key].is_u64(), "{key}");
    }
    let (_, metrics) = bench.call("GET", "/v2/ep-sim/metrics", None).await;
    assert_eq!(metrics["readyWorkers"], json!([worker["id"]]));
    assert_eq!(metrics["workers"]["ready"], 1);
    let (_, requests) = bench.call("GET", "/v2/ep-sim/requests", None).await;
    assert_eq!(requests["requests"][0]["id"], json!(id));
    bench.sim.stop().await;
}

#[tokio::test]
async fn the_openai_path_is_a_job_with_route_and_input() {
    let bench = Bench::bare(&[]).await;
    let body = json!({"model": "m", "messages": []});
    let asking = bench.call(
        "POST",
        "/v2/ep-sim/openai/v1/chat/completions",
        Some(body.clone()),
    );
    let answering = async {
        let job = bench.take("w").await;
        let input = json!({"openai_route": "/v1/chat/completions", "openai_input": body});
        assert_eq!(job["input"], input);
        let id = job["id"].as_str().unwrap();
        bench
            .post("job-done", "w", id, json!({"output": [{"choices": []}]}))
            .await
    };
    let (answer, posted) = tokio::join!(asking, answering);
    assert_eq!((answer, posted), ((200, json!({"choices": []})), 200));
    let streamed = bench
        .http
        .post(bench.url("/v2/ep-sim/openai/v1/completions"));
    let streamed = streamed.header("Authorization", "Bearer sim-client-key");
    let asking = async {
        let answer = streamed
            .json(&json!({"stream": true}))
            .send()
            .await
            .unwrap();
        answer.text().await.unwrap()
    };
    let answering = async {
        let job = bench.take("w").await;
        let id = job["id"].as_str().unwrap();
        bench
            .post("job-stream", "w", id, json!({"output": "data: one\n\n"}))
            .await;
        bench
            .post("job-stream", "w", id, json!({"output": {"n": 2}}))
            .await;
        bench.post("job-done", "w", id, json!({"output": []})).await;
    };
    let (text, ()) = tokio::join!(asking, answering);
    assert_eq!(text, "data: one\n\ndata: {\"n\":2}\n\n");
    bench.sim.stop().await;
}

#[tokio::test]
async fn what_is_out_of_range_or_too_large_is_a_bad_request() {
    let flags = [
        "--run-bytes-max",
        "1048576",
        "--runsync-bytes-max",
        "2097152",
    ];
    let bench = Bench::bare(&flags).await;
    let run = async |operation: &str, body: Value| {
        bench
            .call("POST", &format!("/v2/ep-sim/{operation}"), Some(body))
            .await
    };
    let large = json!({"input": "x".repeat(1_200_000)});
    let (status, problem) = run("run", large.clone()).await;
    assert_eq!((status, &problem["title"]), (400, &json!("Bad Request")));
    assert_eq!(
        problem["detail"],
        "bad request: body: exceeded max body size of 1MiB"
    );
    assert_eq!(
        run("runsync?wait=1000", large).await.0,
        200,
        "sync may be larger"
    );
    let short = json!({"input": {}, "policy": {"executionTimeout": 4999}});
    assert_eq!(run("run", short).await.0, 400);
    let long = json!({"input": {}, "policy": {"ttl": 604_800_001}});
    assert_eq!(run("run", long).await.0, 400);
    assert_eq!(run("run", json!({"prompt": 1})).await.0, 400, "no input");
    bench.sim.stop().await;
}

#[tokio::test]
async fn rate_limits_are_runpods_and_answer_429() {
    let bench = Bench::bare(&[]).await;
    let purge = async || bench.call("POST", "/v2/ep-sim/purge-queue", None).await.0;
    assert_eq!(
        (purge().await, purge().await, purge().await),
        (200, 200, 429)
    );
    bench.control("clock", json!({"advance_ms": 10_000})).await;
    assert_eq!(purge().await, 200, "ten seconds later");
    bench.sim.stop().await;
    let bench = Bench::bare(&["--rate-limits", "off"]).await;
    for _ in 0..5 {
        assert_eq!(
            bench.call("POST", "/v2/ep-sim/purge-queue", None).await.0,
            200
        );
    }
    bench.sim.stop().await;
}

#[tokio::test]
async fn keys_are_raw_or_bearer_and_a_read_only_one_may_only_look() {
    let bench = Bench::bare(&["--read-only-key", "look"]).await;
    for key in [
        "sim-client-key",
        "Bearer sim-client-key",
        "look",
        "Bearer look",
    ] {
        let health = bench.call_with(key, "GET", "/v2/ep-sim/health", None).await;
        assert_eq!(health.0, 200, "{key}");
    }
    let run = bench.call_with("look", "POST", "/v2/ep-sim/run", Some(json!({"input": {}})));
    assert_eq!(run.await.0, 401);
    bench.sim.stop().await;
}
