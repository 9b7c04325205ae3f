//! What the demo serves itself: the samples to workers, and an ear for webhooks.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use photofinish_kit::{Received, Receiver, wait_until};
use standardwebhooks::Webhook;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A file server over the samples, ended on drop.
#[derive(Debug)]
pub struct Files {
    url: String,
    _end: DropGuard,
}

impl Files {
    /// Serves the files under a directory on a free loopback port.
    pub async fn start(dir: PathBuf) -> anyhow::Result<Self> {
        Self::start_at(dir, IpAddr::V4(Ipv4Addr::LOCALHOST)).await
    }

    /// The same on a free port of an address of this machine.
    #[expect(
        clippy::disallowed_methods,
        reason = "the demo has no runtime of ours around it"
    )]
    pub async fn start_at(dir: PathBuf, address: IpAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((address, 0))
            .await
            .with_context(|| format!("bind the file server at {address}"))?;
        let url = format!("http://{}", listener.local_addr()?);
        let router = Router::new()
            .route("/{*path}", axum::routing::get(file))
            .with_state(dir);
        let end = CancellationToken::new();
        let stop = end.clone();
        tokio::spawn(async move {
            let served = axum::serve(listener, router);
            stop.run_until_cancelled(async { served.await }).await
        });
        Ok(Self {
            url,
            _end: end.drop_guard(),
        })
    }

    /// Its base URL, without a slash at the end.
    pub fn url(&self) -> String {
        self.url.clone()
    }
}

async fn file(State(dir): State<PathBuf>, Path(path): Path<String>) -> Response {
    let whole = path.split('/').all(|part| !part.is_empty() && part != "..");
    let content_type = match path.rsplit('.').next() {
        Some("jpg") => "image/jpeg",
        Some("mp4" | "m4a") => "video/mp4",
        Some(_) | None => "application/octet-stream",
    };
    match tokio::fs::read(dir.join(&path)).await {
        Ok(bytes) if whole => ([(header::CONTENT_TYPE, content_type)], bytes).into_response(),
        Ok(_) | Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}

/// The receiver of every job's webhooks; each job has a path of its own.
#[derive(Debug)]
pub struct Ear {
    receiver: Receiver,
}

impl Ear {
    /// Listens on a free loopback port.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_at(IpAddr::V4(Ipv4Addr::LOCALHOST)).await
    }

    /// The same on a free port of an address of this machine.
    pub async fn start_at(address: IpAddr) -> anyhow::Result<Self> {
        let address = SocketAddr::new(address, 0).to_string();
        Ok(Self {
            receiver: Receiver::start_at(&address).await?,
        })
    }

    /// Its base URL, without a slash at the end.
    pub fn url(&self) -> String {
        self.receiver.url("/hooks")
    }

    /// What has come for a job.
    pub fn heard(&self, name: &str) -> Vec<Received> {
        let path = format!("/hooks/{name}");
        self.receiver
            .received()
            .into_iter()
            .filter(|r| r.uri.path() == path)
            .collect()
    }

    /// Waits until each of these types has come for a job; says nothing if they do not: the checks do.
    pub async fn wait(&self, name: &str, types: &[&str], within: Duration) {
        let _late = wait_until(within, "webhooks", || async {
            let heard = self.heard(name);
            let heard: BTreeSet<_> = heard.iter().map(event_type).collect();
            types.iter().all(|wanted| heard.contains(*wanted))
        })
        .await;
    }
}

/// The type that a webhook's body names.
pub fn event_type(received: &Received) -> String {
    let body = received.json().unwrap_or_default();
    body["type"].as_str().unwrap_or_default().to_owned()
}

/// Verifies a webhook with the reference library of Standard Webhooks.
pub fn verify(secret: &str, received: &Received) -> anyhow::Result<()> {
    let webhook = Webhook::new(secret).context("read the tenant's webhook secret")?;
    webhook
        .verify(&received.body, &received.headers)
        .with_context(|| format!("{} {}", event_type(received), received.header("webhook-id")))
}
