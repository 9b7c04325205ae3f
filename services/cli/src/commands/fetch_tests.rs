#![expect(
    clippy::disallowed_methods,
    reason = "tests have no runtime of ours around them"
)]

use super::*;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response};
use serde_json::Value;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use url::Url;

/// A service with one job of one output, which cuts the first download short.
#[derive(Debug)]
struct Service {
    status: &'static str,
    content: Vec<u8>,
    stated_sha256: String,
    cut_after: Mutex<Option<usize>>,
    ranges: Mutex<Vec<String>>,
    base: Mutex<String>,
}

impl Service {
    fn new(status: &'static str) -> Arc<Self> {
        let content: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
        Arc::new(Self {
            status,
            stated_sha256: hex::encode(Sha256::digest(&content)),
            content,
            cut_after: Mutex::new(Some(30_000)),
            ranges: Mutex::default(),
            base: Mutex::default(),
        })
    }

    async fn start(self: &Arc<Self>) -> Client {
        let _already = rustls::crypto::ring::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        self.base.lock().unwrap().clone_from(&base);
        let router = Router::new()
            .route("/v1/jobs/{id}", axum::routing::get(job))
            .route("/file", axum::routing::get(file))
            .with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Client::new(&base.parse::<Url>().unwrap(), "key").unwrap()
    }
}

async fn job(State(service): State<Arc<Service>>, headers: HeaderMap) -> axum::Json<Value> {
    assert_eq!(headers["authorization"], "Bearer key");
    let mut job = crate::render::tests::job_json(service.status, 1);
    job["error"] = Value::Null;
    let base = service.base.lock().unwrap().clone();
    job["outputs"] = json!([{
        "item": "../image 1", "index": 0, "status": "stored", "key": "k",
        "url": format!("{base}/file?signature=s"), "bytes": service.content.len(),
        "sha256": service.stated_sha256, "duration_s": 1.0}]);
    axum::Json(job)
}

async fn file(State(service): State<Arc<Service>>, headers: HeaderMap) -> Response<Body> {
    assert!(
        !headers.contains_key("authorization"),
        "our key went to the store"
    );
    let range = headers
        .get("range")
        .map(|range| range.to_str().unwrap().to_owned());
    service
        .ranges
        .lock()
        .unwrap()
        .push(range.clone().unwrap_or_default());
    let from: usize = range
        .and_then(|range| {
            range
                .strip_prefix("bytes=")?
                .strip_suffix('-')?
                .parse()
                .ok()
        })
        .unwrap_or(0);
    let rest = service.content[from..].to_vec();
    let answer = Response::builder()
        .status(if from > 0 { 206 } else { 200 })
        .header("content-length", rest.len());
    let Some(cut) = service.cut_after.lock().unwrap().take() else {
        return answer.body(Body::from(rest)).unwrap();
    };
    let begin = stream::iter([Ok(rest[..cut].to_vec())]);
    let end = stream::once(async {
        tokio::time::sleep(Duration::from_millis(50)).await; // paced: the begin is sent before the cut
        Err(std::io::Error::other("cut"))
    });
    answer.body(Body::from_stream(begin.chain(end))).unwrap()
}

async fn fetch_into(client: &Client, dir: &Path) -> Result<(), CliError> {
    let mut output = Output::into_writer(Box::new(std::io::sink()), true);
    fetch(client, "job_1", dir, &mut output).await
}

#[tokio::test]
async fn a_cut_download_goes_on_and_a_whole_one_is_left_alone() {
    let (service, dir) = (Service::new("completed"), tempfile::tempdir().unwrap());
    let client = service.start().await;
    fetch_into(&client, dir.path()).await.unwrap();
    let path = dir.path().join("0000-.._image_1.mp4");
    assert_eq!(std::fs::read(&path).unwrap(), service.content);
    assert!(!part_of(&path).exists());
    let ranges = service.ranges.lock().unwrap().clone();
    assert_eq!(ranges.len(), 2, "{ranges:?}");
    assert!(ranges[1].starts_with("bytes="), "{ranges:?}");
    fetch_into(&client, dir.path()).await.unwrap();
    assert_eq!(service.ranges.lock().unwrap().len(), 2, "fetched again");
}

#[tokio::test]
async fn a_wrong_checksum_never_becomes_a_file() {
    let service = Service::new("completed");
    let mut service = Arc::try_unwrap(service).unwrap();
    service.stated_sha256 = "0".repeat(64);
    let (service, dir) = (Arc::new(service), tempfile::tempdir().unwrap());
    let client = service.start().await;
    let error = fetch_into(&client, dir.path()).await.unwrap_err();
    assert_eq!(error.exit_code(), 1);
    assert!(error.to_string().contains("SHA-256"), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_job_that_runs_or_failed_gives_what_is_there_and_says_so() {
    for (status, part) in [("running", "not stored yet"), ("failed", "is failed")] {
        let (service, dir) = (Service::new(status), tempfile::tempdir().unwrap());
        let client = service.start().await;
        let error = fetch_into(&client, dir.path()).await.unwrap_err();
        assert_eq!(error.exit_code(), 1);
        assert!(error.to_string().contains(part), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}

#[tokio::test]
async fn nobody_there_is_exit_code_three() {
    let _already = rustls::crypto::ring::default_provider().install_default();
    let client = Client::new(&"http://127.0.0.1:9".parse::<Url>().unwrap(), "k").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let error = fetch_into(&client, dir.path()).await.unwrap_err();
    assert_eq!(error.exit_code(), 3, "{error}");
    assert!(error.next_step().unwrap().contains("PHOTOFINISH_URL"));
}
