//! A door before the emulated RunPod that notes when each job's submit arrives, and hands every call on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use jiff::Timestamp;
use serde_json::Value;
use tokio::net::TcpListener;

/// When each job's submit arrived, the first one of it.
pub(crate) type Arrivals = Arc<Mutex<HashMap<String, Timestamp>>>;

#[derive(Clone)]
struct Door {
    behind: String,
    http: reqwest::Client,
    arrivals: Arrivals,
}

/// A listener whose address can be told before what lies behind is known.
pub(crate) struct Recorder {
    listener: TcpListener,
    pub(crate) url: String,
}

impl Recorder {
    pub(crate) async fn bind() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        Ok(Self { listener, url })
    }

    /// Opens the door to the emulator; it stays open until this program ends.
    pub(crate) fn open(self, behind: &str) -> anyhow::Result<Arrivals> {
        let door = Door {
            behind: behind.to_owned(),
            http: photofinish_demo::stack::http_client()?,
            arrivals: Arrivals::default(),
        };
        let arrivals = door.arrivals.clone();
        let router = Router::new().fallback(pass).with_state(door);
        let listener = self.listener;
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(arrivals)
    }
}

async fn pass(
    State(door): State<Door>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(StatusCode, Bytes), StatusCode> {
    if uri.path().ends_with("/run") {
        let now = Timestamp::now();
        if let Some(job) = job_of(&body) {
            let mut arrivals = door.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
            arrivals.entry(job).or_insert(now);
        }
    }
    let call = door
        .http
        .request(method, format!("{}{uri}", door.behind))
        .header("content-type", "application/json")
        .header(
            "authorization",
            headers
                .get("authorization")
                .ok_or(StatusCode::UNAUTHORIZED)?,
        )
        .body(body);
    let answer = call.send().await.map_err(|_| StatusCode::BAD_GATEWAY)?;
    let status = answer.status();
    let body = answer.bytes().await.map_err(|_| StatusCode::BAD_GATEWAY)?;
    Ok((status, body))
}

fn job_of(body: &[u8]) -> Option<String> {
    let run: Value = serde_json::from_slice(body).ok()?;
    let job = &run["input"]["attempt"]["job"];
    job.as_str().map(str::to_owned)
}

/// The arrivals so far.
pub(crate) fn taken(arrivals: &Arrivals) -> anyhow::Result<HashMap<String, Timestamp>> {
    let arrivals = arrivals.lock().ok().context("a door panicked")?;
    Ok(arrivals.clone())
}
