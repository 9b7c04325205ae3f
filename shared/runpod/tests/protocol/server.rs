//! A server on a raw socket that does with each request exactly what its script says.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// Longest wait for anything.
pub const SOON: Duration = Duration::from_secs(20);

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    pub at: Instant,
    /// Which connection, counted from 0.
    pub connection: usize,
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Requests that were open when it came, itself included, by the first path segment.
    pub open: usize,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The first path segment: `job-take`, `ping`, …
    pub fn operation(&self) -> &str {
        let path = self.target.trim_start_matches('/');
        path.split(['/', '?']).next().unwrap()
    }
}

/// What becomes of a request.
#[derive(Debug, Clone)]
pub enum Then {
    /// An answer; the connection stays open.
    Answer {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: Vec<u8>,
    },
    /// The same, later.
    After(Duration, Box<Then>),
    /// The same, when it is told to.
    Upon(Arc<Notify>, Box<Then>),
    /// The connection is closed instead.
    Cut,
    /// Nothing, for ever.
    Hang,
    /// A head that promises 100 bytes, ten of them, then the end.
    CutBody(u16),
    /// The same, then nothing, for ever.
    HangBody(u16),
    /// 200 and a body that never ends.
    Endless,
}

impl Then {
    pub fn status(status: u16) -> Self {
        Self::text(status, "text/plain", "")
    }

    pub fn json(status: u16, body: &Value) -> Self {
        Self::text(status, "application/json", &body.to_string())
    }

    pub fn text(status: u16, content_type: &str, body: &str) -> Self {
        Self::Answer {
            status,
            headers: vec![("content-type", content_type.to_owned())],
            body: body.as_bytes().to_vec(),
        }
    }

    /// One more header for an answer; all else has none.
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        if let Self::Answer { headers, .. } = &mut self {
            headers.push((name, value.to_owned()));
        }
        self
    }

    pub fn after(self, wait: Duration) -> Self {
        Self::After(wait, Box::new(self))
    }

    /// RunPod's edge when what is behind it is away.
    pub fn edge_page() -> Self {
        let page = "<html><head><title>502 Bad Gateway</title></head></html>";
        Self::text(502, "text/html", page)
    }
}

type Script = dyn Fn(&Seen) -> Then + Send + Sync;

struct State {
    script: Box<Script>,
    seen: Mutex<Vec<Seen>>,
    open: Mutex<Vec<String>>,
    connections: AtomicUsize,
}

/// The server; it ends when it is dropped.
pub struct Server {
    pub url: String,
    state: Arc<State>,
    _side: JoinSet<()>,
}

impl Server {
    pub async fn start(script: impl Fn(&Seen) -> Then + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(State {
            script: Box::new(script),
            seen: Mutex::default(),
            open: Mutex::default(),
            connections: AtomicUsize::new(0),
        });
        let mut side = JoinSet::new();
        let shared = Arc::clone(&state);
        side.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                connections.spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self {
            url,
            state,
            _side: side,
        }
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    /// Those of an operation.
    pub fn of(&self, operation: &str) -> Vec<Seen> {
        let mut seen = self.seen();
        seen.retain(|seen| seen.operation() == operation);
        seen
    }

    /// Waits until `found` finds something.
    pub async fn until<T>(&self, what: &str, found: impl Fn(&[Seen]) -> Option<T>) -> T {
        let deadline = Instant::now() + SOON;
        loop {
            if let Some(found) = found(&self.seen()) {
                return found;
            }
            assert!(
                Instant::now() < deadline,
                "never saw {what}: {:#?}",
                self.seen()
            );
            tokio::time::sleep(Duration::from_millis(2)).await; // paced: between two looks
        }
    }

    /// Waits for so many requests of an operation.
    pub async fn count(&self, operation: &str, count: usize) -> Vec<Seen> {
        self.until(&format!("{count} {operation}"), |seen| {
            let of: Vec<Seen> = seen
                .iter()
                .filter(|seen| seen.operation() == operation)
                .cloned()
                .collect();
            (of.len() >= count).then_some(of)
        })
        .await
    }
}

async fn serve(mut stream: TcpStream, state: Arc<State>) {
    let connection = state.connections.fetch_add(1, Ordering::Relaxed);
    let mut buffer = Vec::new();
    while let Some(mut seen) = read_request(&mut stream, &mut buffer, connection).await {
        let operation = seen.operation().to_owned();
        let _open = {
            let mut open = state.open.lock().unwrap();
            open.push(operation.clone());
            seen.open = open.iter().filter(|name| **name == operation).count();
            Open(&state, operation)
        };
        let mut then = (state.script)(&seen);
        state.seen.lock().unwrap().push(seen);
        let mut gone = [0; 1];
        let next = match &then {
            Then::After(wait, next) => tokio::select! {
                () = tokio::time::sleep(*wait) => Some(next), // paced: as the script says
                _ = stream.peek(&mut gone) => return,
            },
            Then::Upon(told, next) => tokio::select! {
                () = told.notified() => Some(next),
                _ = stream.peek(&mut gone) => return,
            },
            Then::Answer { .. }
            | Then::Cut
            | Then::Hang
            | Then::CutBody(_)
            | Then::HangBody(_)
            | Then::Endless => None,
        };
        if let Some(next) = next {
            then = (**next).clone();
        }
        if !act(&mut stream, then).await {
            return;
        }
    }
}

/// A request that is being answered.
struct Open<'a>(&'a State, String);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let mut open = self.0.open.lock().unwrap();
        let at = open.iter().position(|name| *name == self.1).unwrap();
        open.swap_remove(at);
    }
}

/// True: the connection goes on.
async fn act(stream: &mut TcpStream, then: Then) -> bool {
    let part =
        |status: u16| format!("HTTP/1.1 {status} x\r\ncontent-length: 100\r\n\r\n{{\"id\":\"abc");
    let mut rest = [0; 1];
    match then {
        Then::Answer {
            status,
            headers,
            body,
        } => {
            let mut head = format!("HTTP/1.1 {status} x\r\n");
            for (name, value) in headers {
                head.extend([name, ": ", &value, "\r\n"]);
            }
            if status != 204 {
                head.extend(["content-length: ", &body.len().to_string(), "\r\n"]);
            }
            let answer = [head.as_bytes(), b"\r\n", &body].concat();
            stream.write_all(&answer).await.is_ok()
        }
        Then::After(..) | Then::Upon(..) => unreachable!("waited for before"),
        Then::Cut => false,
        Then::Hang => {
            let _gone = stream.read(&mut rest).await;
            false
        }
        Then::CutBody(status) => {
            stream.write_all(part(status).as_bytes()).await.unwrap();
            false
        }
        Then::HangBody(status) => {
            stream.write_all(part(status).as_bytes()).await.unwrap();
            let _gone = stream.read(&mut rest).await;
            false
        }
        Then::Endless => {
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            let chunk = ["100000\r\n", &"1".repeat(0x10_0000), "\r\n"].concat();
            let mut sent = stream.write_all(head.as_bytes()).await;
            while sent.is_ok() {
                sent = stream.write_all(chunk.as_bytes()).await;
            }
            false
        }
    }
}

async fn read_request(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
    connection: usize,
) -> Option<Seen> {
    let head_end = loop {
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let at = Instant::now();
    let head = String::from_utf8(buffer[..head_end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let mut first = lines.next().unwrap().split(' ');
    let (method, target) = (first.next().unwrap(), first.next().unwrap());
    let headers: Vec<(String, String)> = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.map_or(0, |(_, value)| value.parse().unwrap());
    while buffer.len() < head_end + 4 + length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    let body = buffer[head_end + 4..head_end + 4 + length].to_vec();
    buffer.drain(..head_end + 4 + length);
    Some(Seen {
        at,
        connection,
        method: method.to_owned(),
        target: target.to_owned(),
        headers,
        body,
        open: 0,
    })
}
