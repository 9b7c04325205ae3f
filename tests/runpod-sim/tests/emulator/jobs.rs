//! Jobs from submission to their end, and what the client makes of refusals.

use std::sync::{Arc, Mutex};

use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use photofinish_runpod::client::{ClientSettings, JobStatus, RunError, StatusError};

use super::*;

#[tokio::test]
async fn a_job_is_taken_shows_progress_and_completes() {
    let bench = Bench::start(&[]).await;
    let id = bench
        .submit(json!({"steps": 5, "step_ms": 300, "echo": {"ü": [1]}}))
        .await;
    let seen = bench
        .until(&id, "progress", |answer| answer.output.is_some())
        .await;
    assert_eq!(seen.status, JobStatus::InProgress);
    assert_eq!(seen.output.unwrap()["of"], 5);
    let health = bench.client.health("ep-sim").await.unwrap();
    assert_eq!((health.in_flight(), health.workers.running), (1, 1));
    let end = bench.ended(&id).await;
    assert_eq!(end.status, JobStatus::Completed);
    let output = end.output.unwrap();
    assert_eq!(output["echo"], json!({"ü": [1]}));
    assert_eq!(output["worker"].as_str(), end.worker_id.as_deref());
    assert!(end.execution_time_ms.unwrap() >= 1500 && end.delay_time_ms.is_some());
    assert_eq!(
        bench.client.health("ep-sim").await.unwrap().jobs.completed,
        1
    );
    bench.sim.stop().await;
}

#[tokio::test]
async fn a_failed_job_carries_its_structured_error() {
    let bench = Bench::start(&[]).await;
    let id = bench.submit(json!({"fail": "no such image"})).await;
    let end = bench.ended(&id).await;
    assert_eq!(end.status, JobStatus::Failed);
    let fault = end.error.unwrap();
    assert_eq!(
        (fault.error_type(), fault.message()),
        (Some("asked_to_fail"), "no such image")
    );
    assert_eq!(
        fault.parsed.unwrap()["worker_id"].as_str(),
        end.worker_id.as_deref()
    );
    bench.sim.stop().await;
}

#[tokio::test]
async fn the_completion_webhook_is_tried_again_and_shows_the_final_view() {
    let bodies: Arc<Mutex<Vec<Value>>> = Arc::default();
    let kept = Arc::clone(&bodies);
    let hook = post(move |Json(body): Json<Value>| async move {
        let mut bodies = kept.lock().unwrap();
        bodies.push(body);
        if bodies.len() == 1 {
            StatusCode::INTERNAL_SERVER_ERROR
        } else {
            StatusCode::OK
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let serving = axum::serve(listener, Router::new().route("/hook", hook)).into_future();
    let mut side = tokio::task::JoinSet::new();
    side.spawn(serving);
    let bench = Bench::start(&["--webhook-delay", "50ms"]).await;
    let id = bench.submit_with(json!({"echo": 1}), Some(url)).await;
    wait_for("two calls", async || {
        (bodies.lock().unwrap().len() == 2).then_some(())
    })
    .await;
    let url = bench.url(&format!("/v2/ep-sim/status/{id}"));
    let status = bench
        .http
        .get(url)
        .header("Authorization", "sim-client-key")
        .send();
    let status: Value = status.await.unwrap().json().await.unwrap();
    assert_eq!(*bodies.lock().unwrap(), [status.clone(), status]);
    bench.sim.stop().await;
}

#[tokio::test]
async fn a_cancel_reaches_the_worker_which_posts_nothing_and_goes_on() {
    let bench = Bench::start(&["--workers-max", "1"]).await;
    let id = bench.submit(json!({"steps": 600, "step_ms": 100})).await;
    let running = bench
        .until(&id, "progress", |answer| answer.output.is_some())
        .await;
    let end = bench.client.cancel("ep-sim", &id).await.unwrap();
    assert_eq!(end.status, JobStatus::Cancelled);
    let next = bench.submit(json!({"echo": 2})).await;
    let next = bench.ended(&next).await;
    assert_eq!(
        (next.status, next.worker_id),
        (JobStatus::Completed, running.worker_id)
    );
    assert_eq!(bench.status(&id).await.status, JobStatus::Cancelled);
    assert!(bench.state().await["gone"].as_array().unwrap().is_empty());
    bench.sim.stop().await;
}

#[tokio::test]
async fn progress_after_the_end_is_dropped_and_a_second_result_refused() {
    let bench = Bench::bare(&[]).await;
    let id = bench.submit(json!({})).await;
    let key = ("Authorization", "sim-worker-key");
    let take = bench
        .http
        .get(bench.url("/v2/ep-sim/job-take/w1"))
        .header(key.0, key.1);
    let job: Value = take.send().await.unwrap().json().await.unwrap();
    assert_eq!(
        (job["id"].as_str(), &job["input"]),
        (Some(id.as_str()), &json!({}))
    );
    let url = bench.url(&format!("/v2/ep-sim/job-done/w1/{id}?isStream=false"));
    let post = async |body: &str| {
        let sent = bench
            .http
            .post(&url)
            .header(key.0, key.1)
            .body(body.to_owned())
            .send();
        sent.await.unwrap().status().as_u16()
    };
    assert_eq!(post(r#"{"output": 1}"#).await, 200);
    assert_eq!(
        post(r#"{"status": "IN_PROGRESS", "output": "late"}"#).await,
        200
    );
    assert_eq!(post(r#"{"output": 2}"#).await, 400);
    assert_eq!(bench.status(&id).await.output, Some(json!(1)));
    bench.sim.stop().await;
}

#[tokio::test]
async fn keys_endpoints_and_ids_are_checked() {
    let bench = Bench::bare(&["--ttl", "10m", "--poll-hold", "100ms"]).await;
    let unknown = bench.client.status("ep-sim", "nobody").await.unwrap_err();
    assert!(matches!(unknown, StatusError::NotFound { .. }), "{unknown}");
    let elsewhere = bench
        .client
        .run("other", &request(json!({}), None))
        .await
        .unwrap_err();
    let RunError::Refused {
        status: 404,
        detail,
        ..
    } = &elsewhere
    else {
        panic!("{elsewhere}")
    };
    assert_eq!(detail, "endpoint not found");
    for wrong in ["sim-worker-key", "nonsense"] {
        let settings = ClientSettings::new(bench.sim.base_url(), wrong.into());
        let client = Client::new(settings).unwrap();
        let refused = client.health("ep-sim").await.unwrap_err();
        assert!(matches!(
            refused,
            StatusError::Unauthorized { status: 401, .. }
        ));
        let refused = client
            .run("ep-sim", &request(json!({}), None))
            .await
            .unwrap_err();
        assert!(refused.is_refused());
    }
    let null = bench
        .client
        .run("ep-sim", &request(Value::Null, None))
        .await
        .unwrap_err();
    assert!(matches!(null, RunError::Refused { status: 400, .. }));
    let take = bench.call("GET", "/v2/ep-sim/job-take/w1", None).await;
    assert_eq!(take, (204, Value::Null), "a stranger sees an empty queue");
    let done = bench.call("POST", "/v2/ep-sim/job-done/w1/j", Some(json!({})));
    assert_eq!(done.await.0, 401);
    let unknown = bench.call("GET", "/v2/other/health", None).await;
    assert_eq!(unknown, (404, json!({"detail": "endpoint not found"})));
    bench.sim.stop().await;
}

#[tokio::test]
async fn refused_and_unknown_submits_are_told_apart() {
    let bench = Bench::bare(&["--run-bytes-max", "2048"]).await;
    let run = async || {
        bench
            .client
            .run("ep-sim", &request(json!({"a": 1}), None))
            .await
            .unwrap_err()
    };
    bench
        .fault(json!({"operation": "run", "status": 429, "retry_after": 3}))
        .await;
    let refused = run().await;
    assert!(refused.is_refused());
    assert_eq!(refused.retry_after(), Some(Duration::from_secs(3)));
    bench
        .fault(json!({"operation": "run", "status": 500, "perform": true}))
        .await;
    assert!(!run().await.is_refused());
    assert_eq!(
        bench.client.health("ep-sim").await.unwrap().jobs.in_queue,
        1
    );
    let large = request(json!({"a": "x".repeat(4000)}), None);
    let refused = bench.client.run("ep-sim", &large).await.unwrap_err();
    assert!(matches!(refused, RunError::Refused { status: 400, .. }));
    bench
        .fault(json!({"operation": "status", "status": 429, "retry_after": 2}))
        .await;
    let limited = bench.client.status("ep-sim", "x").await.unwrap_err();
    let StatusError::RateLimited { retry_after } = limited else {
        panic!("{limited}")
    };
    assert_eq!(retry_after, Some(Duration::from_secs(2)));
    bench.sim.stop().await;
}

#[tokio::test]
async fn an_expired_job_is_not_found() {
    let bench = Bench::bare(&["--lenient-policy", "true"]).await;
    let short = RunRequest {
        ttl: Duration::from_millis(100),
        ..request(json!({}), None)
    };
    let id = bench.client.run("ep-sim", &short).await.unwrap().id;
    wait_for("a 404", async || {
        let asked = bench.client.status("ep-sim", &id).await;
        matches!(asked, Err(StatusError::NotFound { .. })).then_some(())
    })
    .await;
    bench.sim.stop().await;
}

#[tokio::test]
async fn results_are_posted_again_until_they_arrive() {
    let bench = Bench::start(&[]).await;
    bench
        .fault(json!({"operation": "job-done", "status": 502, "count": 2}))
        .await;
    let id = bench.submit(json!({"echo": "kept"})).await;
    assert_eq!(bench.ended(&id).await.output.unwrap()["echo"], "kept");
    assert_eq!(bench.calls("job-done").await, 3);
    bench.sim.stop().await;
}

#[tokio::test]
async fn posts_of_workers_are_json_whatever_they_say_and_have_a_limit() {
    let bench = Bench::bare(&["--result-bytes-max", "1000"]).await;
    let id = bench.submit(json!({})).await;
    bench.take("w").await;
    // No isStream, no gpu, another content type: the SDK's own and none.
    let url = bench.url(&format!("/v2/ep-sim/job-done/w/{id}"));
    let post = async |content_type: &str, body: String| {
        let request = bench
            .http
            .post(&url)
            .header("Authorization", "sim-worker-key");
        let request = request.header("Content-Type", content_type).body(body);
        request.send().await.unwrap().status().as_u16()
    };
    let form = "application/x-www-form-urlencoded";
    let large = json!({"output": "x".repeat(1000)}).to_string();
    assert_eq!(post(form, large).await, 400);
    assert_eq!(post(form, "output=1".to_owned()).await, 400);
    let half = json!({"status": "IN_PROGRESS", "output": "half"}).to_string();
    assert_eq!(post("text/plain", half).await, 200);
    assert_eq!(bench.status(&id).await.output, Some(json!("half")));
    assert_eq!(post(form, json!({"output": "é"}).to_string()).await, 200);
    assert_eq!(bench.status(&id).await.output, Some(json!("é")));
    bench.sim.stop().await;
}

#[tokio::test]
async fn a_worker_that_asks_to_be_stopped_is_stopped_after_its_job() {
    let bench = Bench::start(&["--workers-min", "1", "--workers-max", "1"]).await;
    let worker = bench.worker_in("idle").await;
    let worker = worker["id"].as_str().unwrap();
    let id = bench
        .submit(json!({"steps": 600, "step_ms": 100, "ignore_stop": true}))
        .await;
    bench.worker_in("running").await;
    let body = json!({"output": 1, "stopPod": true});
    assert_eq!(bench.post("job-done", worker, &id, body).await, 200);
    wait_for("its end", async || {
        let state = bench.state().await;
        (state["gone"][0]["id"] == worker).then_some(())
    })
    .await;
    bench.sim.stop().await;
}
