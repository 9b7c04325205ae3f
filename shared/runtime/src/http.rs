//! Serving HTTP: one router on one socket, ended with the process.
//!
//! Guarantee: TCP_NODELAY on every accepted socket; after a stop no connection is accepted, requests under way
//! are finished, idle connections closed. A handler that answers for long (a stream) must watch
//! [`Shutdown`](crate::Shutdown) itself, else the deadline ends it.

use axum::Router;
use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;

use crate::Tasks;

/// Serves `router` on `listener` until the process stops. `name` is the task's; the server is critical.
pub fn serve(tasks: &Tasks, name: &'static str, listener: TcpListener, router: Router) {
    let shutdown = tasks.shutdown().clone();
    tasks.spawn_critical(name, async move {
        let listener = nodelay(listener);
        let served = axum::serve(listener, router)
            .with_graceful_shutdown(async move { shutdown.wait().await })
            .await;
        if let Err(error) = served {
            tracing::error!(server = name, %error, "the HTTP server ended");
        }
    });
}

pub(crate) fn nodelay(
    listener: TcpListener,
) -> impl axum::serve::Listener<Addr = std::net::SocketAddr> {
    listener.tap_io(|socket| {
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "set TCP_NODELAY");
        }
    })
}
