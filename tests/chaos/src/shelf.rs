//! A file server of pictures that can hold some of them back.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// The server, ended on drop.
#[derive(Debug)]
pub struct Shelf {
    addr: SocketAddr,
    open: watch::Sender<bool>,
    server: AbortHandle,
}

#[derive(Debug)]
struct Stock {
    dir: PathBuf,
    open: watch::Receiver<bool>,
}

impl Shelf {
    /// Serves the files under a directory; `GET {path}?held` is answered only after [`Shelf::open`].
    pub async fn start(dir: PathBuf) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .context("bind the shelf of pictures")?;
        let addr = listener.local_addr()?;
        let (open, opened) = watch::channel(false);
        let router = Router::new()
            .route("/{*path}", axum::routing::get(file))
            .with_state(Arc::new(Stock { dir, open: opened }));
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self {
            addr,
            open,
            server: server.abort_handle(),
        })
    }

    /// Its base URL, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Lets go of what is held back, for good.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// Whether nothing is held back any more.
    pub fn is_open(&self) -> bool {
        *self.open.borrow()
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn file(
    State(stock): State<Arc<Stock>>,
    Path(path): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    if query.as_deref() == Some("held") {
        let mut open = stock.open.clone();
        // An error means that the shelf is gone, and with it this server.
        let _gone = open.wait_for(|open| *open).await;
    }
    match tokio::fs::read(stock.dir.join(&path)).await {
        Ok(bytes) => ([(header::CONTENT_TYPE, "image/jpeg")], bytes).into_response(),
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}
