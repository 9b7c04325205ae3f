//! Every fault that calls of clients and workers can be made to suffer.

use std::time::Instant;

use super::*;

/// A health call as it comes: status, content type, body; or how it broke.
async fn health(bench: &Bench) -> Result<(u16, String, String), reqwest::Error> {
    let request = bench.http.get(bench.url("/v2/ep-sim/health"));
    let answer = request
        .header("Authorization", "sim-client-key")
        .send()
        .await?;
    let content_type = answer.headers().get("content-type");
    let content_type = content_type.map(|value| value.to_str().unwrap().to_owned());
    let status = answer.status().as_u16();
    Ok((
        status,
        content_type.unwrap_or_default(),
        answer.text().await?,
    ))
}

#[tokio::test]
async fn an_html_page_and_a_body_that_is_not_json() {
    let bench = Bench::bare(&[]).await;
    let page = json!({"operation": "health", "status": 502, "content_type": "text/html",
                      "body": "<html>502 Bad Gateway</html>"});
    bench.fault(page).await;
    bench
        .fault(json!({"operation": "health", "body": "{\"jobs\": "}))
        .await;
    let expected = (
        502,
        "text/html".to_owned(),
        "<html>502 Bad Gateway</html>".to_owned(),
    );
    assert_eq!(health(&bench).await.unwrap(), expected);
    let (status, _, body) = health(&bench).await.unwrap();
    assert_eq!((status, body.as_str()), (200, "{\"jobs\": "));
    assert_eq!(health(&bench).await.unwrap().0, 200);
    bench.sim.stop().await;
}

#[tokio::test]
async fn too_many_requests_with_and_without_retry_after() {
    let bench = Bench::bare(&[]).await;
    bench
        .fault(json!({"operation": "health", "status": 429}))
        .await;
    bench
        .fault(json!({"operation": "health", "status": 429, "retry_after": 7}))
        .await;
    for expected in [None, Some("7")] {
        let request = bench.http.get(bench.url("/v2/ep-sim/health"));
        let answer = request.send().await.unwrap();
        let retry_after = answer.headers().get("retry-after");
        assert_eq!(answer.status(), 429);
        assert_eq!(retry_after.map(|value| value.to_str().unwrap()), expected);
    }
    bench.sim.stop().await;
}

#[tokio::test]
async fn an_unknown_status_and_missing_fields() {
    let bench = Bench::bare(&[]).await;
    let id = bench.submit(json!({})).await;
    let path = format!("/v2/ep-sim/status/{id}");
    let edit = json!({"operation": "status", "set": {"status": "WARMING_UP"}, "remove": ["id"]});
    bench.fault(edit).await;
    let edited = bench.call("GET", &path, None).await;
    assert_eq!(edited, (200, json!({"status": "WARMING_UP"})));
    let true_one = bench.call("GET", &path, None).await;
    assert_eq!(true_one, (200, json!({"id": id, "status": "IN_QUEUE"})));
    bench.sim.stop().await;
}

#[tokio::test]
async fn connections_are_cut_before_the_answer_and_in_its_middle() {
    let bench = Bench::bare(&[]).await;
    bench
        .fault(json!({"operation": "health", "cut": "before"}))
        .await;
    let before = health(&bench).await.unwrap_err();
    assert!(before.is_request(), "no answer at all: {before:?}");
    bench
        .fault(json!({"operation": "health", "cut": "body"}))
        .await;
    let middle = health(&bench).await.unwrap_err();
    assert!(
        middle.is_body() || middle.is_decode(),
        "half an answer: {middle:?}"
    );
    bench
        .fault(json!({"operation": "run", "cut": "before", "perform": true}))
        .await;
    let url = bench.url("/v2/ep-sim/run");
    let run = bench
        .http
        .post(url)
        .header("Authorization", "sim-client-key");
    assert!(run.json(&json!({"input": {}})).send().await.is_err());
    let (_, health) = bench.call("GET", "/v2/ep-sim/health", None).await;
    assert_eq!(
        health["jobs"]["inQueue"], 1,
        "the submit took effect all the same"
    );
    bench.sim.stop().await;
}

#[tokio::test]
async fn a_hang_never_answers_and_a_delay_does() {
    let bench = Bench::bare(&[]).await;
    bench
        .fault(json!({"operation": "health", "hang": true}))
        .await;
    let hanging = tokio::time::timeout(Duration::from_millis(300), health(&bench));
    assert!(hanging.await.is_err());
    bench
        .fault(json!({"operation": "health", "delay_ms": 300}))
        .await;
    let began = Instant::now();
    assert_eq!(health(&bench).await.unwrap().0, 200);
    assert!(began.elapsed() >= Duration::from_millis(300));
    bench.sim.stop().await;
}

#[tokio::test]
async fn rates_hit_one_endpoint_with_the_same_calls_for_the_same_seed() {
    let flags = ["--endpoint-also", "ep-two", "--rate-limits", "off"];
    let bench = Bench::bare(&flags).await;
    let fault =
        json!({"operation": "health", "endpoint": "ep-two", "rate": 0.5, "seed": 3, "status": 500});
    let drawn = async || {
        bench.fault(fault.clone()).await;
        let mut codes = Vec::new();
        for _ in 0..40 {
            codes.push(bench.call("GET", "/v2/ep-two/health", None).await.0);
            assert_eq!(bench.call("GET", "/v2/ep-sim/health", None).await.0, 200);
        }
        let cleared = bench.call("DELETE", "/_sim/faults", None).await;
        assert_eq!(cleared.0, 204);
        codes
    };
    let first = drawn().await;
    let errors = first.iter().filter(|code| **code == 500).count();
    assert!((10..31).contains(&errors), "{errors}");
    assert_eq!(first, drawn().await);
    assert_eq!(bench.call("GET", "/v2/ep-two/health", None).await.0, 200);
    bench.sim.stop().await;
}

#[tokio::test]
async fn faults_that_cannot_be_are_refused_and_those_to_come_are_listed() {
    let bench = Bench::bare(&[]).await;
    for wrong in [
        json!({"operation": "walk"}),
        json!({"operation": "run", "count": 0}),
        json!({"operation": "run", "rate": 1.5}),
        json!({"operation": "run", "walk": 1}),
        json!({"operation": 1}),
    ] {
        assert_eq!(bench.call("POST", "/_sim/faults", Some(wrong)).await.0, 400);
    }
    bench
        .fault(json!({"operation": "run", "status": 500}))
        .await;
    let (_, listed) = bench.call("GET", "/_sim/faults", None).await;
    assert_eq!(listed["calls"][0]["operation"], "run");
    // As curl sends it when it is told nothing else.
    let form = bench.http.post(bench.url("/_sim/faults"));
    let form = form.header("Content-Type", "application/x-www-form-urlencoded");
    let sent = form.body(r#"{"operation": "health"}"#).send().await;
    assert_eq!(sent.unwrap().status(), 204);
    bench.sim.stop().await;
}

#[tokio::test]
async fn result_posts_that_are_refused_or_fail_or_hang() {
    let bench = Bench::bare(&[]).await;
    let id = bench.submit(json!({})).await;
    bench.take("w").await;
    bench
        .fault(json!({"operation": "job-done", "status": 500}))
        .await;
    bench
        .fault(json!({"operation": "job-done", "status": 400}))
        .await;
    let post = async || bench.post("job-done", "w", &id, json!({"output": 1})).await;
    assert_eq!((post().await, post().await), (500, 400));
    bench
        .fault(json!({"operation": "job-done", "hang": true}))
        .await;
    let hanging = tokio::time::timeout(Duration::from_millis(300), post());
    assert!(hanging.await.is_err());
    assert_eq!(post().await, 200);
    bench.sim.stop().await;
}

#[tokio::test]
async fn an_empty_queue_may_answer_400_and_a_worker_goes_on() {
    let bench = Bench::start(&["--workers-min", "1", "--poll-hold", "200ms"]).await;
    bench.worker_in("idle").await;
    bench
        .fault(json!({"operation": "job-take", "status": 400, "count": 2}))
        .await;
    wait_for("both to be taken", async || {
        let (_, faults) = bench.call("GET", "/_sim/faults", None).await;
        faults["calls"].as_array()?.is_empty().then_some(())
    })
    .await;
    let id = bench.submit(json!({"echo": 1})).await;
    assert_eq!(bench.ended(&id).await.output.unwrap()["echo"], 1);
    bench.sim.stop().await;
}

#[tokio::test]
async fn pings_that_are_lost_on_the_way_lose_the_worker() {
    let flags = [
        "--workers-max",
        "1",
        "--ping-loss",
        "3s",
        "--poll-hold",
        "1m",
    ];
    let bench = Bench::start(&flags).await;
    let id = bench
        .submit(json!({"steps": 600, "step_ms": 100, "ignore_stop": true}))
        .await;
    bench.worker_in("running").await;
    bench
        .fault(json!({"operation": "ping", "ignore": true, "rate": 1.0}))
        .await;
    bench
        .until(&id, "a second run", |answer| answer.retries == 1)
        .await;
    bench.sim.stop().await;
}

#[tokio::test]
async fn proxy_bytes_are_dropped_after_so_many() {
    let bench = Bench::start(&["--workers-min", "1"]).await;
    let worker = bench.worker_in("idle").await;
    let url = bench.url(&format!(
        "/proxy/{}-8000/blob",
        worker["id"].as_str().unwrap()
    ));
    bench
        .fault(json!({"operation": "proxy", "cut_after_bytes": 100_000}))
        .await;
    let mut answer = bench.http.get(&url).send().await.unwrap();
    let mut read = 0;
    let broken = loop {
        match answer.chunk().await {
            Ok(Some(chunk)) => read += chunk.len(),
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    assert_eq!((read, broken), (100_000, true));
    let whole = bench
        .http
        .get(&url)
        .send()
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    assert_eq!(whole.len(), 3_000_000);
    bench.sim.stop().await;
}
