use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::{Query, State};
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::get;
use photofinish_outbound::Policy;

use super::*;

const LIMITS: InputLimits = InputLimits {
    image_bytes_max: 1000,
    video_bytes_max: 1000,
    audio_bytes_max: 1000,
    captions_bytes_max: 1000,
    download_timeout: Duration::from_secs(10),
    local: std::collections::BTreeMap::new(),
};

/// Google Drive as far as one large file needs it: asks whether it may be given unseen.
async fn drive_like(
    State(asked): State<Arc<AtomicUsize>>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    asked.fetch_add(1, Ordering::Relaxed);
    let is = |name: &str, value: &str| query.get(name).is_some_and(|given| given == value);
    if is("id", "private") {
        return Html("<!doctype html><html>Sign in</html>").into_response();
    }
    if is("confirm", "t") && is("uuid", "77") {
        return "the film".into_response();
    }
    Html(
        "<!DOCTYPE html><html><form id=\"download-form\" action=\"/download\" method=\"get\">\
         <input type=\"hidden\" name=\"id\" value=\"1\"><input type=\"hidden\" name=\"confirm\" value=\"t\">\
         <input type=\"hidden\" name=\"uuid\" value=\"77\"></form></html>",
    )
    .into_response()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test's own server ends with the test"
)]
async fn serve() -> (String, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let routes = Router::new().route("/download", get(drive_like));
    let routes = routes.with_state(asked.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/download", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (base, asked)
}

fn outbound() -> Outbound {
    photofinish_runtime::install_crypto();
    Outbound::new(Policy::from_texts(&["127.0.0.0/8"]).unwrap()).unwrap()
}

#[tokio::test]
async fn a_large_file_of_google_drives_is_confirmed_and_a_private_one_named() {
    let ((base, asked), outbound) = (serve().await, outbound());
    let (dir, stop) = (tempfile::tempdir().unwrap(), CancellationToken::new());
    let fetch = Fetch {
        outbound: &outbound,
        limits: &LIMITS,
        kind: Kind::Video,
        stop: &stop,
    };
    let path = dir.path().join("film");
    fetch.drive(&format!("{base}?id=1"), &path).await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"the film");
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    let private = fetch.drive(&format!("{base}?id=private"), &path).await;
    let Err(Halt::Fault(fault)) = private else {
        panic!("{private:?}");
    };
    assert_eq!(
        (fault.fault.code, fault.permanent),
        (Code::InputNotFound, true)
    );
    assert!(fault.fault.detail.contains("everyone who has the link"));
    let folder = fetch
        .file("https://drive.google.com/drive/folders/1AbC", &path)
        .await;
    let Err(Halt::Fault(fault)) = folder else {
        panic!("{folder:?}");
    };
    assert_eq!(fault.fault.code, Code::InputNotFound);
}
