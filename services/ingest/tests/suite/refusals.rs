//! What is refused over HTTP, and how it is told.

use crate::house::{House, OPERATOR, ask, job};
use photofinish_kit::Method;
use serde_json::{Value, json};

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn every_refusal_is_a_problem_document() {
    let house = House::open().await;
    let (_, stranger) = house.make_tenant("stranger").await;
    let (_, shown) = house.submit(None, &job(1)).await;
    let path = format!("/v1/jobs/{}", shown["id"].as_str().unwrap());
    let big = json!({"operation": "img2vid", "metadata": {"x": "y".repeat(1024 * 1024)}});
    let post = |path: &str| house.mine(Method::POST, path);
    let cases = [
        (house.call(Method::GET, &path), 401, "unauthorized"),
        (
            house.call(Method::GET, &path).bearer_auth("pf_nonsense"),
            401,
            "unauthorized",
        ),
        (
            house.call(Method::GET, &path).bearer_auth(OPERATOR),
            403,
            "forbidden",
        ),
        (
            house.mine(Method::GET, "/v1/admin/tenants"),
            403,
            "forbidden",
        ),
        (
            house.call(Method::GET, &path).bearer_auth(&stranger),
            404,
            "not_found",
        ),
        (
            house.call(Method::DELETE, &path).bearer_auth(&stranger),
            404,
            "not_found",
        ),
        (
            house.mine(Method::GET, "/v1/jobs/job_nonsense"),
            404,
            "not_found",
        ),
        (house.mine(Method::GET, "/v1/jobs/%ff"), 404, "not_found"),
        (
            house.mine(Method::GET, "/v1/jobs/job_1/outputs/%ff"),
            404,
            "not_found",
        ),
        (house.mine(Method::GET, "/v2/jobs"), 404, "not_found"),
        (
            house.mine(Method::PUT, "/v1/jobs"),
            405,
            "method_not_allowed",
        ),
        (post("/v1/jobs").json(&big), 413, "body_too_large"),
        (
            post("/v1/jobs")
                .header("content-type", "text/plain")
                .body("{}"),
            415,
            "wrong_type",
        ),
        (
            post("/v1/jobs")
                .header("content-type", "application/json")
                .body("{"),
            400,
            "malformed",
        ),
        (post("/v1/jobs").json(&json!({})), 422, "invalid_request"),
        (post("/v1/jobs?dry=1").json(&job(1)), 422, "invalid_request"),
        (
            house.mine(Method::GET, "/v1/jobs?status=odd&limit=0&cursor=x"),
            422,
            "invalid_request",
        ),
        (
            house.mine(Method::GET, "/v1/jobs?cursor=x"),
            422,
            "invalid_request",
        ),
    ];
    for (number, (call, status, code)) in cases.into_iter().enumerate() {
        let answer = call.send().await.unwrap();
        assert_eq!(answer.status(), status, "case {number}");
        assert_eq!(
            answer.headers()["content-type"],
            "application/problem+json",
            "case {number}"
        );
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(
            (&problem["code"], &problem["status"]),
            (&json!(code), &json!(status))
        );
        assert!(
            problem["detail"]
                .as_str()
                .is_some_and(|detail| !detail.is_empty()),
            "{problem}"
        );
        assert!(
            problem["type"]
                .as_str()
                .is_some_and(|kind| kind.ends_with(code)),
            "{problem}"
        );
    }
}

#[tokio::test]
async fn all_faults_of_a_request_are_named_at_once() {
    let house = House::open().await;
    let body = json!({"operation": "img2vid", "colour": "red", "images": [
        {"image_url": "https://e.com/a", "duracao": 0},
        {"image_url": "nowhere"},
    ]});
    let (status, problem) = house.submit(None, &body).await;
    assert_eq!(status, 422);
    let pointers: Vec<&str> = problem["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["pointer"].as_str().unwrap())
        .collect();
    for pointer in [
        "/colour",
        "/images/0/duracao",
        "/images/1/image_url",
        "/images/1/duracao",
    ] {
        assert!(pointers.contains(&pointer), "{pointer} in {pointers:?}");
    }
    house.nothing_planned().await;
}

#[tokio::test]
async fn addresses_that_may_never_be_called_are_refused_at_once() {
    let house = House::open().await;
    let mut body = job(3);
    body["images"][0]["image_url"] = json!("http://127.0.0.1/a.jpg");
    body["images"][1]["image_url"] = json!("http://0x7f.1:8080/a.jpg");
    body["images"][2]["image_url"] = json!("http://user:secret@example.com/a.jpg");
    body["webhook_url"] = json!("http://[::ffff:169.254.169.254]/latest");
    let (status, problem) = house.submit(None, &body).await;
    assert_eq!(status, 422);
    let errors = problem["errors"].as_array().unwrap();
    let places: Vec<&Value> = errors.iter().map(|error| &error["pointer"]).collect();
    assert_eq!(
        places,
        [
            "/images/0/image_url",
            "/images/1/image_url",
            "/images/2/image_url",
            "/webhook_url"
        ]
    );
    assert!(
        errors
            .iter()
            .all(|error| error["code"] == "address_refused")
    );
    let (status, _) = house
        .post("/v1/webhook-endpoints", &json!({"url": "http://10.0.0.1/"}))
        .await;
    assert_eq!(status, 422);
    house.nothing_planned().await;

    let redis = photofinish_kit::Redis::fresh().unwrap();
    let allowed = [("outbound.inputs.allow", "127.0.0.0/8")];
    let house = House::with(&redis.url, &redis.prefix, &allowed).await;
    let mut body = job(1);
    body["images"][0]["image_url"] = json!("http://127.0.0.1/a.jpg");
    assert_eq!(house.submit(None, &body).await.0, 202);
}

#[tokio::test]
async fn the_old_paths_still_work() {
    let house = House::open().await;
    let old = |method, path: &str| house.call(method, path).header("X-API-Key", &house.key);
    let body = json!({"url_video": "https://e.com/v.mp4", "url_srt": "https://e.com/s.srt"});
    let (status, shown) = ask(old(Method::POST, "/video/caption").json(&body)).await;
    assert_eq!(
        (status, &shown["operation"]),
        (202, &json!("caption")),
        "{shown}"
    );
    let id = shown["id"].as_str().unwrap();
    assert_eq!(ask(old(Method::GET, &format!("/job/{id}"))).await.0, 200);
    assert_eq!(
        ask(old(Method::POST, &format!("/job/{id}/cancel"))).await.0,
        202
    );
    assert_eq!(
        ask(old(Method::POST, "/video/resize").json(&body)).await.0,
        404
    );
}

#[tokio::test]
async fn a_misspelt_dry_run_runs_nothing() {
    let house = House::open().await;
    for query in ["dry_run=1", "dry_run=True", "dry_run=", "dry_run"] {
        let (status, problem) = house.post(&format!("/v1/jobs?{query}"), &job(1)).await;
        assert_eq!(status, 422, "{query}: {problem}");
        assert_eq!(problem["errors"][0]["pointer"], "?dry_run", "{problem}");
    }
    house.nothing_planned().await;
    let (status, _) = house.post("/v1/jobs?dry_run=false", &job(1)).await;
    assert_eq!(status, 202);
}

/// A webhook's URL travels in messages of at most 64 KiB.
#[tokio::test]
async fn a_webhook_url_that_no_message_could_carry_is_refused() {
    let house = House::open().await;
    let url = |length: usize| format!("https://example.com/{}", "x".repeat(length));
    let mut body = job(1);
    body["webhook_url"] = json!(url(70_000));
    let (status, problem) = house.submit(None, &body).await;
    assert_eq!(status, 422, "{problem}");
    assert_eq!(problem["errors"][0]["pointer"], "/webhook_url");
    let endpoint = json!({"url": url(70_000)});
    let (status, problem) = house.post("/v1/webhook-endpoints", &endpoint).await;
    assert_eq!(status, 422, "{problem}");
    assert_eq!(problem["errors"][0]["pointer"], "/url");
    house.nothing_planned().await;
    body["webhook_url"] = json!(url(2000));
    assert_eq!(house.submit(None, &body).await.0, 202);
}
