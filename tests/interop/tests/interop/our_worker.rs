//! The official clients give jobs to our worker.

use std::path::Path;

use axum::Router;
use axum::body::Bytes;
use axum::routing::{get, put};
use photofinish_contract::attempt_input::AttemptInput;
use photofinish_interop::{House, attempt, python, script, tool};
use photofinish_kit::{binary, detailed, png};

const PICTURES: u16 = 3;

/// Inputs, and a place for rescues.
async fn files() -> String {
    let png = Bytes::from(png(&detailed(320, 180)));
    let router = Router::new()
        .route("/picture.png", get(|| async move { png }))
        .route("/rescue/{name}", put(|_body: Bytes| async {}));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    #[expect(clippy::disallowed_methods, reason = "a test has no runtime of ours")]
    tokio::spawn(async move { axum::serve(listener, router).await });
    base
}

async fn house() -> House {
    let worker = binary("photofinish-worker").unwrap();
    let flags = [
        "--worker-env",
        "PHOTOFINISH__OUTBOUND__INPUTS__ALLOW=127.0.0.0/8",
        "--worker-env",
        "PHOTOFINISH__ENCODER__CHOICE=x264",
    ];
    House::start(&[&worker.to_string_lossy()], &flags)
        .await
        .unwrap()
}

fn write(house: &House, input: &AttemptInput) -> String {
    let path = house.path("attempt.json");
    std::fs::write(&path, serde_json::to_vec(input).unwrap()).unwrap();
    path
}

#[tokio::test]
async fn python_client_runs_an_attempt_and_fetches_it() {
    let house = house().await;
    let input = write(&house, &attempt(&files().await, PICTURES, 60.0).unwrap());
    let client = script("python/our_job.py");
    let args = [&*client.to_string_lossy(), &input];
    let said = house.script(&python().unwrap(), &args).await.unwrap();
    assert!(
        said.contains("fetched 3") && said.contains("refused unsupported_input"),
        "{said}"
    );
}

#[tokio::test]
async fn javascript_client_runs_an_attempt_that_rescues_itself() {
    let house = house().await;
    let input = write(&house, &attempt(&files().await, PICTURES, 0.2).unwrap());
    let client = script("js/our_job.mjs");
    let sdk = tool("node_modules/runpod-sdk/dist/src/index.js").unwrap();
    let args = [&*client.to_string_lossy(), &*sdk.to_string_lossy(), &input];
    let said = house.script(Path::new("node"), &args).await.unwrap();
    assert!(said.contains("rescued 3"), "{said}");
}
