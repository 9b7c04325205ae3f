//! The real program, speaking RunPod's protocol to a server of few lines.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use futures_util::StreamExt as _;
use photofinish_contract::announcement::Address;
use photofinish_kit::wait_for;
use photofinish_runpod::direct::{DirectAddress, DirectPorts};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::support::{Server, detailed, png};

const PROGRAM: &str = env!("CARGO_BIN_EXE_photofinish-worker");
const SOON: Duration = Duration::from_secs(60);

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

/// What lies in the directories of the processes that share a root.
fn left_in(root: &Path) -> Vec<std::ffi::OsString> {
    let homes = std::fs::read_dir(root).unwrap();
    let left = homes.flat_map(|home| std::fs::read_dir(home.unwrap().path()).unwrap());
    left.map(|entry| entry.unwrap().file_name()).collect()
}

/// A port that is free now.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// The program as RunPod would start it, with its port exposed.
fn start(base: &str, dir: &Path, port: u16, changed: &[(&str, &str)]) -> Child {
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
        .env("HTTP_PORT", port.to_string())
        .env("PHOTOFINISH__RUNTIME__PORTS_FILE", dir.join("ports.json"))
        .env("RUNPOD_PUBLIC_IP", "127.0.0.1")
        .env(format!("RUNPOD_TCP_PORT_{port}"), port.to_string())
        .env("WORKER_PROXY_URL", "http://127.0.0.1:{port}")
        .env("PHOTOFINISH__OUTBOUND__INPUTS__ALLOW", "127.0.0.0/8")
        .env("PHOTOFINISH__ENCODER__CHOICE", "x264")
        .envs(changed.iter().copied())
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

/// The direct address is announced first, with what is to be pinned; the proxy's second.
async fn fetched_directly(addresses: Vec<Address>, port: u16, path: &str) -> Vec<u8> {
    let [direct, proxy]: [Address; 2] = addresses.try_into().unwrap();
    assert_eq!(direct.url, format!("https://127.0.0.1:{port}"));
    assert_eq!(proxy.url, format!("http://127.0.0.1:{port}"));
    assert_eq!(proxy.tls_sha256, None);
    let mut certificate = [0; 32];
    hex::decode_to_slice(direct.tls_sha256.as_ref().unwrap(), &mut certificate).unwrap();
    let addr = ([127, 0, 0, 1], port).into();
    let pinned = DirectPorts::new(SOON, SOON)
        .port(&DirectAddress { addr, certificate })
        .unwrap();
    let answer = pinned.get(path, "secret", 0).await.unwrap();
    let pieces: Vec<_> = answer.pieces().map(Result::unwrap).collect().await;
    pieces.concat()
}

/// The metrics tell which encoder it is and what it made.
async fn encoder_is_measured(dir: &Path) {
    let ports = std::fs::read(dir.join("ports.json")).unwrap();
    let ports: Value = serde_json::from_slice(&ports).unwrap();
    let url = format!("http://{}/metrics", ports["admin"].as_str().unwrap());
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let metrics = http.get(url).send().await.unwrap().text().await.unwrap();
    for line in [
        "photofinish_worker_encoder_info{encoder=\"libx264\"} 1",
        "photofinish_worker_encoder_info{encoder=\"h264_nvenc\"} 0",
        "photofinish_worker_encodes_total{encoder=\"libx264\",outcome=\"made\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
}

#[tokio::test]
async fn the_program_takes_does_announces_and_answers_jobs() {
    photofinish_runtime::install_crypto();
    let (server, seen) = (Server::start().await, Seen::default());
    let url = server.put("a", png(&detailed(320, 200)));
    let base = runpod(seen.clone()).await;
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut worker = start(&base, dir.path(), port, &[]);
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
    assert_eq!(ready["output"]["outputs"][0]["encoder"], "libx264");
    let addresses = serde_json::from_value(ready["output"]["addresses"].clone()).unwrap();
    let path = format!("/attempts/{nonce}/outputs/0003-a.mp4");
    let by_tls = fetched_directly(addresses, port, &path).await;
    let base = format!("http://127.0.0.1:{port}");
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let output = format!("{base}{path}");
    let got = http
        .get(&output)
        .bearer_auth("secret")
        .send()
        .await
        .unwrap();
    assert_eq!(got.status().as_u16(), 200);
    let got = got.bytes().await.unwrap();
    assert!(got.len() > 500);
    assert_eq!(got, by_tls, "both routes give the same");
    http.delete(&output)
        .bearer_auth("secret")
        .send()
        .await
        .unwrap();
    let last = seen.posted("/output/kind", |kind| kind == "final").await;
    assert!(last.get("status").is_none());
    assert_eq!(last["output"]["outputs"][0]["index"], 3);
    assert_eq!(left_in(&dir.path().join("output")), ["lock"]);

    encoder_is_measured(dir.path()).await;
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

#[tokio::test]
async fn after_its_last_job_the_program_asks_for_a_fresh_worker_and_ends_well() {
    photofinish_runtime::install_crypto();
    let seen = Seen::default();
    let base = runpod(seen.clone()).await;
    let dir = tempfile::tempdir().unwrap();
    let changed = [("PHOTOFINISH__WORKER__REFRESH_AFTER_JOBS", "2")];
    let mut worker = start(&base, dir.path(), free_port(), &changed);
    for id in ["first", "second"] {
        seen.offer(json!({"id": id, "input": {"prompt": "a cat"}}));
    }
    let last = seen.posted("/stopPod", |_| true).await;
    assert_eq!(last["stopPod"], true);
    let ended = tokio::time::timeout(SOON, worker.wait()).await.unwrap();
    assert!(ended.unwrap().success());
    let posts = seen.posts.lock().unwrap();
    let asked = posts.iter().filter(|post| post.get("stopPod").is_some());
    assert_eq!((posts.len(), asked.count()), (2, 1));
}

/// RunPod pays for every second until the first poll: no trial and no directory stands in its way.
#[tokio::test]
async fn the_first_poll_waits_for_no_encoder() {
    photofinish_runtime::install_crypto();
    let seen = Seen::default();
    let base = runpod(seen.clone()).await;
    let dir = tempfile::tempdir().unwrap();
    let hanging = dir.path().join("ffmpeg");
    std::fs::write(&hanging, "#!/bin/sh\nexec sleep 600\n").unwrap();
    std::fs::set_permissions(&hanging, std::fs::Permissions::from_mode(0o755)).unwrap();
    let changed = [("PHOTOFINISH__ENCODER__FFMPEG", hanging.to_str().unwrap())];
    seen.offer(json!({"id": "stranger", "input": {"prompt": "a cat"}}));
    let begun = Instant::now();
    let _worker = start(&base, dir.path(), free_port(), &changed);
    seen.posted("/error", |_| true).await;
    // Behind the trial it would come after 20 s; an idle machine needs a tenth of a second.
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn a_worker_without_directories_ends_badly() {
    photofinish_runtime::install_crypto();
    let seen = Seen::default();
    let base = runpod(seen.clone()).await;
    let dir = tempfile::tempdir().unwrap();
    let mut worker = start(
        &base,
        dir.path(),
        free_port(),
        &[("WORK_DIR", "/dev/null/work")],
    );
    let ended = tokio::time::timeout(SOON, worker.wait()).await.unwrap();
    assert!(!ended.unwrap().success());
}
