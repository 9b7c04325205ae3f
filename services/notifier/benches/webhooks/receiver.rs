//! The receiver: answers at once, or never, and notes when each event came.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use tokio::sync::Notify;

/// A server of webhooks on loopback; it answers until this program ends.
#[derive(Debug, Clone)]
pub(crate) struct Receiver {
    pub(crate) addr: SocketAddr,
    seen: Arc<Seen>,
}

#[derive(Debug)]
struct Seen {
    /// When each event came first, and how often it came.
    events: Mutex<HashMap<String, (Instant, u32)>>,
    more: Notify,
    /// What is answered.
    status: AtomicU16,
}

impl Receiver {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let seen = Arc::new(Seen {
            events: Mutex::default(),
            more: Notify::new(),
            status: AtomicU16::new(200),
        });
        let router = Router::new()
            .route("/well/{endpoint}", post(well))
            .route("/hung/{endpoint}", post(hung))
            .with_state(seen.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { addr, seen })
    }

    pub(crate) fn answer(&self, status: u16) {
        self.seen.status.store(status, Ordering::Relaxed);
    }

    /// What has come so far.
    pub(crate) fn seen(&self) -> HashMap<String, (Instant, u32)> {
        self.seen.lock().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.seen.lock().len()
    }

    /// Waits until so many events have come; with none for a while it gives up.
    pub(crate) async fn wait(
        &self,
        events: usize,
        patience: std::time::Duration,
    ) -> anyhow::Result<()> {
        loop {
            let more = self.seen.more.notified();
            let here = self.count();
            if here >= events {
                return Ok(());
            }
            let waited = tokio::time::timeout(patience, more).await;
            anyhow::ensure!(
                waited.is_ok(),
                "{here} of {events} events came, and none for {patience:?}"
            );
        }
    }
}

impl Seen {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, (Instant, u32)>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn well(
    State(seen): State<Arc<Seen>>,
    Path(_endpoint): Path<String>,
    headers: HeaderMap,
    _body: Bytes,
) -> StatusCode {
    let now = Instant::now();
    let id = headers
        .get("webhook-id")
        .and_then(|value| value.to_str().ok());
    if let Some(id) = id {
        let mut events = seen.lock();
        events.entry(id.to_owned()).or_insert((now, 0)).1 += 1;
    }
    seen.more.notify_one();
    let status = seen.status.load(Ordering::Relaxed);
    StatusCode::from_u16(status).unwrap_or(StatusCode::OK)
}

async fn hung() {
    std::future::pending::<()>().await;
}
