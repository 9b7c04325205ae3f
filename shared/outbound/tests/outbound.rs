//! The client against real local servers, loopback allowed where a call is meant to succeed.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::get;
use photofinish_kit::{Answer, Fault, FaultProxy, Receiver, install_crypto};
use photofinish_outbound::{Class, Limits, Outbound, OutboundError, Phase, Policy, Refused};

const SIZE: usize = 3_000_000;

fn outbound(allow: &[&str]) -> anyhow::Result<Outbound> {
    install_crypto();
    let policy = Policy::from_texts(allow).map_err(|wrong| anyhow::anyhow!("{wrong:?}"))?;
    Ok(Outbound::new(policy)?)
}

fn local() -> anyhow::Result<Outbound> {
    outbound(&["127.0.0.0/8"])
}

fn quick() -> Limits {
    Limits {
        first_byte: Duration::from_millis(500),
        idle: Duration::from_millis(500),
        total: Duration::from_secs(20),
        ..Limits::default()
    }
}

/// A file of `SIZE` bytes that knows ranges, if `etag` is set; counts its requests and their ranges.
#[derive(Clone, Default)]
struct Files {
    etag: Option<&'static str>,
    ranges: Arc<Mutex<Vec<String>>>,
    version: Arc<AtomicU32>,
}

fn content(version: u32) -> Bytes {
    (0..SIZE)
        .map(|n| (n as u32).wrapping_mul(31).wrapping_add(version) as u8)
        .collect()
}

async fn file(State(files): State<Files>, headers: HeaderMap) -> Response {
    let text = |name| {
        headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap_or_default())
            .to_owned()
    };
    let range = text(header::RANGE);
    files
        .ranges
        .lock()
        .expect("no test panics with it")
        .push(range.clone());
    let version = files.version.load(Ordering::SeqCst);
    let whole = content(version);
    let etag = files.etag.map(|etag| format!("\"{etag}{version}\""));
    let kind = (header::CONTENT_TYPE, "video/mp4".to_owned());
    let Some(etag) = etag else {
        return ([kind], whole).into_response();
    };
    let tag = (header::ETAG, etag.clone());
    let from: Option<usize> = range
        .strip_prefix("bytes=")
        .and_then(|range| range.trim_end_matches('-').parse().ok());
    match from {
        Some(from) if text(header::IF_RANGE) == etag => {
            let range = (
                header::CONTENT_RANGE,
                format!("bytes {from}-{}/{SIZE}", SIZE - 1),
            );
            (
                StatusCode::PARTIAL_CONTENT,
                [tag, range],
                whole.slice(from..),
            )
                .into_response()
        }
        Some(_) | None => ([kind, tag], whole).into_response(),
    }
}

async fn serve(router: Router) -> anyhow::Result<String> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?.to_string();
    #[expect(
        clippy::disallowed_methods,
        reason = "a test's own server ends with the test"
    )]
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(addr)
}

async fn serve_files(files: &Files) -> anyhow::Result<String> {
    serve(
        Router::new()
            .route("/file", get(file))
            .with_state(files.clone()),
    )
    .await
}

#[tokio::test]
async fn loopback_is_called_only_when_allowed() -> anyhow::Result<()> {
    let receiver = Receiver::start().await?;
    let port = receiver.addr().port();
    for host in [
        "127.0.0.1",
        "127.1",
        "0x7f.1",
        "2130706433",
        "[::ffff:127.0.0.1]",
        "localhost",
    ] {
        let url = format!("http://{host}:{port}/");
        let error = outbound(&[])?.get(&url, &quick()).await.unwrap_err();
        assert!(
            matches!(error, OutboundError::Refused(Refused::Address(_))),
            "{host}: {error:?}"
        );
        assert_eq!(error.class(), Class::Permanent);
    }
    assert!(receiver.received().is_empty());
    let answer = outbound(&["127.0.0.0/8", "::1"])?
        .get(&format!("http://localhost:{port}/a?b=c"), &quick())
        .await?;
    assert_eq!(answer.status, 200);
    assert_eq!(receiver.received()[0].header("accept-encoding"), "identity");
    Ok(())
}

#[tokio::test]
async fn every_redirect_is_checked_and_their_number_is_bounded() -> anyhow::Result<()> {
    let router = Router::new()
        .route("/twice", get(|| async { Redirect::temporary("/once") }))
        .route("/once", get(|| async { Redirect::permanent("end") }))
        .route("/end", get(|| async { "here" }))
        .route(
            "/private",
            get(|| async { Redirect::temporary("http://10.0.0.1/") }),
        )
        .route(
            "/metadata",
            get(|| async { Redirect::temporary("http://0xa9fea9fe/latest") }),
        )
        .route(
            "/scheme",
            get(|| async { Redirect::temporary("file:///etc/passwd") }),
        )
        .route("/loop", get(|| async { Redirect::temporary("/loop") }))
        .route("/nowhere", get(|| async { StatusCode::FOUND }));
    let base = format!("http://{}", serve(router).await?);
    let client = local()?;
    let answer = client.get(&format!("{base}/twice"), &quick()).await?;
    assert_eq!((answer.status, answer.url.path()), (200, "/end"));
    assert_eq!(answer.body.bytes().await?, "here");
    for (path, range) in [("/private", "private"), ("/metadata", "metadata")] {
        let error = client
            .get(&format!("{base}{path}"), &quick())
            .await
            .unwrap_err();
        let expected = Refused::Address(range);
        assert!(
            matches!(&error, OutboundError::Refused(why) if *why == expected),
            "{error:?}"
        );
    }
    let error = client
        .get(&format!("{base}/scheme"), &quick())
        .await
        .unwrap_err();
    assert!(
        matches!(error, OutboundError::Refused(Refused::Scheme(_))),
        "{error:?}"
    );
    for path in ["/loop", "/nowhere"] {
        let error = client
            .get(&format!("{base}{path}"), &quick())
            .await
            .unwrap_err();
        assert!(
            matches!(error, OutboundError::Redirects { max: 5 }),
            "{error:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_post_follows_nothing_and_keeps_a_kilobyte() -> anyhow::Result<()> {
    let receiver = Receiver::start().await?;
    receiver.script([
        Answer {
            status: 503,
            headers: vec![("retry-after".into(), "7".into())],
            body: "x".repeat(100_000),
            ..Answer::default()
        },
        Answer {
            status: 302,
            headers: vec![("location".into(), receiver.url("/other"))],
            ..Answer::default()
        },
    ]);
    let mut headers = HeaderMap::new();
    headers.insert("webhook-id", "evt_1".parse()?);
    let client = local()?;
    let (url, limits) = (receiver.url("/hook"), quick());
    let post = || client.post(&url, headers.clone(), "{}".into(), &limits);
    let posted = post().await;
    let first = posted.outcome?;
    assert_eq!(
        (first.status, first.retry_after),
        (503, Some(Duration::from_secs(7)))
    );
    assert_eq!(first.body_prefix.len(), 1024);
    assert!(first.timing.first_byte <= first.timing.total);
    assert_eq!(post().await.outcome?.status, 302);
    let received = receiver.received();
    assert_eq!(received.len(), 2);
    assert_eq!(
        (received[0].header("webhook-id"), &received[0].body[..]),
        ("evt_1", &b"{}"[..])
    );
    Ok(())
}

/// Answers every request on every connection; counts the connections.
async fn counting(connections: Arc<AtomicU32>) -> anyhow::Result<String> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?.to_string();
    let router = Router::new().route("/", axum::routing::post(|| async { "taken" }));
    let counted = axum::serve::ListenerExt::tap_io(listener, move |_| {
        connections.fetch_add(1, Ordering::SeqCst);
    });
    #[expect(
        clippy::disallowed_methods,
        reason = "a test's own server ends with the test"
    )]
    tokio::spawn(async move { axum::serve(counted, router).await });
    Ok(addr)
}

#[tokio::test]
async fn connections_are_used_again() -> anyhow::Result<()> {
    let connections = Arc::<AtomicU32>::default();
    let url = format!("http://{}/", counting(connections.clone()).await?);
    let (client, limits) = (local()?, quick());
    let post = || client.post(&url, HeaderMap::new(), "{}".into(), &limits);
    for _ in 0..20 {
        assert_eq!(post().await.outcome?.status, 200);
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    for _ in 0..5 {
        let round = futures_util::future::join_all((0..24).map(|_| post())).await;
        for posted in round {
            assert_eq!(posted.outcome?.status, 200);
        }
    }
    let opened = connections.load(Ordering::SeqCst);
    assert!(opened <= 30, "{opened} connections for 24 at a time");
    Ok(())
}

#[tokio::test]
async fn every_wait_has_a_limit() -> anyhow::Result<()> {
    let receiver = Receiver::start().await?;
    receiver.always(Answer {
        delay: Duration::from_secs(30),
        ..Answer::default()
    });
    let client = local()?;
    let error = client.get(&receiver.url("/"), &quick()).await.unwrap_err();
    assert!(
        matches!(error, OutboundError::Timeout(Phase::FirstByte)),
        "{error:?}"
    );
    let short = Limits {
        total: Duration::from_millis(100),
        ..quick()
    };
    let outcome = client
        .post(&receiver.url("/"), HeaderMap::new(), Bytes::new(), &short)
        .await;
    let error = outcome.outcome.unwrap_err();
    assert!(
        matches!(error, OutboundError::Timeout(Phase::Total)),
        "{error:?}"
    );
    assert_eq!(error.class(), Class::Transient);

    let slow = get(|| async {
        let head = futures_util::stream::once(async { Ok::<_, std::io::Error>("head") });
        Body::from_stream(futures_util::StreamExt::chain(
            head,
            futures_util::stream::pending(),
        ))
    });
    let addr = serve(Router::new().route("/", slow)).await?;
    let answer = client.get(&format!("http://{addr}/"), &quick()).await?;
    let error = answer.body.bytes().await.unwrap_err();
    assert!(
        matches!(error, OutboundError::Timeout(Phase::Idle)),
        "{error:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_closed_port_is_transient() -> anyhow::Result<()> {
    let port = photofinish_kit::free_port()?;
    let error = local()?
        .get(&format!("http://127.0.0.1:{port}/"), &quick())
        .await
        .unwrap_err();
    assert!(matches!(error, OutboundError::Connect(_)), "{error:?}");
    assert_eq!(error.class(), Class::Transient);
    Ok(())
}

#[tokio::test]
async fn a_download_goes_on_where_it_was_cut() -> anyhow::Result<()> {
    let files = Files {
        etag: Some("v"),
        ..Files::default()
    };
    let proxy = FaultProxy::start(serve_files(&files).await?).await?;
    proxy.set(Fault::CutAfter(1_200_000));
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("video");
    let url = format!("http://{}/file", proxy.addr());
    let done = local()?.download(&url, &path, &quick()).await?;
    assert_eq!(done.bytes, SIZE as u64);
    assert_eq!(done.content_type.as_deref(), Some("video/mp4"));
    assert!(done.resumes >= 2, "{done:?}");
    assert_eq!(std::fs::read(&path)?, content(0));
    let ranges = files.ranges.lock().unwrap().clone();
    assert!(ranges[0].is_empty() && ranges[1..].iter().all(|range| range.starts_with("bytes=")));
    Ok(())
}

#[tokio::test]
async fn a_file_that_changed_or_has_no_mark_is_begun_anew() -> anyhow::Result<()> {
    for etag in [Some("v"), None] {
        let files = Files {
            etag,
            ..Files::default()
        };
        let proxy = FaultProxy::start(serve_files(&files).await?).await?;
        proxy.set(Fault::CutAfter(1_200_000));
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("video");
        let url = format!("http://{}/file", proxy.addr());
        let client = local()?;
        let limits = quick();
        let download = client.download(&url, &path, &limits);
        let change = async {
            let what = "the first request was cut";
            let asked = || async { files.ranges.lock().unwrap().len() == 1 && path.exists() };
            photofinish_kit::wait_until(Duration::from_secs(5), what, asked).await?;
            files.version.store(1, Ordering::SeqCst);
            let asked = || async { files.ranges.lock().unwrap().len() > 1 };
            photofinish_kit::wait_until(Duration::from_secs(5), "a second one", asked).await?;
            proxy.set(Fault::None);
            proxy.cut_all();
            anyhow::Ok(())
        };
        let (done, changed) = tokio::join!(download, change);
        changed?;
        assert_eq!(done?.bytes, SIZE as u64);
        assert_eq!(std::fs::read(&path)?, content(1), "{etag:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_download_ends_at_its_limits() -> anyhow::Result<()> {
    let files = Files {
        etag: Some("v"),
        ..Files::default()
    };
    let addr = serve_files(&files).await?;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("video");
    let client = local()?;
    let small = Limits {
        body_max: 1_000_000,
        ..quick()
    };
    let error = client
        .download(&format!("http://{addr}/file"), &path, &small)
        .await
        .unwrap_err();
    assert!(
        matches!(error, OutboundError::TooLarge { max: 1_000_000 }),
        "{error:?}"
    );
    let error = client
        .download(&format!("http://{addr}/none"), &path, &small)
        .await
        .unwrap_err();
    assert!(
        matches!(error, OutboundError::Status { status: 404, .. }),
        "{error:?}"
    );
    assert_eq!(error.class(), Class::Permanent);

    let endless = get(|| async {
        let chunks = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![0; 65_536]));
        Body::from_stream(chunks)
    });
    let addr = serve(Router::new().route("/", endless)).await?;
    let error = client
        .download(&format!("http://{addr}/"), &path, &small)
        .await
        .unwrap_err();
    assert!(matches!(error, OutboundError::TooLarge { .. }), "{error:?}");

    let proxy = FaultProxy::start(serve_files(&Files::default()).await?).await?;
    proxy.set(Fault::CutAfter(100_000));
    let few = Limits {
        resumes_max: 2,
        ..quick()
    };
    let url = format!("http://{}/file", proxy.addr());
    let error = client.download(&url, &path, &few).await.unwrap_err();
    assert!(matches!(error, OutboundError::Interrupted(_)), "{error:?}");
    Ok(())
}
