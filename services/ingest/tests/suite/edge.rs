//! What is the same at every call, and what a stranger can take of the process.

use crate::house::{House, SOON, ask, job};
use photofinish_kit::{Method, wait_until};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
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
}

#[tokio::test]
async fn what_is_no_request_is_refused_with_a_problem_as_well() {
    let house = House::open().await;
    let long = "x".repeat(300_000);
    let many = "a: b\r\n".repeat(101);
    for (said, status, code) in [
        (
            format!("GET /v1/jobs HTTP/1.1\r\nx-huge: {long}\r\n\r\n"),
            431,
            "head_too_large",
        ),
        (
            format!("GET /v1/jobs HTTP/1.1\r\n{many}\r\n"),
            431,
            "head_too_large",
        ),
        (
            format!("GET /{long} HTTP/1.1\r\nhost: x\r\n\r\n"),
            431,
            "head_too_large",
        ),
        (
            "GET / HTTP/1.1\r\n: nothing\r\n\r\n".to_owned(),
            400,
            "malformed",
        ),
        (
            "{\"operation\": \"img2vid\"}\r\n\r\n".to_owned(),
            400,
            "malformed",
        ),
        // After a good one on the same connection.
        (
            "GET /docs HTTP/1.1\r\nhost: x\r\n\r\n\u{0}\r\n\r\n".to_owned(),
            400,
            "malformed",
        ),
    ] {
        let mut socket = begun(&house, &said).await;
        let mut told = Vec::new();
        let ended = timeout(SOON, socket.read_to_end(&mut told)).await.unwrap();
        let told = String::from_utf8_lossy(&told).into_owned();
        let shown = said.chars().take(40).collect::<String>();
        assert!(ended.is_ok(), "{shown}: reset before it was told: {told}");
        let (_, last) = told.rsplit_once("HTTP/1.1 ").expect("an answer");
        let (head, body) = last.split_once("\r\n\r\n").expect("a whole answer");
        assert!(head.starts_with(&status.to_string()), "{shown}: {told}");
        assert!(
            head.contains("content-type: application/problem+json"),
            "{head}"
        );
        let problem: Value = serde_json::from_str(body).unwrap();
        assert_eq!(problem["code"], code, "{shown}");
        let known = photofinish_model::Code::ALL
            .iter()
            .any(|known| known.as_str() == code);
        assert!(known, "{code}");
    }
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

/// Clients that hang: heads that do not end, answers that nobody reads, a body that does not come.
async fn hanging(house: &House) -> (Vec<TcpStream>, Vec<TcpStream>, TcpStream) {
    let (mut slow, mut deaf) = (Vec::new(), Vec::new());
    for _ in 0..50 {
        slow.push(begun(house, "GET /v1/jobs HTTP/1.1\r\nhost: x\r\n").await);
    }
    let much = "GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(200);
    for _ in 0..10 {
        deaf.push(begun(house, &much).await);
    }
    let head = format!(
        "POST /v1/jobs HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: 1000\r\nconnection: close\r\n\r\n{{",
        house.key
    );
    (slow, deaf, begun(house, &head).await)
}

#[tokio::test]
async fn nobody_waits_for_clients_that_hang() {
    // None is let go here: whoever waited for one of them would wait for ever.
    let house = with(&[
        ("http.header_timeout_s", "600"),
        ("http.body_timeout_s", "600"),
        ("http.request_timeout_s", "600"),
        ("http.write_timeout_s", "600"),
    ])
    .await;
    let (slow, _deaf, mut half) = hanging(&house).await;
    for _ in 0..20 {
        let answer = timeout(SOON, house.submit(None, &job(1))).await;
        assert_eq!(answer.expect("it does not wait for those").0, 202);
    }
    // They were there all the time, and are answered when they go on.
    half.write_all(" ".repeat(999).as_bytes()).await.unwrap();
    assert!(rest(half).await.starts_with("HTTP/1.1 400"));
    for mut socket in slow {
        socket
            .write_all(b"connection: close\r\n\r\n")
            .await
            .unwrap();
        assert!(rest(socket).await.starts_with("HTTP/1.1 401"));
    }
}

#[tokio::test]
async fn clients_that_hang_are_let_go() {
    let house = with(&[
        ("http.header_timeout_s", "1"),
        ("http.body_timeout_s", "1"),
        ("http.write_timeout_s", "1"),
    ])
    .await;
    let (slow, deaf, half) = hanging(&house).await;
    let answer = rest(half).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("request_timeout"), "{answer}");
    for socket in slow {
        assert!(!rest(socket).await.contains("200 OK"));
    }
    // Reading would be taking.
    tokio::time::sleep(Duration::from_secs(3)).await; // paced: nothing is taken for longer than the timeout
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
async fn bodies_that_hang_leave_room_for_those_of_others() {
    let house = with(&[("http.bodies_bytes_max", "4194304")]).await;
    let (_, other) = house.make_tenant("patient").await;
    let head = format!(
        "POST /v1/jobs HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: 1048576\r\n\r\n{{",
        house.key
    );
    let hanging = [begun(&house, &head).await, begun(&house, &head).await];
    let full = || async {
        let (status, problem) = house.submit(None, &job(1)).await;
        (status, &problem["code"]) == (503, &json!("unavailable"))
    };
    wait_until(SOON, "its share is taken", full).await.unwrap();
    let call = house.call(Method::POST, "/v1/jobs").bearer_auth(other);
    assert_eq!(ask(call.json(&job(1))).await.0, 202);
    // Of a stranger nothing is waited for.
    let stranger = "POST /hooks/runpod/a.b HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                    content-length: 1000\r\nconnection: close\r\n\r\n{";
    let told = rest(begun(&house, stranger).await).await;
    assert!(told.starts_with("HTTP/1.1 401"), "{told}");
    drop(hanging);
    let room = || async { house.submit(None, &job(1)).await.0 == 202 };
    wait_until(SOON, "its share is free again", room)
        .await
        .unwrap();
}

/// Connections from an address that are kept, until one more is turned away for this reason.
async fn filled(house: &House, from: [u8; 4], why: &str) -> Vec<TcpStream> {
    let mut held = Vec::new();
    loop {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        let mut socket = socket
            .connect(house.address().parse().unwrap())
            .await
            .unwrap();
        // Who is turned away is told so whatever he says, and may not get it said.
        let _said = socket
            .write_all(b"GET /v1/jobs HTTP/1.1\r\nhost: x\r\n\r\n")
            .await;
        let mut told = [0; 1024];
        let read = timeout(SOON, socket.read(&mut told))
            .await
            .unwrap()
            .unwrap();
        let told = String::from_utf8_lossy(&told[..read]).into_owned();
        if told.starts_with("HTTP/1.1 401") {
            held.push(socket);
            continue;
        }
        assert!(
            told.starts_with("HTTP/1.1 503") && told.contains(why),
            "{told}"
        );
        return held;
    }
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let limits = [
        ("http.connections_max", "6"),
        ("http.connections_per_address_max", "4"),
        ("http.header_timeout_s", "600"),
    ];
    let house = with(&limits).await;
    // One that the house's own client has kept is one of them.
    let mine = filled(&house, [127, 0, 0, 1], "from this address").await;
    assert!((3..=4).contains(&mine.len()), "{}", mine.len());
    let others = filled(&house, [127, 0, 0, 2], "too many connections;").await;
    assert_eq!(others.len(), 2);
    drop(mine);
    let room = || async {
        let call = house.mine(Method::GET, "/v1/jobs").send().await;
        call.is_ok_and(|answer| answer.status() == 200)
    };
    wait_until(SOON, "there is room again", room).await.unwrap();
    drop(others);
}
