//! The pinned route against raw TLS servers, asserted on what reaches them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use photofinish_runpod::direct::{DirectAddress, DirectPorts};
use photofinish_runpod::port::{Method, Port, PortError};
use rcgen::{CertifiedKey, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::SingleCertAndKey;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

const TOKEN: &str = "the-output-token";
const CONNECT: Duration = Duration::from_secs(2);
const STALL: Duration = Duration::from_secs(5);

/// What a server does with a connection.
#[derive(Debug, Clone)]
enum Manner {
    /// TLS, and this answer to every request.
    Tls(&'static str),
    /// TLS with a signature by a key that is not the certificate's.
    StolenCertificate,
    /// TLS 1.2 only.
    OldTls,
    /// This answer in the clear, to whatever comes.
    Plain(&'static str),
    /// Nothing at all.
    Silent,
}

/// A server that keeps all that it could read: what came through TLS, or the raw bytes if there
/// was none.
#[derive(Debug)]
struct Server {
    addr: SocketAddr,
    certificate: [u8; 32],
    read: Arc<Mutex<Vec<u8>>>,
    connections: Arc<Mutex<usize>>,
    _task: JoinSet<()>,
}

fn certificate() -> CertifiedKey<KeyPair> {
    rcgen::generate_simple_self_signed(vec!["worker".to_owned()]).unwrap()
}

fn fingerprint(made: &CertifiedKey<KeyPair>) -> [u8; 32] {
    Sha256::digest(made.cert.der()).into()
}

/// A TLS server's settings; with `key` instead of the certificate's own.
fn acceptor(made: &CertifiedKey<KeyPair>, key: &KeyPair, old: bool) -> TlsAcceptor {
    let version = if old {
        &rustls::version::TLS12
    } else {
        &rustls::version::TLS13
    };
    let provider = rustls::crypto::ring::default_provider();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let key = provider.key_provider.load_private_key(key).unwrap();
    // Unlike `with_single_cert`, this does not ask whether the key is the certificate's.
    let certified = rustls::sign::CertifiedKey::new(vec![made.cert.der().clone()], key);
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    TlsAcceptor::from(Arc::new(config))
}

impl Server {
    async fn start(manner: Manner) -> Self {
        let made = certificate();
        let certificate = fingerprint(&made);
        let stranger = KeyPair::generate().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let read: Arc<Mutex<Vec<u8>>> = Arc::default();
        let connections: Arc<Mutex<usize>> = Arc::default();
        let (kept, count) = (read.clone(), connections.clone());
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                *count.lock().unwrap() += 1;
                let (kept, answer) = (kept.clone(), manner.clone());
                let acceptor = match &manner {
                    Manner::Tls(_) => Some(acceptor(&made, &made.signing_key, false)),
                    Manner::OldTls => Some(acceptor(&made, &made.signing_key, true)),
                    Manner::StolenCertificate => Some(acceptor(&made, &stranger, false)),
                    Manner::Plain(_) | Manner::Silent => None,
                };
                open.spawn(async move { talk(stream, acceptor, answer, kept).await });
            }
        });
        Self {
            addr,
            certificate,
            read,
            connections,
            _task: task,
        }
    }

    fn port(&self, direct: &DirectPorts) -> Port {
        self.port_with(direct, self.certificate)
    }

    fn port_with(&self, direct: &DirectPorts, certificate: [u8; 32]) -> Port {
        let addr = self.addr;
        direct.port(&DirectAddress { addr, certificate }).unwrap()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.read.lock().unwrap()).into_owned()
    }
}

async fn talk(
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    manner: Manner,
    read: Arc<Mutex<Vec<u8>>>,
) {
    match (acceptor, manner) {
        (Some(acceptor), Manner::Tls(answer)) => {
            if let Ok(stream) = acceptor.accept(stream).await {
                answer_all(stream, answer, &read).await;
            }
        }
        (Some(acceptor), _) => {
            if let Ok(stream) = acceptor.accept(stream).await {
                answer_all(stream, "HTTP/1.1 204 No Content\r\n\r\n", &read).await;
            }
        }
        (None, Manner::Plain(answer)) => answer_all(stream, answer, &read).await,
        (None, _) => std::future::pending().await,
    }
}

async fn answer_all<S>(mut stream: S, answer: &str, read: &Mutex<Vec<u8>>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut piece = [0; 4096];
    while let Ok(count) = stream.read(&mut piece).await {
        if count == 0 {
            return;
        }
        read.lock().unwrap().extend_from_slice(&piece[..count]);
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn direct() -> DirectPorts {
    drop(rustls::crypto::ring::default_provider().install_default());
    DirectPorts::new(CONNECT, STALL)
}

async fn refused(server: &Server, port: &Port) -> PortError {
    let call = port.call(Method::GET, "/attempts/1", TOKEN, None::<&()>);
    let error = call.await.unwrap_err();
    assert!(
        !server.text().contains(TOKEN),
        "the token was sent: {error:?}"
    );
    error
}

#[tokio::test]
async fn the_announced_certificate_is_accepted_and_the_connection_is_kept() {
    let server = Server::start(Manner::Tls(
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    ))
    .await;
    let direct = direct();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for _ in 0..3 {
        let port = server.port(&direct).traced(Some(trace.to_owned()));
        let answer = port.get("/attempts/1/outputs/a", TOKEN, 0).await.unwrap();
        let pieces: Vec<_> = answer.pieces().map(Result::unwrap).collect().await;
        assert_eq!(pieces.concat(), b"hello");
    }
    let text = server.text();
    let sent = format!("authorization: Bearer {TOKEN}\r\n");
    assert_eq!(text.matches(&sent).count(), 3, "{text}");
    assert_eq!(text.matches(trace).count(), 3, "{text}");
    assert!(
        text.starts_with("GET /attempts/1/outputs/a HTTP/1.1\r\n"),
        "{text}"
    );
    assert_eq!(*server.connections.lock().unwrap(), 1);
}

#[tokio::test]
async fn another_certificate_is_refused_and_the_token_is_never_sent() {
    let server = Server::start(Manner::Tls("HTTP/1.1 204 No Content\r\n\r\n")).await;
    let direct = direct();
    let port = server.port_with(&direct, fingerprint(&certificate()));
    let error = refused(&server, &port).await;
    assert!(matches!(error, PortError::Pin(_)), "{error:?}");
    assert_eq!(*server.connections.lock().unwrap(), 1, "it was tried");
    assert_eq!(server.text(), "", "nothing at all was sent");
    // A connection that was good for one pin is not taken for another.
    let good = server.port(&direct);
    good.call(Method::GET, "/", "x", None::<&()>).await.unwrap();
    let error = refused(&server, &port).await;
    assert!(matches!(error, PortError::Pin(_)), "{error:?}");
}

#[tokio::test]
async fn the_certificate_without_its_key_is_refused() {
    let server = Server::start(Manner::StolenCertificate).await;
    let port = server.port(&direct());
    let error = refused(&server, &port).await;
    assert!(matches!(error, PortError::Pin(_)), "{error:?}");
    assert_eq!(server.text(), "");
}

#[tokio::test]
async fn no_tls_and_old_tls_get_no_token() {
    for manner in [
        Manner::Plain("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        Manner::OldTls,
    ] {
        let server = Server::start(manner.clone()).await;
        let port = server.port(&direct());
        let error = refused(&server, &port).await;
        assert!(
            matches!(error, PortError::Transport(_)),
            "{manner:?} {error:?}"
        );
    }
}

#[tokio::test]
async fn who_is_silent_or_not_there_costs_a_short_time() {
    let server = Server::start(Manner::Silent).await;
    let begun = Instant::now();
    let error = refused(&server, &server.port(&direct())).await;
    assert!(matches!(error, PortError::Transport(_)), "{error:?}");
    assert!(
        begun.elapsed() < CONNECT + STALL / 2,
        "{:?}",
        begun.elapsed()
    );

    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = closed.local_addr().unwrap();
    drop(closed);
    let certificate = [0; 32];
    let port = direct().port(&DirectAddress { addr, certificate }).unwrap();
    let begun = Instant::now();
    let call = port.call(Method::GET, "/", TOKEN, None::<&()>);
    assert!(matches!(call.await, Err(PortError::Transport(_))));
    assert!(begun.elapsed() < CONNECT);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Server::start(Manner::Plain("HTTP/1.1 200 OK\r\n\r\n")).await;
    let target = format!(
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://{}/\r\nContent-Length: 0\r\n\r\n",
        elsewhere.addr
    );
    let server = Server::start(Manner::Tls(target.leak())).await;
    let port = server.port(&direct());
    let error = port.get("/", TOKEN, 0).await.unwrap_err();
    assert!(matches!(error, PortError::Status(307)), "{error:?}");
    assert_eq!(*elsewhere.connections.lock().unwrap(), 0);
}
