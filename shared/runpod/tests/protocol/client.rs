//! What the client makes of every bad behaviour of the other side.

use std::time::Duration;

use photofinish_runpod::client::{
    Client, ClientSettings, JobStatus, RunError, RunRequest, StatusError, Unknown,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::server::{Server, Then};

/// Settings that do not wait long for a server which hangs.
pub fn settings(server: &str) -> ClientSettings {
    ClientSettings {
        run_timeout: Duration::from_millis(400),
        status_timeout: Duration::from_millis(400),
        control_timeout: Duration::from_millis(400),
        answer_bytes_max: 1024 * 1024,
        ..ClientSettings::new(format!("{server}/v2"), "key".into())
    }
}

/// A client of a server that does the same with every request.
async fn against(then: Then) -> (Client, Server) {
    let server = Server::start(move |_| then.clone()).await;
    (Client::new(settings(&server.url)).unwrap(), server)
}

pub fn request() -> RunRequest {
    RunRequest {
        input: json!({"a": 1}),
        webhook: None,
        execution_timeout: Duration::from_mins(10),
        ttl: Duration::from_hours(1),
    }
}

/// What an answer means, in a form that is easy to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Means {
    Fine,
    /// 4xx: `/run` is refused for certain.
    Refused(u16),
    /// 429, with this many seconds to wait.
    Slower(Option<u64>),
    /// Another answer, of this status, or 0 for one that cannot be understood.
    Odd(u16),
    /// No whole answer.
    Broken,
}

fn run_means(error: Option<&RunError>) -> Means {
    match error {
        None => Means::Fine,
        Some(RunError::Refused {
            status: 429,
            retry_after,
            ..
        }) => Means::Slower(retry_after.map(|wait| wait.as_secs())),
        Some(RunError::Refused { status, .. }) => Means::Refused(*status),
        Some(RunError::Unknown(Unknown::Answer { status: 200, .. })) => Means::Odd(0),
        Some(RunError::Unknown(Unknown::Answer { status, .. })) => Means::Odd(*status),
        Some(RunError::Unknown(Unknown::Transport(_))) => Means::Broken,
        Some(
            other @ (RunError::TooLarge { .. } | RunError::NotSent { .. } | RunError::Open { .. }),
        ) => {
            unreachable!("{other:?}")
        }
    }
}

fn question_means(error: Option<&StatusError>) -> Means {
    match error {
        None => Means::Fine,
        Some(StatusError::NotFound { .. }) => Means::Refused(404),
        Some(StatusError::Unauthorized { status, .. }) => Means::Refused(*status),
        Some(StatusError::RateLimited { retry_after }) => {
            Means::Slower(retry_after.map(|wait| wait.as_secs()))
        }
        Some(StatusError::Transient { status, .. }) => Means::Odd(*status),
        Some(StatusError::Transport(_)) => Means::Broken,
        Some(other @ StatusError::NotAsked { .. }) => unreachable!("{other:?}"),
    }
}

/// Every bad behaviour, and what it means to any call.
fn bad_behaviours() -> Vec<(Then, Means)> {
    let problem = json!({"detail": "why"});
    let slower = Then::json(429, &problem);
    vec![
        (Then::json(401, &problem), Means::Refused(401)),
        (Then::json(404, &problem), Means::Refused(404)),
        (slower.clone(), Means::Slower(None)),
        (
            slower.clone().with("retry-after", "7"),
            Means::Slower(Some(7)),
        ),
        (slower.with("retry-after", "soon"), Means::Slower(None)),
        // The edge may have passed the call on.
        (Then::json(408, &problem), Means::Odd(408)),
        (Then::json(500, &problem), Means::Odd(500)),
        (Then::edge_page(), Means::Odd(502)),
        (
            Then::status(302).with("location", "http://127.0.0.1:1/"),
            Means::Odd(302),
        ),
        (Then::text(200, "text/html", "<html></html>"), Means::Odd(0)),
        (Then::text(200, "application/json", ""), Means::Odd(0)),
        (Then::json(200, &json!([1])), Means::Odd(0)),
        (Then::Endless, Means::Odd(0)),
        (Then::Hang, Means::Broken),
        (Then::Cut, Means::Broken),
        (Then::HangBody(200), Means::Broken),
        (Then::CutBody(200), Means::Broken),
        // The status says enough.
        (Then::CutBody(401), Means::Refused(401)),
        (Then::CutBody(500), Means::Odd(500)),
    ]
}

#[tokio::test]
async fn every_bad_behaviour_to_a_submit_is_told_apart_and_none_is_repeated() {
    for (then, means) in bad_behaviours() {
        let (client, server) = against(then.clone()).await;
        let error = client.run("ep", &request()).await.err();
        assert_eq!(run_means(error.as_ref()), means, "{then:?}: {error:?}");
        let certain = matches!(means, Means::Refused(_) | Means::Slower(_));
        let error = error.unwrap();
        assert_eq!(error.is_refused(), certain, "{error:?}");
        assert_eq!(server.seen().len(), 1, "{then:?} was repeated");
    }
}

#[tokio::test]
async fn every_bad_behaviour_to_a_question_is_told_apart_and_none_is_repeated() {
    for (then, means) in bad_behaviours() {
        let (client, server) = against(then.clone()).await;
        let errors = [
            client.status("ep", "id").await.err(),
            client.cancel("ep", "id").await.err(),
            client.health("ep").await.err(),
        ];
        for error in errors {
            assert_eq!(question_means(error.as_ref()), means, "{then:?}: {error:?}");
            let acts = matches!(means, Means::Refused(_));
            assert_eq!(error.unwrap().is_transient(), !acts, "{then:?}");
        }
        assert_eq!(server.seen().len(), 3, "{then:?} was repeated");
    }
}

#[tokio::test]
async fn purging_bears_the_same() {
    for (then, means) in bad_behaviours() {
        let (client, _server) = against(then.clone()).await;
        let error = client.purge_queue("ep").await.err();
        let lenient = matches!(&then, Then::Answer { status: 200, body, .. } if body == b"[1]");
        let means = if lenient { Means::Fine } else { means };
        assert_eq!(question_means(error.as_ref()), means, "{then:?}: {error:?}");
    }
    let (client, server) = against(Then::json(
        200,
        &json!({"removed": 2, "status": "completed"}),
    ))
    .await;
    assert_eq!(client.purge_queue("e p").await.unwrap(), 2);
    let seen = server.seen();
    assert_eq!(
        (seen[0].method.as_str(), seen[0].target.as_str()),
        ("POST", "/v2/e%20p/purge-queue")
    );
}

#[tokio::test]
async fn missing_fields_stop_nothing_but_what_they_say() {
    let (client, _server) = against(Then::json(200, &json!({}))).await;
    let error = client.run("ep", &request()).await.unwrap_err();
    assert!(!error.is_refused(), "no id: it may be queued: {error:?}");
    assert!(client.status("ep", "id").await.unwrap_err().is_transient());
    assert!(client.cancel("ep", "id").await.unwrap_err().is_transient());
    assert!(client.health("ep").await.unwrap_err().is_transient());
    let (client, _server) = against(Then::json(200, &json!({"id": "abc-u1"}))).await;
    let accepted = client.run("ep", &request()).await.unwrap();
    assert_eq!(
        (accepted.id.as_str(), accepted.status),
        ("abc-u1", JobStatus::InQueue)
    );
    let (client, _server) = against(Then::json(200, &json!({"status": "COMPLETED"}))).await;
    let answer = client.status("ep", "id").await.unwrap();
    assert_eq!(
        (answer.status, answer.output, answer.worker_id),
        (JobStatus::Completed, None, None)
    );
    let counts = json!({"jobs": {"inQueue": 3}, "workers": {"idle": 1}});
    let (client, _server) = against(Then::json(200, &counts)).await;
    assert_eq!(client.health("ep").await.unwrap().in_flight(), 3);
}

#[tokio::test]
async fn an_unknown_status_is_kept_and_not_final() {
    let body =
        json!({"id": "a", "status": "PAUSED", "delayTime": 5, "retries": 1, "workerId": "w"});
    let (client, _server) = against(Then::json(200, &body)).await;
    let accepted = client.run("ep", &request()).await.unwrap();
    assert_eq!(accepted.status, JobStatus::Unknown("PAUSED".to_owned()));
    for answer in [
        client.status("ep", "a").await,
        client.cancel("ep", "a").await,
    ] {
        let answer = answer.unwrap();
        assert!(!answer.status.is_final() && answer.status.as_str() == "PAUSED");
        assert_eq!((answer.delay_time_ms, answer.retries), (Some(5), 1));
        assert_eq!(answer.worker_id.as_deref(), Some("w"));
    }
}

#[tokio::test]
async fn a_submit_on_a_connection_that_is_cut_is_not_repeated_on_another() {
    let server = Server::start(|seen| {
        if seen.body.is_empty() {
            Then::json(200, &json!({"status": "IN_QUEUE"}))
        } else {
            Then::Cut
        }
    })
    .await;
    let client = Client::new(settings(&server.url)).unwrap();
    client.status("ep", "id").await.unwrap();
    let error = client.run("ep", &request()).await.unwrap_err();
    assert!(
        matches!(error, RunError::Unknown(Unknown::Transport(_))),
        "{error:?}"
    );
    let seen = server.seen();
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert_eq!(
        seen[0].connection, seen[1].connection,
        "it was the kept one"
    );
}

#[tokio::test]
async fn what_was_never_sent_is_certain() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", taken.local_addr().unwrap());
    drop(taken);
    let client = Client::new(settings(&base)).unwrap();
    let error = client.run("ep", &request()).await.unwrap_err();
    assert!(
        matches!(error, RunError::NotSent { .. }) && error.is_refused(),
        "{error:?}"
    );
    assert!(client.status("ep", "id").await.unwrap_err().is_transient());
}

#[tokio::test]
async fn a_body_above_the_limit_is_not_sent() {
    let server = Server::start(|_| Then::json(200, &json!({"id": "a"}))).await;
    let client = Client::new(ClientSettings::new(&server.url, "key".into())).unwrap();
    let of = |bytes: usize| RunRequest {
        input: Value::String("x".repeat(bytes)),
        ..request()
    };
    let overhead = of(0).input.to_string().len() + 200;
    let error = client.run("ep", &of(10_000_000)).await.unwrap_err();
    assert!(
        matches!(
            error,
            RunError::TooLarge {
                max: 10_000_000,
                ..
            }
        ) && error.is_refused()
    );
    assert!(server.seen().is_empty());
    client.run("ep", &of(10_000_000 - overhead)).await.unwrap();
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_submit_carries_the_key_the_limits_and_the_webhook() {
    let server =
        Server::start(|_| Then::json(200, &json!({"id": "abc-u1", "status": "IN_QUEUE"}))).await;
    let client = Client::new(ClientSettings::new(
        format!("{}/v2/", server.url),
        "secret".into(),
    ))
    .unwrap();
    let with_hook = RunRequest {
        webhook: Some("https://example.org/hook".to_owned()),
        ..request()
    };
    client.run("ep1", &with_hook).await.unwrap();
    let seen = &server.seen()[0];
    assert_eq!(
        (seen.method.as_str(), seen.target.as_str()),
        ("POST", "/v2/ep1/run")
    );
    assert_eq!(seen.header("authorization"), Some("Bearer secret"));
    assert_eq!(seen.header("content-type"), Some("application/json"));
    let expected = json!({
        "input": {"a": 1}, "webhook": "https://example.org/hook",
        "policy": {"executionTimeout": 600_000, "ttl": 3_600_000},
    });
    assert_eq!(seen.json(), expected);
    let shown = format!("{client:?}");
    assert!(!shown.contains("secret"), "{shown}");
}
