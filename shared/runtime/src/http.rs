//! Serving HTTP: one router on one socket, ended with the process.
//!
//! Nouns: a *connection* is one client's socket; its [`Limits`] are what it may take of the process.
//!
//! Guarantee: TCP_NODELAY on every accepted socket; at most so many connections, one more is told so and closed; one
//! that sends no whole head in time, or takes nothing of its answer, is closed and disturbs no other. After a stop no
//! connection is accepted, requests under way are finished, idle connections closed. A handler that answers for long
//! (a stream) must watch [`Shutdown`] itself, else the deadline ends it.

mod patient;

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{Shutdown, Tasks};
use patient::Patient;

/// The pause after the system refused a connection: open files may have run out.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);
/// Headers of a request at most.
const HEADERS_MAX: usize = 100;
/// Bytes of a request's head at most.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// What one connection too many is told.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\n\
    retry-after: 5\r\nconnection: close\r\ncontent-length: 172\r\n\r\n\
    {\"type\":\"https://photofinish.dev/docs/problems.md#unavailable\",\"title\":\"Service Unavailable\",\
    \"status\":503,\"code\":\"unavailable\",\"detail\":\"too many connections; come again\"}\n";

/// What a stranger may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once.
    pub connections_max: usize,
    /// Between two requests, and for the head of one.
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
) {
    let server = Arc::new(Server {
        name,
        router,
        limits,
    });
    tasks.spawn_critical(name, server.accept(listener, tasks.clone()));
}

struct Server {
    name: &'static str,
    router: Router,
    limits: Limits,
}

impl Server {
    async fn accept(self: Arc<Self>, listener: TcpListener, tasks: Tasks) {
        let permits = Arc::new(Semaphore::new(self.limits.connections_max));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = tasks.shutdown().wait() => break,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(server = self.name, %error, "accept a connection");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                    continue;
                }
            };
            let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
                self.turn_away(&stream);
                continue;
            };
            let talk = Arc::clone(&self).talk(stream, permit, tasks.shutdown().clone());
            drop(tasks.spawn("http connection", talk));
        }
    }

    /// Says that there is no room, without waiting for the client to hear it.
    fn turn_away(&self, stream: &TcpStream) {
        metrics::counter!("photofinish_http_connections_refused_total", "server" => self.name)
            .increment(1);
        if let Err(error) = stream.try_write(FULL) {
            tracing::debug!(server = self.name, %error, "turn a connection away");
        }
    }

    async fn talk(
        self: Arc<Self>,
        stream: TcpStream,
        _permit: OwnedSemaphorePermit,
        shutdown: Shutdown,
    ) {
        nodelay_on(&stream);
        let mut builder = Builder::new(TokioExecutor::new()).http1_only();
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head)
            .max_headers(HEADERS_MAX)
            .max_buf_size(HEAD_BYTES_MAX);
        let io = TokioIo::new(Patient::new(stream, self.limits.write));
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
            tracing::debug!(server = self.name, %error, "a connection broke");
        }
    }
}

pub(crate) fn nodelay(
    listener: TcpListener,
) -> impl axum::serve::Listener<Addr = std::net::SocketAddr> {
    listener.tap_io(|socket| nodelay_on(socket))
}

fn nodelay_on(socket: &TcpStream) {
    let set: io::Result<()> = socket.set_nodelay(true);
    if let Err(error) = set {
        tracing::debug!(%error, "set TCP_NODELAY");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_too_many_is_told_is_whole() {
        let text = std::str::from_utf8(FULL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.ends_with(&format!("content-length: {}", body.len())),
            "{}",
            body.len()
        );
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["code"], "unavailable");
    }
}
