//! The output server's one port: HTTP in the clear, as RunPod's proxy speaks it, and TLS for who
//! comes directly; the first byte tells which.
//!
//! Nouns: a [`Door`] is a listening socket with its router; a [`Certificate`] is made at start and
//! pinned by its fingerprint, nobody signs it.
//!
//! Guarantee: at most [`Limits::connections_max`] connections; one that says nothing, garbage or
//! half a request, or that reads nothing of its answer, is closed in time and disturbs no other.
//! After a stop none is accepted, requests under way are finished, and nobody else holds it up.
//! Not for: who may ask for what, which the routes decide.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use photofinish_runtime::{Shutdown, Tasks};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::idle::Idle;

/// The first byte of every TLS connection: a handshake record.
const TLS_HANDSHAKE: u8 = 0x16;
/// The pause after the system refused a connection: open files may have run out.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);

/// What a stranger may take of the door.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once; more wait in the system's queue.
    pub connections_max: usize,
    /// From the connection to its first byte and the end of the TLS handshake; after a stop also
    /// without a byte out.
    pub handshake: Duration,
    /// Between two requests, for the head of one, and without a byte either way. More than
    /// proxies and clients keep unused connections for, so that it is they who close them.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 256,
            handshake: Duration::from_secs(5),
            idle: Duration::from_secs(90),
        }
    }
}

/// No certificate could be made.
#[derive(Debug, thiserror::Error)]
#[error("make a certificate for the output server")]
pub struct CertificateError(#[source] Box<dyn std::error::Error + Send + Sync>);

/// A certificate of this process's own, with its key.
#[derive(Clone)]
pub struct Certificate {
    config: Arc<ServerConfig>,
    sha256: String,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate")
            .field("sha256", &self.sha256)
            .finish_non_exhaustive()
    }
}

impl Certificate {
    /// Makes a key and its certificate; takes a millisecond or two.
    pub fn make() -> Result<Self, CertificateError> {
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| CertificateError(error);
        let made = rcgen::generate_simple_self_signed(["photofinish-worker".to_owned()])
            .map_err(|error| failed(error.into()))?;
        let der = made.cert.der().clone();
        let sha256 = hex::encode(Sha256::digest(&der));
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| failed(error.into()))?
            .with_no_client_auth()
            .with_single_cert(vec![der], PrivateKeyDer::Pkcs8(key))
            .map_err(|error| failed(error.into()))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.send_tls13_tickets = 0;
        Ok(Self {
            config: Arc::new(config),
            sha256,
        })
    }

    /// SHA-256 of the certificate in DER, 64 hexadecimal digits: what is announced.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
}

/// A listening socket with what is served there.
#[derive(Debug, Clone)]
pub struct Door {
    router: Router,
    tls: Option<Certificate>,
    limits: Limits,
}

impl Door {
    /// Without a certificate there is no TLS.
    pub fn new(router: Router, tls: Option<Certificate>, limits: Limits) -> Self {
        Self {
            router,
            tls,
            limits,
        }
    }

    /// Serves until the process stops; the door is critical.
    pub fn serve(self, tasks: &Tasks, listener: TcpListener) {
        let (door, own) = (Arc::new(self), tasks.clone());
        tasks.spawn_critical("outputs", door.accept(listener, own));
    }

    async fn accept(self: Arc<Self>, listener: TcpListener, tasks: Tasks) {
        let permits = Arc::new(Semaphore::new(self.limits.connections_max));
        loop {
            let next = tokio::select! {
                next = next(&listener, &permits) => next,
                () = tasks.shutdown().wait() => break,
            };
            match next {
                Ok((stream, permit)) => {
                    let (door, shutdown) = (Arc::clone(&self), tasks.shutdown().clone());
                    let talk = door.talk(stream, permit, shutdown);
                    drop(tasks.spawn("output connection", talk));
                }
                Err(error) => {
                    tracing::warn!(%error, "accept a connection");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    }

    async fn talk(
        self: Arc<Self>,
        stream: TcpStream,
        _permit: OwnedSemaphorePermit,
        shutdown: Shutdown,
    ) {
        let opened = tokio::select! {
            opened = tokio::time::timeout(self.limits.handshake, self.open(stream)) => opened,
            () = shutdown.wait() => return,
        };
        match opened {
            Ok(Ok(Opened::Plain(stream))) => self.answer(stream, "plain", shutdown).await,
            Ok(Ok(Opened::Tls(stream))) => self.answer(stream, "tls", shutdown).await,
            Ok(Err(error)) => refused(&error),
            Err(_) => refused(&io::ErrorKind::TimedOut.into()),
        }
    }

    /// Waits for the first byte, and for the handshake if there is one.
    async fn open(&self, stream: TcpStream) -> io::Result<Opened> {
        stream.set_nodelay(true)?;
        let mut first = [0];
        let length = stream.peek(&mut first).await?;
        match (&self.tls, &first[..length]) {
            (_, []) => Err(io::ErrorKind::UnexpectedEof.into()),
            (Some(tls), [TLS_HANDSHAKE]) => {
                let acceptor = TlsAcceptor::from(Arc::clone(&tls.config));
                Ok(Opened::Tls(Box::new(acceptor.accept(stream).await?)))
            }
            (None, [TLS_HANDSHAKE]) => Err(io::ErrorKind::Unsupported.into()),
            _ => Ok(Opened::Plain(stream)),
        }
    }

    async fn answer<S>(&self, stream: S, kind: &'static str, shutdown: Shutdown)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        metrics::counter!("photofinish_worker_connections_total", "kind" => kind).increment(1);
        let mut builder = Builder::new(TokioExecutor::new()).http1_only();
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.idle);
        let Limits {
            idle, handshake, ..
        } = self.limits;
        let io = TokioIo::new(Idle::new(stream, idle, shutdown.stop_token(), handshake));
        let service = TowerToHyperService::new(self.router.clone());
        let mut connection = pin!(builder.serve_connection(io, service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = shutdown.wait() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(kind, error = %error, "a connection broke");
        }
    }
}

/// A connection that may speak HTTP.
enum Opened {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// The next connection, once there is room for it.
async fn next(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await;
    let permit = permit.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, permit))
}

/// Strangers knock at every open port: nobody has to know.
fn refused(error: &io::Error) {
    metrics::counter!("photofinish_worker_connections_total", "kind" => "refused").increment(1);
    tracing::debug!(%error, "a connection was refused");
}
