//! An HTTP server that stores what it is sent and answers as told: a webhook receiver.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::Response;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::wait_for;

/// A stored request.
#[derive(Debug, Clone)]
pub struct Received {
    /// GET, POST, …
    pub method: Method,
    /// Path and query.
    pub uri: Uri,
    /// All headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// When its last byte had come.
    pub at: Instant,
}

impl Received {
    /// A header as text; empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// The body as JSON.
    pub fn json(&self) -> anyhow::Result<serde_json::Value> {
        serde_json::from_slice(&self.body).context("read a received body as JSON")
    }
}

/// How to answer.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// The status; 0 means 200.
    pub status: u16,
    /// Further headers, such as `("retry-after", "2")`.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
    /// How long to wait before the first byte.
    pub delay: Duration,
}

impl Answer {
    /// A bare status.
    pub fn status(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }
}

#[derive(Debug, Default)]
struct Store {
    received: Vec<Received>,
    script: VecDeque<Answer>,
    standing: Answer,
}

/// The server, ended on drop.
#[derive(Debug)]
pub struct Receiver {
    addr: SocketAddr,
    store: Arc<Mutex<Store>>,
    end: CancellationToken,
}

impl Receiver {
    /// Listens on a free loopback port and answers 200.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_at("127.0.0.1:0").await
    }

    /// Listens on an address.
    pub async fn start_at(addr: &str) -> anyhow::Result<Self> {
        let listener = tokio::net::TcpListener::bind(addr)
            .await
            .context("bind the receiver")?;
        let receiver = Self {
            addr: listener.local_addr()?,
            store: Arc::default(),
            end: CancellationToken::new(),
        };
        let router = Router::new()
            .fallback(take)
            .with_state(receiver.store.clone());
        let end = receiver.end.clone();
        tokio::spawn(async move {
            let served = axum::serve(listener, router);
            end.run_until_cancelled(async { served.await }).await
        });
        Ok(receiver)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// A URL of it; `path` begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// Everything received so far, in order.
    pub fn received(&self) -> Vec<Received> {
        self.lock().received.clone()
    }

    /// How many that is.
    pub fn count(&self) -> usize {
        self.lock().received.len()
    }

    /// The next requests are answered so, one each; after them as `always` says.
    pub fn script(&self, answers: impl IntoIterator<Item = Answer>) {
        self.lock().script.extend(answers);
    }

    /// How requests are answered for which the script has nothing.
    pub fn always(&self, answer: Answer) {
        self.lock().standing = answer;
    }

    /// Waits until at least `count` requests have come, and gives them all.
    pub async fn wait(&self, count: usize, within: Duration) -> anyhow::Result<Vec<Received>> {
        let what = format!("{count} requests at the receiver");
        wait_for(within, &what, || async {
            let received = self.received();
            (received.len() >= count).then_some(received)
        })
        .await
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        lock(&self.store)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

fn lock(store: &Mutex<Store>) -> MutexGuard<'_, Store> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn take(State(store): State<Arc<Mutex<Store>>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, usize::MAX).await else {
        return answer(Answer::status(400));
    };
    let next = {
        let mut store = lock(&store);
        store.received.push(Received {
            method: head.method,
            uri: head.uri,
            headers: head.headers,
            body,
            at: Instant::now(),
        });
        store
            .script
            .pop_front()
            .unwrap_or_else(|| store.standing.clone())
    };
    tokio::time::sleep(next.delay).await; // paced: the script says how late the answer is
    answer(next)
}

fn answer(answer: Answer) -> Response {
    let status = if answer.status == 0 {
        200
    } else {
        answer.status
    };
    let mut builder = Response::builder().status(status);
    for (name, value) in &answer.headers {
        builder = builder.header(name, value);
    }
    builder
        .body(Body::from(answer.body))
        .unwrap_or_else(|error| {
            let mut response = Response::new(Body::from(format!("bad script: {error}")));
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        })
}
