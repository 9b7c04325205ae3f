//! Serving HTTP: one router on one socket, ended with the process.
//!
//! Nouns: a *connection* is one client's socket; its [`Limits`] are what it may take of the process. With a [`Tls`] the
//! socket speaks TLS alone, and HTTP/2 to clients that ask for it; without, HTTP/1.1 in the clear.
//!
//! Guarantee: TCP_NODELAY on every accepted socket; at most so many connections, in all and of one address, one more is
//! told so and closed; one that sends no whole head in time, or takes nothing of its answer, is closed and disturbs no
//! other; what is no request is refused with a problem, as everything is. After a stop no connection is accepted,
//! requests under way are finished, idle connections closed. A handler that answers for long (a stream) must watch
//! [`Shutdown`] itself, else the deadline ends it.

mod addresses;
mod patient;
mod refusals;
mod told;

use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::util::MapRequest;

use crate::tls::{H2, Tls};
use crate::{Shutdown, Tasks};
use addresses::{Addresses, Place};
use patient::Patient;
use refusals::{FULL, FULL_FOR_ADDRESS};
use told::Told;

/// The pause after the system refused a connection: open files may have run out.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);
/// Headers of a request at most.
const HEADERS_MAX: usize = 100;
/// Bytes of a request's head at most.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Requests of one HTTP/2 connection at once.
const STREAMS_MAX: u32 = 200;
/// What a stranger may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once.
    pub connections_max: usize,
    /// Those of one address, of an IPv6 client's network. Behind a proxy all have the proxy's.
    pub connections_per_address_max: usize,
    /// For the TLS handshake, for the head of the first request, and between two requests; over HTTP/2 a client that
    /// answers pings may stay for longer.
    pub head: Duration,
    /// Without taking a byte of what is sent to it.
    pub write: Duration,
}

/// Serves `router` on `listener` until the process stops. `name` is the task's; the server is critical.
pub fn serve(
    tasks: &Tasks,
    name: &'static str,
    listener: TcpListener,
    router: Router,
    limits: Limits,
    tls: Option<Tls>,
) {
    let server = Arc::new(Server {
        name,
        router,
        limits,
        tls,
    });
    tasks.spawn_critical(name, server.accept(listener, tasks.clone()));
}

struct Server {
    name: &'static str,
    router: Router,
    limits: Limits,
    tls: Option<Tls>,
}

impl Server {
    async fn accept(self: Arc<Self>, listener: TcpListener, tasks: Tasks) {
        let room = Room {
            permits: Arc::new(Semaphore::new(self.limits.connections_max)),
            addresses: Addresses::new(self.limits.connections_per_address_max),
        };
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = tasks.shutdown().wait() => break,
            };
            let (stream, from) = match accepted {
                Ok((stream, from)) => (stream, from.ip()),
                Err(error) => {
                    tracing::warn!(server = self.name, %error, "accept a connection");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                    continue;
                }
            };
            match room.take(from) {
                Ok(seat) => {
                    let talk = Arc::clone(&self).talk(stream, seat, tasks.shutdown().clone());
                    drop(tasks.spawn("http connection", talk));
                }
                Err(why) => self.turn_away(&stream, why),
            }
        }
    }

    /// Says that there is no room, without waiting for the client to hear it.
    fn turn_away(&self, stream: &TcpStream, why: &[u8]) {
        metrics::counter!("photofinish_http_connections_refused_total", "server" => self.name)
            .increment(1);
        // Who waits for a handshake would not understand it.
        if self.tls.is_none()
            && let Err(error) = stream.try_write(why)
        {
            tracing::debug!(server = self.name, %error, "turn a connection away");
        }
    }

    async fn talk(self: Arc<Self>, stream: TcpStream, _seat: Seat, shutdown: Shutdown) {
        nodelay_on(&stream);
        let stream = Patient::new(stream, self.limits.write);
        let Some(tls) = &self.tls else {
            return self.answer(stream, false, shutdown).await;
        };
        let handshake = tokio::time::timeout(self.limits.head, tls.acceptor().accept(stream));
        let greeted = tokio::select! {
            greeted = handshake => greeted,
            () = shutdown.wait() => return,
        };
        let error = match greeted {
            Ok(Ok(stream)) => {
                let http2 = stream.get_ref().1.alpn_protocol() == Some(H2);
                return self.answer(stream, http2, shutdown).await;
            }
            Ok(Err(error)) => error,
            Err(_elapsed) => io::ErrorKind::TimedOut.into(),
        };
        metrics::counter!("photofinish_http_handshakes_failed_total", "server" => self.name)
            .increment(1);
        tracing::debug!(server = self.name, %error, "a TLS handshake failed");
    }

    async fn answer<S>(&self, stream: S, http2: bool, shutdown: Shutdown)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let builder = self.builder(http2);
        let begun = Arc::<AtomicBool>::default();
        let asked = begun.clone();
        let service = MapRequest::new(self.router.clone(), move |request: Request<_>| {
            asked.store(true, Ordering::Relaxed);
            request
        });
        let service = TowerToHyperService::new(service);
        let mut connection =
            pin!(builder.serve_connection(TokioIo::new(Told::new(stream)), service));
        // HTTP/1.1 has a limit of its own on heads; one who asked for HTTP/2 may never begin with it.
        let silent = async {
            tokio::time::sleep(self.limits.head).await;
            if begun.load(Ordering::Relaxed) || !http2 {
                std::future::pending::<()>().await;
            }
        };
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = silent => return,
            () = shutdown.wait() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(server = self.name, %error, "a connection broke");
        }
    }

    fn builder(&self, http2: bool) -> Builder<TokioExecutor> {
        let head = self.limits.head;
        let builder = Builder::new(TokioExecutor::new());
        if http2 {
            let mut builder = builder.http2_only();
            builder
                .http2()
                .timer(TokioTimer::new())
                .keep_alive_interval(head)
                .keep_alive_timeout(head)
                .max_concurrent_streams(STREAMS_MAX)
                .max_header_list_size(HEAD_BYTES_MAX as u32);
            return builder;
        }
        let mut builder = builder.http1_only();
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(head)
            .max_headers(HEADERS_MAX)
            .max_buf_size(HEAD_BYTES_MAX);
        builder
    }
}

/// Where connections find room.
#[derive(Debug)]
struct Room {
    permits: Arc<Semaphore>,
    addresses: Arc<Addresses>,
}

/// One connection's room; free again when it is dropped.
#[derive(Debug)]
struct Seat {
    _permit: OwnedSemaphorePermit,
    _place: Place,
}

impl Room {
    /// Room for a connection from there, or what to say.
    fn take(&self, from: IpAddr) -> Result<Seat, &'static [u8]> {
        let permit = Arc::clone(&self.permits).try_acquire_owned();
        let permit = permit.map_err(|_| FULL.as_slice())?;
        let place = self.addresses.take(from);
        Ok(Seat {
            _permit: permit,
            _place: place.ok_or(FULL_FOR_ADDRESS.as_slice())?,
        })
    }
}

fn nodelay_on(socket: &TcpStream) {
    let set: io::Result<()> = socket.set_nodelay(true);
    if let Err(error) = set {
        tracing::debug!(%error, "set TCP_NODELAY");
    }
}
