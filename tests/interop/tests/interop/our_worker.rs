//! The official clients give jobs to our worker.

use std::path::Path;

use axum::Router;
use axum::body::Bytes;
use axum::routing::{get, put};
use photofinish_contract::attempt_input::{AttemptInput, PictureItem, RescueTarget, Work};
use photofinish_contract::request::{Fit, Motion};
use photofinish_interop::{House, python, script, tool};
use photofinish_kit::{binary, detailed, png};
use photofinish_model::{AttemptRef, JobId, Nonce};

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

/// An attempt as the dispatcher would submit it.
fn attempt(files: &str, first_contact_s: f64) -> AttemptInput {
    let items = (0..PICTURES).map(|index| PictureItem {
        index,
        item: format!("image{index}"),
        image_url: format!("{files}/picture.png"),
        frames: 10,
        motion: Motion::ZoomIn,
    });
    let rescue = (0..PICTURES).map(|index| RescueTarget {
        index,
        put_url: format!("{files}/rescue/{index}"),
    });
    AttemptInput {
        photofinish: 1,
        attempt: AttemptRef {
            tenant: "acme".parse().unwrap(),
            job: JobId::from_random(1),
            run: 1,
            part: 0,
            attempt: 1,
            nonce: Nonce::from_random(7),
        },
        work: Work::Img2vid {
            frame_rate: 10.0,
            width: 320,
            height: 180,
            fit: Fit::Cover,
            items: items.collect(),
        },
        output_token: "secret".to_owned(),
        signal_url: None,
        budget_s: 600.0,
        linger_s: 60.0,
        first_contact_s,
        rescue_reserve_s: 60.0,
        rescue: rescue.collect(),
        report_put_url: format!("{files}/rescue/report"),
    }
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
    let input = write(&house, &attempt(&files().await, 60.0));
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
    let input = write(&house, &attempt(&files().await, 0.2));
    let client = script("js/our_job.mjs");
    let sdk = tool("node_modules/runpod-sdk/dist/src/index.js").unwrap();
    let args = [&*client.to_string_lossy(), &*sdk.to_string_lossy(), &input];
    let said = house.script(Path::new("node"), &args).await.unwrap();
    assert!(said.contains("rescued 3"), "{said}");
}
