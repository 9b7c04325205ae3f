//! The output server of a worker, and what a worker announces: as `contract::announcement` says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use photofinish_contract::announcement::{
    Address, Announcement, AnnouncementKind, ReadyOutput, Spent, Wanted,
};
use sha2::{Digest as _, Sha256};

use crate::house::{Taken, WORKER};

/// What was asked of the worker.
#[derive(Debug, Default)]
pub struct Seen {
    pub greeted: bool,
    pub rescue_asked: bool,
    pub wanted: Option<Wanted>,
    pub acknowledged: BTreeSet<String>,
    /// GETs of outputs.
    pub reads: usize,
    /// Calls that came through RunPod's proxy.
    pub calls_by_proxy: usize,
    /// Where the ranges began that were asked for through it.
    pub ranges_by_proxy: Vec<u64>,
}

#[derive(Debug, Default)]
struct Shared {
    files: Mutex<BTreeMap<String, Bytes>>,
    token: Mutex<String>,
    /// The next acknowledgement is never answered, and does nothing.
    hang_once: AtomicBool,
    seen: Mutex<Seen>,
}

/// A worker's own port, ended with the test's runtime.
#[derive(Debug)]
pub struct RenderingWorker {
    pub addr: SocketAddr,
    /// What it announces as its addresses.
    pub addresses: Vec<Address>,
    shared: Arc<Shared>,
}

impl RenderingWorker {
    pub async fn start() -> anyhow::Result<Self> {
        let shared = Arc::new(Shared::default());
        let routes = Router::new()
            .route("/attempts/{nonce}", get(greet))
            .route(
                "/attempts/{nonce}/outputs/{name}",
                get(read).delete(acknowledge),
            )
            .route("/attempts/{nonce}/rescue", post(rescue))
            .route("/attempts/{nonce}/wanted", post(wanted))
            .with_state(shared.clone());
        let noted = axum::middleware::from_fn_with_state(shared.clone(), note_proxied);
        // RunPod's proxy is a path here, and a host there.
        let router = routes
            .clone()
            .nest(&format!("/{WORKER}"), routes.layer(noted));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        #[expect(
            clippy::disallowed_methods,
            reason = "a test has no runtime of ours around it"
        )]
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self {
            addr,
            addresses: Vec::new(),
            shared,
        })
    }

    /// What the fetcher is told of as the proxy's address, through `addr`.
    pub fn template(addr: SocketAddr) -> String {
        format!("http://{addr}/{{worker}}")
    }

    /// Renders: the file lies there from now on.
    pub fn has(&self, taken: &Taken, index: u16, content: Bytes) -> ReadyOutput {
        let item = format!("image{}", index + 1);
        let output = ReadyOutput {
            index,
            name: format!("{index:04}-{item}.mp4"),
            item,
            bytes: content.len() as u64,
            sha256: hex::encode(Sha256::digest(&content)),
            duration_s: 1.0,
            encoder: None,
            render_s: None,
        };
        self.shared
            .token
            .lock()
            .unwrap()
            .clone_from(&taken.input.output_token);
        let mut files = self.shared.files.lock().unwrap();
        files.insert(output.name.clone(), content);
        output
    }

    /// The next acknowledgement is never answered, and does nothing.
    pub fn hang_once(&self) {
        self.shared.hang_once.store(true, Ordering::SeqCst);
    }

    pub fn seen<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.shared.seen.lock().unwrap())
    }
}

/// An announcement of a taken job.
pub fn announcement(
    taken: &Taken,
    kind: AnnouncementKind,
    outputs: Vec<ReadyOutput>,
) -> Announcement {
    Announcement {
        kind,
        run_id: taken.id.clone(),
        nonce: taken.input.attempt.nonce.clone(),
        worker_id: WORKER.to_owned(),
        boot: "boot-1".to_owned(),
        addresses: Vec::new(),
        outputs,
        rescued: Vec::new(),
        errors: Vec::new(),
        spent: Spent::default(),
    }
}

impl Shared {
    fn admits(&self, headers: &HeaderMap) -> bool {
        let offered = headers
            .get(header::AUTHORIZATION)
            .and_then(|text| text.to_str().ok());
        offered == Some(&format!("Bearer {}", self.token.lock().unwrap()))
    }
}

async fn note_proxied(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    {
        let mut seen = shared.seen.lock().unwrap();
        seen.calls_by_proxy += 1;
        let from = range_start(request.headers());
        seen.ranges_by_proxy.extend(from.map(|from| from as u64));
    }
    next.run(request).await
}

fn range_start(headers: &HeaderMap) -> Option<usize> {
    let range = headers.get(header::RANGE)?.to_str().ok()?;
    range
        .strip_prefix("bytes=")?
        .strip_suffix('-')?
        .parse()
        .ok()
}

async fn greet(State(shared): State<Arc<Shared>>) -> StatusCode {
    shared.seen.lock().unwrap().greeted = true;
    StatusCode::OK
}

async fn read(
    State(shared): State<Arc<Shared>>,
    Path((_, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    shared.seen.lock().unwrap().reads += 1;
    if !shared.admits(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let Some(content) = shared.files.lock().unwrap().get(&name).cloned() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let from = range_start(&headers);
    match from {
        None => content.into_response(),
        Some(from) => {
            let range = format!("bytes {from}-{}/{}", content.len() - 1, content.len());
            let head = [(header::CONTENT_RANGE, range)];
            (StatusCode::PARTIAL_CONTENT, head, content.slice(from..)).into_response()
        }
    }
}

async fn acknowledge(
    State(shared): State<Arc<Shared>>,
    Path((_, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> StatusCode {
    if !shared.admits(&headers) {
        return StatusCode::UNAUTHORIZED;
    }
    if shared.hang_once.swap(false, Ordering::SeqCst) {
        std::future::pending::<()>().await;
    }
    shared.files.lock().unwrap().remove(&name);
    shared.seen.lock().unwrap().acknowledged.insert(name);
    StatusCode::NO_CONTENT
}

async fn rescue(State(shared): State<Arc<Shared>>) -> StatusCode {
    shared.seen.lock().unwrap().rescue_asked = true;
    StatusCode::ACCEPTED
}

async fn wanted(State(shared): State<Arc<Shared>>, body: Bytes) -> StatusCode {
    shared.seen.lock().unwrap().wanted = serde_json::from_slice(&body).ok();
    StatusCode::NO_CONTENT
}
