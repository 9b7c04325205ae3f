//! An end for orphans: a worker whose parent is gone and whose RunPod cannot be reached.
//!
//! Guarantee: neither alone ends the worker. In a container the worker has no parent to lose.

use std::os::unix::process::parent_id;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

const LOOK_EVERY: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// Unreachable for this long.
const GONE_AFTER: Duration = Duration::from_secs(60);

/// Returns when the process that started this one is gone and `host:port` (where pings go) has
/// not been reachable for a minute.
pub(crate) async fn abandoned(host: &str, port: u16) {
    let parent = parent_id();
    let mut reachable_at = Instant::now();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if parent_id() == parent {
            reachable_at = Instant::now();
            continue;
        }
        let connect = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect((host, port)));
        if matches!(connect.await, Ok(Ok(_))) {
            reachable_at = Instant::now();
        } else if reachable_at.elapsed() >= GONE_AFTER {
            return;
        }
    }
}
