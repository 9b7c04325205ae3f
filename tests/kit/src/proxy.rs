//! A TCP proxy that delays, stalls, cuts and refuses.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What the proxy does to connections; a change counts for those that are open, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Every block of bytes, both ways, waits so long.
    Delay(Duration),
    /// Each connection is closed once so many bytes have come from the server, counted from its beginning; they all
    /// reach the client.
    CutAfter(u64),
    /// Bytes are taken and not passed on.
    Stall,
    /// New connections are closed at once.
    Refuse,
}

/// A proxy in front of one address, ended on drop.
#[derive(Debug)]
pub struct FaultProxy {
    addr: SocketAddr,
    fault: watch::Sender<Fault>,
    cut: watch::Sender<u64>,
    end: CancellationToken,
}

impl FaultProxy {
    /// Listens on a free loopback port and forwards to `target` (`host:port`).
    pub async fn start(target: impl Into<String>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .context("bind the fault proxy")?;
        let addr = listener.local_addr()?;
        let proxy = Self {
            addr,
            fault: watch::Sender::new(Fault::None),
            cut: watch::Sender::new(0),
            end: CancellationToken::new(),
        };
        let (fault, cut, end) = (
            proxy.fault.subscribe(),
            proxy.cut.subscribe(),
            proxy.end.clone(),
        );
        let accept = accept(listener, target.into(), fault, cut);
        tokio::spawn(async move { end.run_until_cancelled(accept).await });
        Ok(proxy)
    }

    /// Where to connect to.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Changes the fault from now on.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// Cuts all open connections once, by reset: bytes under way are lost.
    pub fn cut_all(&self) {
        self.cut.send_modify(|times| *times += 1);
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.end.cancel();
        self.cut_all();
    }
}

async fn accept(
    listener: TcpListener,
    target: String,
    fault: watch::Receiver<Fault>,
    cut: watch::Receiver<u64>,
) {
    while let Ok((client, _)) = listener.accept().await {
        if *fault.borrow() == Fault::Refuse {
            continue;
        }
        let (target, fault, mut cut) = (target.clone(), fault.clone(), cut.clone());
        cut.mark_unchanged();
        tokio::spawn(async move {
            if let Ok(server) = TcpStream::connect(&target).await {
                forward(client, server, fault, cut).await;
            }
        });
    }
}

async fn forward(
    mut client: TcpStream,
    mut server: TcpStream,
    fault: watch::Receiver<Fault>,
    mut cut: watch::Receiver<u64>,
) {
    let _nodelay = (client.set_nodelay(true), server.set_nodelay(true));
    let reset = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let up = pump(from_client, to_server, fault.clone(), Way::Up);
        let down = pump(from_server, to_client, fault, Way::Down);
        tokio::select! {
            _ended = async { tokio::try_join!(up, down) } => false,
            _cut = cut.changed() => true,
        }
    };
    if reset {
        // Zero linger makes the close a reset.
        let _linger = (client.set_zero_linger(), server.set_zero_linger());
    }
}

/// The connection is to be cut.
struct Cut;

impl From<std::io::Error> for Cut {
    fn from(_: std::io::Error) -> Self {
        Self
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

/// Copies one way until the end or a cut.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    fault: watch::Receiver<Fault>,
    way: Way,
) -> Result<(), Cut> {
    let mut block = vec![0; 16 * 1024];
    let mut passed = 0_u64;
    loop {
        let count = from.read(&mut block).await?;
        if count == 0 {
            // Half-closing passes the end on; the other way goes on.
            return Ok(to.shutdown().await?);
        }
        let now = *fault.borrow();
        let mut allowed = count;
        match now {
            Fault::Delay(by) => tokio::time::sleep(by).await, // paced: this is the fault
            Fault::Stall => continue,
            Fault::CutAfter(bytes) if way == Way::Down => {
                let left = bytes.saturating_sub(passed);
                allowed = usize::try_from(left).unwrap_or(usize::MAX).min(count);
            }
            Fault::None | Fault::Refuse | Fault::CutAfter(_) => {}
        }
        to.write_all(&block[..allowed]).await?;
        passed += allowed as u64;
        if allowed < count {
            return Err(Cut);
        }
    }
}
