//! A generator straight at the receiver: as many requests of a webhook's size as its connections carry.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const CONNECTIONS: usize = 32;
const BODY_BYTES: usize = 1024;

/// Requests a second for as long as this.
pub(crate) async fn rate(addr: SocketAddr, during: Duration) -> anyhow::Result<f64> {
    let body = "x".repeat(BODY_BYTES);
    let request = format!(
        "POST /well/0 HTTP/1.1\r\nhost: {addr}\r\ncontent-type: application/json\r\ncontent-length: {BODY_BYTES}\r\n\r\n{body}"
    );
    let request: std::sync::Arc<[u8]> = request.into_bytes().into();
    let end = Instant::now() + during;
    let lines: Vec<_> = (0..CONNECTIONS)
        .map(|_| tokio::spawn(line(addr, request.clone(), end)))
        .collect();
    let mut done = 0;
    for line in lines {
        done += line.await??;
    }
    Ok(f64::from(done) / during.as_secs_f64())
}

async fn line(
    addr: SocketAddr,
    request: std::sync::Arc<[u8]>,
    end: Instant,
) -> anyhow::Result<u32> {
    let mut socket = TcpStream::connect(addr).await?;
    socket.set_nodelay(true)?;
    let (mut done, mut room) = (0, [0; 1024]);
    while Instant::now() < end {
        socket.write_all(&request).await?;
        let mut got = 0;
        while !room[..got].ends_with(b"\r\n\r\n") {
            let more = socket.read(&mut room[got..]).await?;
            anyhow::ensure!(more > 0, "the receiver hung up");
            got += more;
        }
        done += 1;
    }
    Ok(done)
}
