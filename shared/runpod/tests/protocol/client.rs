//! What the client makes of faults on the wire.

use std::time::Duration;

use photofinish_runpod::client::{
    Client, ClientSettings, JobStatus, RunAccepted, RunError, RunRequest, StatusError, Unknown,
};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// What a server does once it has read a request.
#[derive(Debug, Clone, Copy)]
enum Then {
    Answer(&'static str),
    Cut,
    Hang,
}

/// A client of a server that does the same with every request.
async fn against(then: Then) -> (Client, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/v2", listener.local_addr().unwrap());
    let mut side = JoinSet::new();
    side.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = vec![0; 65536];
            let _read = stream.read(&mut buffer).await.unwrap();
            match then {
                Then::Answer(text) => stream.write_all(text.as_bytes()).await.unwrap(),
                Then::Cut => {}
                Then::Hang => std::future::pending().await,
            }
        }
    });
    let settings = ClientSettings {
        run_timeout: Duration::from_millis(500),
        status_timeout: Duration::from_millis(500),
        ..ClientSettings::new(base, "key".into())
    };
    (Client::new(settings).unwrap(), side)
}

fn request() -> RunRequest {
    let (execution_timeout, ttl) = (Duration::from_mins(10), Duration::from_hours(1));
    RunRequest {
        input: json!({"a": 1}),
        webhook: None,
        execution_timeout,
        ttl,
    }
}

async fn run(then: Then) -> Result<RunAccepted, RunError> {
    let (client, _side) = against(then).await;
    client.run("ep", &request()).await
}

const EDGE: &str = "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 13\r\ncontent-type: text/html\r\n\r\n<html></html>";
const NO_ID: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
const MOVED: &str =
    "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
const SHORT: &str = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\nconnection: close\r\n\r\n{\"id\":";

#[tokio::test]
async fn what_may_have_been_queued_is_unknown() {
    for then in [Then::Cut, Then::Hang, Then::Answer(SHORT)] {
        let error = run(then).await.unwrap_err();
        assert!(
            matches!(error, RunError::Unknown(Unknown::Transport(_))),
            "{then:?}: {error:?}"
        );
        assert!(!error.is_refused());
    }
    for (answer, code) in [(EDGE, 502), (NO_ID, 200), (MOVED, 302)] {
        let error = run(Then::Answer(answer)).await.unwrap_err();
        let RunError::Unknown(Unknown::Answer { status, .. }) = error else {
            unreachable!("{error:?}")
        };
        assert_eq!(status, code);
    }
}

#[tokio::test]
async fn what_was_never_sent_or_was_refused_is_certain() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/v2", taken.local_addr().unwrap());
    drop(taken);
    let client = Client::new(ClientSettings::new(&base, "key".into())).unwrap();
    let error = client.run("ep", &request()).await.unwrap_err();
    assert!(matches!(error, RunError::NotSent { .. }), "{error:?}");
    let settings = ClientSettings {
        run_body_bytes_max: 10,
        ..ClientSettings::new(base, "key".into())
    };
    let error = Client::new(settings)
        .unwrap()
        .run("ep", &request())
        .await
        .unwrap_err();
    assert!(matches!(error, RunError::TooLarge { max: 10, .. }) && error.is_refused());
    let refusal = "HTTP/1.1 400 Bad Request\r\ncontent-length: 16\r\n\r\n{\"detail\":\"why\"}";
    let error = run(Then::Answer(refusal)).await.unwrap_err();
    let RunError::Refused {
        status: 400,
        detail,
        ..
    } = error
    else {
        unreachable!("{error:?}")
    };
    assert_eq!(detail, "why");
}

#[tokio::test]
async fn an_accepted_run_has_an_id() {
    let answer =
        "HTTP/1.1 200 OK\r\ncontent-length: 36\r\n\r\n{\"id\":\"abc-u1\",\"status\":\"IN_QUEUE\"} ";
    let accepted = run(Then::Answer(answer)).await.unwrap();
    assert_eq!(
        (accepted.id.as_str(), accepted.status),
        ("abc-u1", JobStatus::InQueue)
    );
}

#[tokio::test]
async fn questions_without_an_answer_can_be_asked_again() {
    for then in [
        Then::Cut,
        Then::Hang,
        Then::Answer(EDGE),
        Then::Answer(NO_ID),
    ] {
        let (client, _side) = against(then).await;
        let error = client.status("ep", "id").await.unwrap_err();
        assert!(error.is_transient(), "{then:?}: {error:?}");
    }
    let gone = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
    let (client, _side) = against(Then::Answer(gone)).await;
    let error = client.status("ep", "id").await.unwrap_err();
    assert!(matches!(error, StatusError::NotFound { .. }) && !error.is_transient());
}
