//! A worker's port as TCP from outside: a port of ours that forwards bytes, whatever they are.
//!
//! RunPod gives every `…/tcp` port of an endpoint a public address; workers are told theirs by
//! `RUNPOD_PUBLIC_IP` and `RUNPOD_TCP_PORT_{port}`. Faults of the operation `tcp` are played here.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::endpoints::Endpoint;

/// Bytes moved at once.
const CHUNK: usize = 64 * 1024;

/// Opens a port of ours; `std` because it happens while a process is started.
pub(crate) fn listen() -> std::io::Result<(std::net::TcpListener, u16)> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}

/// The address that workers are told.
pub(crate) const PUBLIC_IP: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Forwards every connection to the worker's port until the worker is gone.
pub(crate) async fn forward(
    endpoint: Arc<Endpoint>,
    listener: std::net::TcpListener,
    port: u16,
    gone: CancellationToken,
) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "TCP port could not be opened"),
    };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = gone.cancelled() => return,
        };
        let Ok((outside, _)) = accepted else {
            continue;
        };
        let (endpoint, gone) = (Arc::clone(&endpoint), gone.clone());
        let tracker = endpoint.site.tracker.clone();
        tracker.spawn(async move {
            tokio::select! {
                () = connection(&endpoint, outside, port) => {}
                () = gone.cancelled() => {}
            }
        });
    }
}

async fn connection(endpoint: &Arc<Endpoint>, outside: TcpStream, port: u16) {
    endpoint.look(|state, _| state.count_call("tcp"));
    let mut left = None;
    if let Some(fault) = endpoint.site.faults.next("tcp", &endpoint.id) {
        tokio::time::sleep(Duration::from_millis(fault.delay_ms)).await;
        if fault.hang {
            return std::future::pending().await;
        }
        if fault.cut.is_some() || fault.status.is_some() {
            return;
        }
        left = fault.cut_after_bytes;
    }
    let Ok(inside) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else {
        return;
    };
    drop(outside.set_nodelay(true));
    drop(inside.set_nodelay(true));
    let (from_outside, to_outside) = outside.into_split();
    let (from_inside, to_inside) = inside.into_split();
    let up = copy(from_outside, to_inside, None);
    let down = copy(from_inside, to_outside, left);
    tokio::pin!(up, down);
    // The end of one direction does not end the other: half-closed connections are used.
    tokio::select! {
        end = &mut down => if end == End::Whole {
            up.await;
        },
        _ = &mut up => {
            down.await;
        }
    }
}

/// How a direction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    Cut,
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, left: Option<u64>) -> End {
    let mut left = left;
    let mut buffer = vec![0; CHUNK];
    while let Ok(read) = from.read(&mut buffer).await {
        if read == 0 {
            break;
        }
        let fits = |left: u64| usize::try_from(left).map_or(read, |left| read.min(left));
        let most = left.map_or(read, fits);
        if to.write_all(&buffer[..most]).await.is_err() || most < read {
            return End::Cut;
        }
        left = left.map(|left| left - most as u64);
    }
    drop(to.shutdown().await);
    End::Whole
}
