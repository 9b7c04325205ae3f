//! A worker for tests of the emulator and of the worker protocol: does what its input says.
//!
//! Input: `{"steps": 3, "step_ms": 100, "fail": "text", "ignore_stop": false, "echo": any,
//! "announce": true, "env": "PREFIX"}`. It reports each step as progress, with an output if it is to
//! announce, answers the environment whose names begin so, and serves `GET /hello` and, with Range, `/blob` on `HTTP_PORT`.

use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{any, get};
use photofinish_runpod::worker::{Job, JobContext, JobOutcome, Worker, WorkerEnv, WorkerSettings};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Length of `/blob`.
const BLOB_BYTES: usize = 3_000_000;

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let vars: Vec<(String, String)> = std::env::vars().collect();
    let env = WorkerEnv::from_map(vars.iter().map(|(name, value)| (name, value)))?;
    let get = |name: &str| {
        vars.iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.clone())
    };
    let concurrency = get("CONCURRENCY").and_then(|n| n.parse().ok()).unwrap_or(1);
    let settings = WorkerSettings {
        concurrency,
        ..WorkerSettings::default()
    };
    let port: u16 = get("HTTP_PORT")
        .and_then(|n| n.parse().ok())
        .unwrap_or(8000);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let worker = Worker::start(env, settings)?;
        let mut term = signal(SignalKind::terminate())?;
        let shutdown = CancellationToken::new();
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
        let serve = axum::serve(listener, routes());
        let work = worker.run(handle, shutdown.clone());
        tokio::pin!(work);
        tokio::select! {
            () = &mut work => {}
            served = serve => served?,
            _ = term.recv() => {
                shutdown.cancel();
                work.await;
            }
        }
        anyhow::Ok(())
    })
}

async fn handle(job: Job, context: JobContext) -> JobOutcome {
    let input = &job.input;
    let steps = input["steps"].as_u64().unwrap_or(0);
    let pause = Duration::from_millis(input["step_ms"].as_u64().unwrap_or(0));
    for step in 1..=steps {
        let outputs = if input["announce"].as_bool() == Some(true) {
            json!([{"name": format!("step-{step}")}])
        } else {
            json!([])
        };
        context
            .progress
            .send(&json!({"step": step, "of": steps, "outputs": outputs}));
        let stopping = async {
            if input["ignore_stop"].as_bool() == Some(true) {
                std::future::pending::<()>().await;
            }
            context.stopping.cancelled().await;
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stopping => return JobOutcome::failed("stopped_early", format!("after {step}")),
            () = context.cancelled.cancelled() => return JobOutcome::done(json!("cancelled")),
        }
    }
    match input["fail"].as_str() {
        Some(text) => JobOutcome::failed("asked_to_fail", text),
        None => JobOutcome::done(json!({
            "echo": input["echo"],
            "worker": context.worker_id,
            "env": environment(input["env"].as_str()),
        })),
    }
}

/// Our variables whose names begin so; none without a prefix.
fn environment(prefix: Option<&str>) -> Value {
    let begins = |name: &str| prefix.is_some_and(|prefix| name.starts_with(prefix));
    let vars = std::env::vars().filter(|(name, _)| begins(name));
    Value::Object(vars.map(|(name, value)| (name, json!(value))).collect())
}

fn routes() -> Router {
    Router::new()
        .route("/hello", get(|| async { "hello" }))
        .route("/blob", get(blob).head(blob))
        .route(
            "/mirror",
            any(|request: Request| async { request.into_body() }),
        )
        .route("/slow", get(std::future::pending::<()>))
}

/// `byte n = n mod 251`, whole or the range asked for.
async fn blob(headers: HeaderMap) -> impl IntoResponse {
    let range = headers
        .get(header::RANGE)
        .and_then(|value| value.to_str().ok());
    let from = range
        .and_then(|text| {
            text.strip_prefix("bytes=")?
                .strip_suffix('-')?
                .parse::<usize>()
                .ok()
        })
        .filter(|from| *from < BLOB_BYTES);
    let body: Vec<u8> = (from.unwrap_or(0)..BLOB_BYTES)
        .map(|n| (n % 251) as u8)
        .collect();
    let (status, shown) = match from {
        Some(from) => (
            StatusCode::PARTIAL_CONTENT,
            format!("bytes {from}-{}/{BLOB_BYTES}", BLOB_BYTES - 1),
        ),
        None => (
            StatusCode::OK,
            format!("bytes 0-{}/{BLOB_BYTES}", BLOB_BYTES - 1),
        ),
    };
    (status, [(header::CONTENT_RANGE, shown)], body)
}
