//! The output server of a worker, and what a worker announces: as `contract::announcement` says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

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
    /// The same by name.
    pub reads_of: BTreeMap<String, usize>,
    /// Calls that came through RunPod's proxy.
    pub calls_by_proxy: usize,
    /// Where the ranges began that were asked for through it.
    pub ranges_by_proxy: Vec<u64>,
}

/// A file that is a block over and over, made as it is read.
#[derive(Debug, Clone)]
pub struct Content {
    pub block: Bytes,
    pub bytes: u64,
    /// Before each MiB.
    pub pause: Duration,
    /// Each answer ends after so many bytes, cleanly, without a length of its own.
    pub ends_after: Option<u64>,
}

impl Content {
    pub fn new(block: Bytes, bytes: u64) -> Self {
        Self {
            block,
            bytes,
            pause: Duration::ZERO,
            ends_after: None,
        }
    }

    pub fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        let mut at = 0;
        while at < self.bytes {
            let piece = self.piece(at, self.bytes);
            hash.update(&piece);
            at += piece.len() as u64;
        }
        hex::encode(hash.finalize())
    }

    /// What stands from a place on, up to `end` and a MiB.
    pub fn piece(&self, at: u64, end: u64) -> Bytes {
        let from = (at % self.block.len() as u64) as usize;
        let most = (end - at).min(1 << 20) as usize;
        self.block.slice(from..self.block.len().min(from + most))
    }

    fn answer(self, from: Option<u64>, hurried: Arc<AtomicBool>) -> Response {
        let at = from.unwrap_or(0);
        let end = self
            .ends_after
            .map_or(self.bytes, |after| self.bytes.min(at + after));
        let mut answer = Response::builder();
        if from.is_some() {
            let range = format!("bytes {at}-{}/{}", self.bytes - 1, self.bytes);
            answer = answer
                .status(StatusCode::PARTIAL_CONTENT)
                .header(header::CONTENT_RANGE, range);
        }
        if self.ends_after.is_none() {
            answer = answer.header(header::CONTENT_LENGTH, end - at);
        }
        let pieces = futures_util::stream::unfold((self, at), move |(content, at)| {
            let hurried = hurried.clone();
            async move {
                if at >= end {
                    return None;
                }
                if !content.pause.is_zero() && !hurried.load(Ordering::SeqCst) {
                    tokio::time::sleep(content.pause).await; // paced: a slow worker
                }
                let piece = content.piece(at, end);
                let next = at + piece.len() as u64;
                Some((Ok::<_, std::convert::Infallible>(piece), (content, next)))
            }
        });
        answer.body(axum::body::Body::from_stream(pieces)).unwrap()
    }
}

#[derive(Debug, Default)]
struct Shared {
    files: Mutex<BTreeMap<String, Content>>,
    token: Mutex<String>,
    /// The next acknowledgement is never answered, and does nothing.
    hang_once: AtomicBool,
    /// No file comes slowly any more.
    hurried: Arc<AtomicBool>,
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
        let bytes = content.len() as u64;
        self.has_made(taken, index, Content::new(content, bytes))
    }

    /// The same for what is made as it is read.
    pub fn has_made(&self, taken: &Taken, index: u16, content: Content) -> ReadyOutput {
        let item = format!("image{}", index + 1);
        let output = ReadyOutput {
            index,
            name: format!("{index:04}-{item}.mp4"),
            item,
            bytes: content.bytes,
            sha256: content.sha256(),
            duration_s: 1.0,
            encoder: None,
            render_s: None,
        };
        self.shared
            .token
            .lock()
            .unwrap()
            .clone_from(&taken.input.output_token);
        self.shared.hurried.store(false, Ordering::SeqCst);
        let mut files = self.shared.files.lock().unwrap();
        files.insert(output.name.clone(), content);
        output
    }

    /// From now on files come as fast as they can.
    pub fn hurry(&self) {
        self.shared.hurried.store(true, Ordering::SeqCst);
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
        rendering: Vec::new(),
        spent: Spent::default(),
        nothing_pushed: true,
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
    {
        let mut seen = shared.seen.lock().unwrap();
        *seen.reads_of.entry(name).or_default() += 1;
    }
    let from = range_start(&headers).map(|from| from as u64);
    content.answer(from, shared.hurried.clone())
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
