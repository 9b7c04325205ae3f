//! The output server's port from outside: in the clear and by TLS at once, and strangers at it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use bytes::Bytes;
use futures_util::StreamExt as _;
use photofinish_runpod::direct::{DirectAddress, DirectPorts};
use photofinish_runpod::port::{Method, Port, PortError};
use photofinish_runtime::Context;
use photofinish_worker::inbound::door::{Certificate, Door, Limits};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const SOON: Duration = Duration::from_secs(20);
/// Limits that a test can wait for.
const LIMITS: Limits = Limits {
    connections_max: 4,
    handshake: Duration::from_millis(300),
    idle: Duration::from_millis(600),
};
const PIECE: usize = 64 * 1024;
const PIECES: usize = 1024;

struct Open {
    addr: SocketAddr,
    certificate: [u8; 32],
    context: Context,
}

/// A door with a short answer, a long one, and one that never comes to an end.
async fn open(limits: Limits) -> Open {
    photofinish_runtime::install_crypto();
    let context = Context::detached("worker");
    let listener = context.ports.listen("http", "127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let piece = || Ok::<_, std::io::Error>(Bytes::from(vec![7; PIECE]));
    let long = move || async move {
        Body::from_stream(futures_util::stream::repeat_with(piece).take(PIECES))
    };
    let endless =
        move || async move { Body::from_stream(futures_util::stream::repeat_with(piece)) };
    let router = Router::new()
        .route("/hello", get(|| async { "hello" }))
        .route("/long", get(long))
        .route("/endless", get(endless));
    let made = Certificate::make().unwrap();
    let mut certificate = [0; 32];
    hex::decode_to_slice(made.sha256(), &mut certificate).unwrap();
    Door::new(router, Some(made), limits).serve(&context.tasks, listener);
    Open {
        addr,
        certificate,
        context,
    }
}

impl Open {
    fn port(&self) -> Port {
        let direct = DirectPorts::new(SOON, SOON);
        let (addr, certificate) = (self.addr, self.certificate);
        direct.port(&DirectAddress { addr, certificate }).unwrap()
    }

    async fn length(&self, path: &str) -> usize {
        let answer = self.port().get(path, "token", 0).await.unwrap();
        let pieces = answer.pieces().map(|piece| piece.unwrap().len());
        pieces.collect::<Vec<_>>().await.iter().sum()
    }

    async fn knock(&self, first: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        stream.write_all(first).await.unwrap();
        stream
    }
}

/// What is read until the other side closes.
async fn until_closed(mut stream: TcpStream) -> Vec<u8> {
    let mut read = Vec::new();
    let ended = tokio::time::timeout(SOON, stream.read_to_end(&mut read)).await;
    // A reset is an end, too.
    drop(ended.expect("the door closes the connection"));
    read
}

#[tokio::test]
async fn one_port_speaks_in_the_clear_and_by_tls_at_once() {
    let open = open(Limits::default()).await;
    let plain = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}", open.addr);
    let clear = async {
        let answer = plain.get(format!("{url}/long")).send().await.unwrap();
        answer.bytes().await.unwrap().len()
    };
    let (clear, tls, short) = tokio::join!(clear, open.length("/long"), open.length("/hello"));
    assert_eq!((clear, tls, short), (PIECE * PIECES, PIECE * PIECES, 5));
    // Each start has a certificate of its own: an old pin is worth nothing.
    let other = self::open(Limits::default()).await;
    assert_ne!(open.certificate, other.certificate);
    let (addr, certificate) = (open.addr, other.certificate);
    let direct = DirectPorts::new(SOON, SOON);
    let wrong = direct.port(&DirectAddress { addr, certificate }).unwrap();
    let call = wrong.call(Method::GET, "/hello", "token", None::<&()>);
    assert!(matches!(call.await, Err(PortError::Pin(_))));
}

#[tokio::test]
async fn garbage_and_silence_are_closed_in_time_and_harm_nobody() {
    let open = open(LIMITS).await;
    // As many as there may be: for whoever comes next there is room when they are closed.
    let begun = Instant::now();
    let hello_of_nobody = [b"\x16\x03\x01\x02\x00\x01".as_slice(), &[0xff; 600]].concat();
    let silent = TcpStream::connect(open.addr).await.unwrap();
    let half_hello = open.knock(&hello_of_nobody[..5]).await;
    let half_head = open.knock(b"GET /hello HTTP/1.1\r\nHo").await;
    let garbage = open.knock(&hello_of_nobody).await;
    assert_eq!(open.length("/hello").await, 5);
    for stream in [silent, half_hello, half_head, garbage] {
        let said = until_closed(stream).await;
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(!said.contains("hello"), "{said}");
    }
    assert!(begun.elapsed() < SOON / 2, "{:?}", begun.elapsed());
    let said = until_closed(open.knock(b"\x00\x01garbage\r\n\r\n").await).await;
    assert!(said.starts_with(b"HTTP/1.1 400"), "{said:?}");
    assert_eq!(open.length("/hello").await, 5);
}

#[tokio::test]
async fn more_connections_than_may_be_wait_until_one_is_closed() {
    let open = open(Limits {
        handshake: SOON,
        idle: SOON,
        ..LIMITS
    })
    .await;
    let mut held = Vec::new();
    for _ in 0..LIMITS.connections_max {
        held.push(TcpStream::connect(open.addr).await.unwrap());
    }
    let ask = b"GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let mut late = open.knock(ask).await;
    let early = late.read_u8();
    let early = tokio::time::timeout(Duration::from_millis(300), early).await;
    assert!(early.is_err(), "one more than may be was answered");
    drop(held.pop());
    let said = until_closed(late).await;
    assert!(said.ends_with(b"hello"), "{said:?}");
}

#[tokio::test]
async fn who_asks_and_does_not_read_is_closed() {
    let open = open(LIMITS).await;
    let ask = b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut greedy = Vec::new();
    for _ in 0..LIMITS.connections_max {
        greedy.push(open.knock(ask).await);
    }
    // There is no room but theirs, so an answer means that one of them was closed.
    assert_eq!(open.length("/hello").await, 5);
    drop(greedy);
}

#[tokio::test]
async fn a_slow_reader_that_reads_is_not_closed() {
    let open = open(LIMITS).await;
    let mut slow = open
        .knock(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        .await;
    let mut read = vec![0; 4 * 1024 * 1024];
    let begun = Instant::now();
    while begun.elapsed() < LIMITS.idle * 4 {
        slow.read_exact(&mut read).await.unwrap();
        tokio::time::sleep(LIMITS.idle / 6).await; // paced: the reader is slow
    }
}

#[tokio::test]
async fn a_stop_closes_the_door_and_finishes_what_is_under_way() {
    let open = open(Limits::default()).await;
    let answer = open.port().get("/long", "token", 0).await.unwrap();
    let idle = open.knock(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let silent = TcpStream::connect(open.addr).await.unwrap();
    let half_head = open.knock(b"GET /hello HTTP/1.1\r\nHo").await;
    // By now the door has seen them all.
    assert_eq!(open.length("/hello").await, 5);
    let tasks = open.context.tasks.clone();
    let drained = tokio::spawn(async move { tasks.drain(SOON).await });
    let pieces = answer.pieces().map(|piece| piece.unwrap().len());
    let length: usize = pieces.collect::<Vec<_>>().await.iter().sum();
    assert_eq!(length, PIECE * PIECES);
    until_closed(idle).await;
    until_closed(silent).await;
    until_closed(half_head).await;
    assert_eq!(drained.await.unwrap(), 0, "nothing is left over");
    assert!(TcpStream::connect(open.addr).await.is_err());
}
