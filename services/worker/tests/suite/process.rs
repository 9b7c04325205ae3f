//! The real program: by hand, and speaking RunPod's protocol to a server of few lines.

use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use photofinish_kit::wait_for;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::support::{Server, detailed, png, probe};

const PROGRAM: &str = env!("CARGO_BIN_EXE_photofinish-worker");
const SOON: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_job_by_hand_prints_a_table() {
    let server = Server::start().await;
    let url = server.put("a", png(&detailed(320, 200)));
    let dir = tempfile::tempdir().unwrap();
    let job = json!({"input": {"operation": "img2vid", "width": 320, "height": 180, "images": [
        {"id": "x/y", "image_url": url, "duracao": 0.5, "motion": "pan_left"},
        {"image_url": server.url("missing"), "duration": 1}
    ]}});
    std::fs::write(dir.path().join("job.json"), job.to_string()).unwrap();
    let done = Command::new(PROGRAM)
        .args(["run", "--input", "job.json", "--out", "out"])
        .current_dir(dir.path())
        .env("PHOTOFINISH__OUTBOUND__INPUTS__ALLOW", "127.0.0.0/8")
        .env("PHOTOFINISH__ENCODER__CHOICE", "x264")
        .output()
        .await
        .unwrap();
    let table = String::from_utf8(done.stdout).unwrap() + &String::from_utf8_lossy(&done.stderr);
    assert!(!done.status.success(), "one item fails");
    assert!(
        table.contains("0000-x_y.mp4") && table.contains("input_not_found"),
        "{table}"
    );
    let said = probe(
        &dir.path().join("out/0000-x_y.mp4"),
        "stream=width,nb_read_packets",
    );
    assert_eq!(
        (said["width"].as_str(), said["nb_read_packets"].as_str()),
        ("320", "15")
    );
}

#[derive(Debug, Clone, Default)]
struct Seen {
    jobs: Arc<Mutex<Vec<Value>>>,
    posts: Arc<Mutex<Vec<Value>>>,
}

/// RunPod as far as one job needs it.
async fn runpod(seen: Seen) -> String {
    let take = |State(seen): State<Seen>| async move {
        let job = wait_for(Duration::from_secs(5), "a job", || async {
            seen.jobs.lock().unwrap().pop()
        });
        job.await
            .map(axum::Json)
            .map_err(|_| StatusCode::NO_CONTENT)
    };
    let stop = || async {
        std::future::pending::<()>().await;
    };
    let done = |State(seen): State<Seen>, body: String| async move {
        seen.posts
            .lock()
            .unwrap()
            .push(serde_json::from_str(&body).unwrap());
    };
    let router = Router::new()
        .route("/job-take/{worker}", get(take))
        .route("/job-stop/{worker}", get(stop))
        .route("/ping/{worker}", get(|| async {}))
        .route("/job-done/{worker}/{job}", post(done))
        .with_state(seen);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    base
}

/// The program as RunPod would start it.
fn start(base: &str, dir: &Path) -> Child {
    let urls = [
        ("RUNPOD_WEBHOOK_GET_JOB", "job-take/$ID?gpu=x"),
        (
            "RUNPOD_WEBHOOK_POST_OUTPUT",
            "job-done/$RUNPOD_POD_ID/$ID?gpu=x",
        ),
        (
            "RUNPOD_WEBHOOK_POST_STREAM",
            "job-stream/$RUNPOD_POD_ID/$ID?gpu=x",
        ),
        ("RUNPOD_WEBHOOK_PING", "ping/$RUNPOD_POD_ID?gpu=x"),
    ];
    Command::new(PROGRAM)
        .envs(urls.map(|(name, path)| (name, format!("{base}/{path}"))))
        .env("RUNPOD_AI_API_KEY", "key")
        .env("RUNPOD_POD_ID", "pod1")
        .env("RUNPOD_ENDPOINT_ID", "ep1")
        .env("WORK_DIR", dir.join("work"))
        .env("OUTPUT_DIR", dir.join("output"))
        .env("HTTP_PORT", "0")
        .env("WORKER_PROXY_URL", "http://127.0.0.1:{port}")
        .env("PHOTOFINISH__OUTBOUND__INPUTS__ALLOW", "127.0.0.0/8")
        .env("PHOTOFINISH__ENCODER__CHOICE", "x264")
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

impl Seen {
    fn offer(&self, job: Value) {
        self.jobs.lock().unwrap().push(job);
    }

    /// The first post in which `pointer` leads to something.
    async fn posted(&self, pointer: &str, is: impl Fn(&Value) -> bool) -> Value {
        wait_for(SOON, pointer, || async {
            let posts = self.posts.lock().unwrap();
            posts
                .iter()
                .find(|post| post.pointer(pointer).is_some_and(&is))
                .cloned()
        })
        .await
        .unwrap()
    }
}

#[tokio::test]
async fn the_program_takes_does_announces_and_answers_jobs() {
    photofinish_runtime::install_crypto();
    let (server, seen) = (Server::start().await, Seen::default());
    let url = server.put("a", png(&detailed(320, 200)));
    let base = runpod(seen.clone()).await;
    let dir = tempfile::tempdir().unwrap();
    let mut worker = start(&base, dir.path());
    seen.offer(json!({"id": "stranger", "input": {"prompt": "a cat"}}));
    let refused = seen.posted("/error", |_| true).await.to_string();
    assert!(refused.contains("unsupported_input"), "{refused}");

    let nonce = format!("{:032x}", 5);
    let job = format!("job_{nonce}");
    seen.offer(json!({"id": "run-1", "input": {
        "photofinish": 1, "output_token": "secret", "budget_s": 300.0, "linger_s": 60.0,
        "first_contact_s": 60.0, "rescue_reserve_s": 30.0, "rescue": [], "report_put_url": server.url("r"),
        "attempt": {"tenant": "acme", "job": job, "run": 1, "part": 0, "attempt": 1, "nonce": nonce},
        "work": {"operation": "img2vid", "frame_rate": 10.0, "width": 160, "height": 90, "fit": "cover",
            "items": [{"index": 3, "item": "a", "image_url": url, "frames": 10, "motion": "zoom_in"}]}
    }}));
    let ready = seen.posted("/output/outputs/0", |_| true).await;
    assert_eq!(ready["status"], "IN_PROGRESS");
    let base = ready["output"]["addresses"][0]["url"].as_str().unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let output = format!("{base}/attempts/{nonce}/outputs/0003-a.mp4");
    let got = http
        .get(&output)
        .bearer_auth("secret")
        .send()
        .await
        .unwrap();
    assert_eq!(got.status().as_u16(), 200);
    assert!(got.bytes().await.unwrap().len() > 500);
    http.delete(&output)
        .bearer_auth("secret")
        .send()
        .await
        .unwrap();
    let last = seen.posted("/output/kind", |kind| kind == "final").await;
    assert!(last.get("status").is_none());
    assert_eq!(last["output"]["outputs"][0]["index"], 3);
    assert_eq!(
        std::fs::read_dir(dir.path().join("output"))
            .unwrap()
            .count(),
        0
    );

    let pid = worker.id().unwrap().to_string();
    let killed = std::process::Command::new("kill")
        .arg(&pid)
        .status()
        .unwrap();
    assert!(killed.success());
    let ended = tokio::time::timeout(SOON, worker.wait())
        .await
        .unwrap()
        .unwrap();
    assert!(ended.success(), "{ended}");
}
