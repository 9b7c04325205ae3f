//! What is the same at every call, and what a stranger can take of the process.

use crate::house::{House, SOON, ask, job};
use photofinish_kit::{Method, wait_until};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

async fn with(more: &[(&str, &str)]) -> House {
    let redis = photofinish_kit::Redis::fresh().unwrap();
    House::with(&redis.url, &redis.prefix, more).await
}

#[tokio::test]
async fn every_answer_has_an_id_and_is_kept_by_nobody() {
    let house = House::open().await;
    let own = house
        .mine(Method::GET, "/v1/jobs/nothing")
        .header("x-request-id", "mine-1");
    let answer = own.send().await.unwrap();
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("x-request-id"), "mine-1");
    assert_eq!(header("cache-control"), "no-store");
    assert_eq!(header("content-type"), "application/problem+json");
    let length: usize = header("content-length").parse().unwrap();
    let text = answer.text().await.unwrap();
    assert_eq!(text.len(), length);
    let problem: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(problem["instance"], "/requests/mine-1");
    let made = house
        .call(Method::GET, "/nowhere")
        .header("x-request-id", "not sane")
        .send();
    let made = made.await.unwrap();
    assert_eq!(made.headers()["x-request-id"].len(), 32);
}

#[tokio::test]
async fn what_is_not_served_is_a_problem_that_says_so() {
    let house = House::open().await;
    for (method, path, status, code) in [
        (Method::GET, "/v1/jobs/", 404, "not_found"),
        (Method::GET, "/v1/jobs/%ff", 404, "not_found"),
        (Method::GET, "/v1/jobs/job_%2e%2e", 404, "not_found"),
        (Method::OPTIONS, "/v1/jobs", 405, "method_not_allowed"),
        (Method::PATCH, "/v1/jobs", 405, "method_not_allowed"),
        (Method::GET, "/v1/jobs?cursor=%21", 422, "invalid_request"),
        (Method::GET, "/v1/jobs?cursor=MTIz", 422, "invalid_request"),
        (Method::GET, "/video/img2vid", 405, "method_not_allowed"),
    ] {
        let answer = house.mine(method.clone(), path).send().await.unwrap();
        assert_eq!(answer.status(), status, "{method} {path}");
        assert_eq!(
            answer.headers().contains_key("allow"),
            status == 405,
            "{path}"
        );
        assert!(!answer.headers().contains_key("access-control-allow-origin"));
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["code"], code, "{method} {path}");
    }
    let html = house
        .mine(Method::GET, "/v1/jobs")
        .header("accept", "text/html");
    let (status, problem) = ask(html).await;
    assert_eq!((status, &problem["code"]), (406, &json!("not_acceptable")));
    let head = house.mine(Method::HEAD, "/v1/jobs").send().await.unwrap();
    assert_eq!(head.status(), 200);
    let huge = house
        .mine(Method::GET, "/v1/jobs")
        .header("x-huge", "x".repeat(300_000));
    assert_eq!(huge.send().await.unwrap().status(), 431);
}

#[tokio::test]
async fn large_answers_are_packed_and_pages_of_named_origins_may_call() {
    let house = with(&[("http.cors_origins", "https://app.example")]).await;
    let packed = |path: &str| {
        house
            .mine(Method::GET, path)
            .header("accept-encoding", "gzip")
    };
    let large = packed("/openapi.json").send().await.unwrap();
    assert_eq!(large.headers()["content-encoding"], "gzip");
    let small = packed("/v1/jobs").send().await.unwrap();
    assert!(!small.headers().contains_key("content-encoding"));

    let ask_first = |origin: &str| {
        let call = house
            .call(Method::OPTIONS, "/v1/jobs")
            .header("origin", origin);
        call.header("access-control-request-method", "POST").send()
    };
    let allowed =
        |headers: &reqwest::header::HeaderMap| headers.get("access-control-allow-origin").cloned();
    let named = ask_first("https://app.example").await.unwrap();
    assert_eq!(allowed(named.headers()).unwrap(), "https://app.example");
    let other = ask_first("https://evil.example").await.unwrap();
    assert_eq!(allowed(other.headers()), None);
}

/// A connection that has said something and then nothing.
async fn begun(house: &House, said: &str) -> TcpStream {
    let mut socket = TcpStream::connect(house.address()).await.unwrap();
    socket.write_all(said.as_bytes()).await.unwrap();
    socket
}

/// What comes until the other side closes.
async fn rest(mut socket: TcpStream) -> String {
    let mut text = Vec::new();
    // A reset is an end like any other.
    let _ended = timeout(SOON, socket.read_to_end(&mut text)).await.unwrap();
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn slow_and_hanging_clients_slow_nobody_and_are_let_go() {
    let house = with(&[
        ("http.header_timeout_s", "2"),
        ("http.body_timeout_s", "1"),
        ("http.write_timeout_s", "1"),
    ])
    .await;
    let mut slow = Vec::new();
    for _ in 0..50 {
        slow.push(begun(&house, "GET /v1/jobs HTTP/1.1\r\nhost: x\r\n").await);
    }
    // Asks for much and reads nothing.
    let much = "GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(200);
    let mut deaf = Vec::new();
    for _ in 0..10 {
        deaf.push(begun(&house, &much).await);
    }
    let head = format!(
        "POST /v1/jobs HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: 1000\r\n\r\n{{",
        house.key
    );
    let half = begun(&house, &head).await;
    for _ in 0..20 {
        let asked = Instant::now();
        assert_eq!(house.submit(None, &job(1)).await.0, 202);
        assert!(
            asked.elapsed() < Duration::from_secs(2),
            "{:?}",
            asked.elapsed()
        );
    }
    let answer = rest(half).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("request_timeout"), "{answer}");
    for socket in slow {
        assert!(!rest(socket).await.contains("200 OK"));
    }
    // Reading would be taking.
    tokio::time::sleep(Duration::from_secs(4)).await; // paced: nothing is taken for longer than the timeout
    // Much more was asked for than the sockets hold: who is cut off gets only what they did.
    let asked_for = 200 * photofinish_ingest::openapi().to_string().len();
    for socket in deaf {
        let got = rest(socket).await.len();
        assert!(
            got < asked_for / 2,
            "{got} of {asked_for}: it was waited for"
        );
    }
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let house = with(&[("http.connections_max", "4")]).await;
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(begun(&house, "GET /v1/jobs HTTP/1.1\r\n").await);
    }
    let full = || async {
        let answer = rest(begun(&house, "").await).await;
        answer.starts_with("HTTP/1.1 503") && answer.contains("\"unavailable\"")
    };
    wait_until(SOON, "a connection is turned away", full)
        .await
        .unwrap();
    held.clear();
    let room = || async {
        let call = house.mine(Method::GET, "/v1/jobs").send().await;
        call.is_ok_and(|answer| answer.status() == 200)
    };
    wait_until(SOON, "there is room again", room).await.unwrap();
}
