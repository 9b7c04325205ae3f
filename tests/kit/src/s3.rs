//! An S3 server in this process, over files (s3s-fs with a LIST of our own) or, for load, in memory.
//!
//! It checks signatures, knows multipart, ranges, presigned URLs (path style) and put-if-absent. TCP_NODELAY is set
//! on its sockets, else every GET stalls 40 ms. s3s-fs looks whether an object is there and then writes it, so that
//! two put-if-absent at once would both succeed: conditional requests are let in one at a time.

mod files;
mod memory;
mod page;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Where the server tells how many calls it had, by method, as JSON; not an S3 call.
pub const CALLS: &str = "/_calls";

/// How to sign.
#[derive(Debug, Clone)]
pub struct S3Credentials {
    /// Access key id.
    pub access_key: String,
    /// Secret access key.
    pub secret_key: String,
    /// Region; the server takes any.
    pub region: String,
}

impl Default for S3Credentials {
    fn default() -> Self {
        Self {
            access_key: "photofinish-local".to_owned(),
            secret_key: "photofinish-local-secret".to_owned(),
            region: "us-east-1".to_owned(),
        }
    }
}

/// A running server with one bucket.
#[derive(Debug)]
pub struct S3 {
    addr: SocketAddr,
    bucket: String,
    credentials: S3Credentials,
    root: PathBuf,
    end: CancellationToken,
    tracker: TaskTracker,
    /// The directory that was made for this server, deleted with it.
    temporary: Option<tempfile::TempDir>,
}

/// Where Linux keeps files in memory.
const MEMORY: &str = "/dev/shm";
/// Bytes that must be free there.
const MEMORY_FREE_MIN: u64 = 10 << 30;

/// A directory in memory where there is plenty: gigabytes on their way to a disk make everybody else's fsync wait, for a
/// minute where it is slow.
fn scratch() -> std::io::Result<tempfile::TempDir> {
    let free = rustix::fs::statvfs(MEMORY).map_or(0, |there| there.f_bavail * there.f_frsize);
    if free < MEMORY_FREE_MIN {
        return tempfile::tempdir();
    }
    tempfile::tempdir_in(MEMORY)
}

impl S3 {
    /// A server on a free loopback port with an empty bucket in a directory of its own.
    pub async fn start() -> anyhow::Result<Self> {
        let dir = scratch().context("make a directory for the S3 server")?;
        let mut server = Self::start_at(
            dir.path(),
            "127.0.0.1:0",
            "photofinish",
            S3Credentials::default(),
        )
        .await?;
        server.temporary = Some(dir);
        Ok(server)
    }

    /// A server over the files under `root`, which stay; the bucket is made if missing.
    pub async fn start_at(
        root: &Path,
        addr: &str,
        bucket: &str,
        credentials: S3Credentials,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(root.join(bucket)).context("make the bucket's directory")?;
        let files = s3s_fs::FileSystem::new(root)
            .map_err(|error| anyhow::anyhow!("open {}: {error:?}", root.display()))?;
        let files = files::Files {
            system: files,
            root: root.to_path_buf(),
            lifecycle: std::sync::Mutex::default(),
        };
        let builder = S3ServiceBuilder::new(files);
        Self::serve(root, addr, bucket, credentials, builder).await
    }

    /// A server that keeps its objects in memory, for as long as it runs: whole ones, no uploads in parts.
    pub async fn start_in_memory(
        addr: &str,
        bucket: &str,
        credentials: S3Credentials,
    ) -> anyhow::Result<Self> {
        let builder = S3ServiceBuilder::new(memory::Memory::new(bucket));
        Self::serve(Path::new(""), addr, bucket, credentials, builder).await
    }

    async fn serve(
        root: &Path,
        addr: &str,
        bucket: &str,
        credentials: S3Credentials,
        mut builder: S3ServiceBuilder,
    ) -> anyhow::Result<Self> {
        builder.set_auth(SimpleAuth::from_single(
            credentials.access_key.clone(),
            credentials.secret_key.clone(),
        ));
        let listener = TcpListener::bind(addr)
            .await
            .context("bind the S3 server")?;
        let server = Self {
            addr: listener.local_addr()?,
            bucket: bucket.to_owned(),
            credentials,
            root: root.to_path_buf(),
            end: CancellationToken::new(),
            tracker: TaskTracker::new(),
            temporary: None,
        };
        let accept = accept(
            listener,
            builder.build(),
            server.tracker.clone(),
            server.end.clone(),
        );
        server.tracker.spawn(accept);
        Ok(server)
    }

    /// `http://127.0.0.1:port`, for path-style addressing.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The bucket's name.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// How to sign.
    pub fn credentials(&self) -> &S3Credentials {
        &self.credentials
    }

    /// The directory in which the bucket's directory lies.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Stops: no new connection, requests under way are finished.
    pub async fn stop(&self) {
        self.end.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Stops, and starts again on the same port, files and credentials.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.stop().await;
        let addr = self.addr.to_string();
        let temporary = self.temporary.take();
        *self = Self::start_at(&self.root, &addr, &self.bucket, self.credentials.clone()).await?;
        self.temporary = temporary;
        Ok(())
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

async fn accept(
    listener: TcpListener,
    service: S3Service,
    tracker: TaskTracker,
    end: CancellationToken,
) {
    let builder = Arc::new(Builder::new(TokioExecutor::new()));
    let turn = Arc::new(tokio::sync::Mutex::new(()));
    let calls: Arc<Mutex<BTreeMap<String, u64>>> = Arc::default();
    while let Some(Ok((socket, _))) = end.run_until_cancelled(listener.accept()).await {
        let _nodelay = socket.set_nodelay(true);
        let (builder, service, end) = (builder.clone(), service.clone(), end.clone());
        let (turn, calls) = (turn.clone(), calls.clone());
        tracker.spawn(async move {
            let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                let (service, turn, calls) = (service.clone(), turn.clone(), calls.clone());
                async move {
                    if let Some(told) = counted(&calls, &request) {
                        return Ok(hyper::Response::new(s3s::Body::from(told)));
                    }
                    let conditional = request.headers().contains_key("if-none-match");
                    let _turn = if conditional {
                        Some(turn.lock().await)
                    } else {
                        None
                    };
                    hyper::service::Service::call(&service, request).await
                }
            });
            let connection = builder.serve_connection(TokioIo::new(socket), service);
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                _ended = connection.as_mut() => return,
                () = end.cancelled() => connection.as_mut().graceful_shutdown(),
            }
            let _ended = connection.await;
        });
    }
}

/// Counts a call; the counts, if that is what it asks for.
fn counted<B>(calls: &Mutex<BTreeMap<String, u64>>, request: &hyper::Request<B>) -> Option<String> {
    let mut calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
    if request.uri().path() == CALLS {
        return serde_json::to_string(&*calls).ok();
    }
    *calls.entry(request.method().to_string()).or_default() += 1;
    None
}
