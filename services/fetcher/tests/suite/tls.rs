//! TLS in front of a worker's port, with a certificate of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use photofinish_contract::announcement::Address;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest as _, Sha256};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Takes TLS off and passes on.
#[derive(Debug)]
pub struct Tls {
    pub addr: SocketAddr,
    sha256: String,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    connections: AtomicUsize,
    handshakes: AtomicUsize,
}

impl Tls {
    pub async fn start(target: SocketAddr) -> anyhow::Result<Self> {
        let made = rcgen::generate_simple_self_signed(vec!["worker".to_owned()])?;
        let sha256 = hex::encode(Sha256::digest(made.cert.der()));
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], PrivateKeyDer::Pkcs8(key))?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let counts: Arc<Counts> = Arc::default();
        let counted = counts.clone();
        let accept = async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.connections.fetch_add(1, Ordering::SeqCst);
                spawn(pass_on(stream, acceptor.clone(), target, counted.clone()));
            }
        };
        spawn(accept);
        Ok(Self {
            addr,
            sha256,
            counts,
        })
    }

    /// What the worker announces of it, reached at `addr`.
    pub fn announced(&self, addr: SocketAddr) -> Address {
        Address {
            url: format!("https://{addr}"),
            tls_sha256: Some(self.sha256.clone()),
        }
    }

    /// Connections made to it.
    pub fn connections(&self) -> usize {
        self.counts.connections.load(Ordering::SeqCst)
    }

    /// Of them, those whose other side accepted the certificate: only they carry anything.
    pub fn handshakes(&self) -> usize {
        self.counts.handshakes.load(Ordering::SeqCst)
    }
}

async fn pass_on(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    target: SocketAddr,
    counts: Arc<Counts>,
) {
    let Ok(mut stream) = acceptor.accept(stream).await else {
        return;
    };
    counts.handshakes.fetch_add(1, Ordering::SeqCst);
    if let Ok(mut target) = TcpStream::connect(target).await {
        drop(tokio::io::copy_bidirectional(&mut stream, &mut target).await);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test has no runtime of ours around it"
)]
fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(task);
}
