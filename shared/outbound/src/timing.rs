//! Where the time of a call goes: asking for the address, connecting, agreeing on encryption.
//!
//! The client does not tell it, so its three places are asked where they are ours: the resolver, a layer around its
//! connector, and the store of TLS sessions, which a handshake asks before it sends anything.
//!
//! Guarantee: what is told was measured in this very call; on a connection that was open already, or that another
//! call opened, nothing is. Not for deciding anything: it is shown to people.

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, NamedGroup, crypto::CryptoProvider};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tower::{Layer, Service};

use crate::error::BuildError;

/// Servers whose TLS sessions are remembered.
const SESSIONS_MAX: usize = 256;

tokio::task_local! {
    static MARKS: Arc<Mutex<Marks>>;
}

/// How long the parts of opening a connection took; nothing for what did not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Opening {
    /// Asking for the address.
    pub dns: Option<Duration>,
    /// Connecting by TCP.
    pub connect: Option<Duration>,
    /// Agreeing on encryption.
    pub tls: Option<Duration>,
}

#[derive(Debug, Default)]
struct Marks {
    begun: Option<Instant>,
    asked: Option<Instant>,
    resolved: Option<Instant>,
    securing: Option<Instant>,
    open: Option<Instant>,
}

impl Marks {
    fn opening(&self) -> Opening {
        let between =
            |from: Option<Instant>, to: Option<Instant>| Some(to?.saturating_duration_since(from?));
        if self.open.is_none() {
            // Never opened, or not by this call; how far it came is worth knowing all the same.
            return Opening {
                dns: between(self.asked, self.resolved),
                connect: between(self.resolved.or(self.begun), self.securing),
                tls: None,
            };
        }
        Opening {
            dns: between(self.asked, self.resolved),
            connect: between(self.resolved.or(self.begun), self.securing.or(self.open)),
            tls: between(self.securing, self.open),
        }
    }
}

fn mark(place: impl FnOnce(&mut Marks, Instant)) {
    let now = Instant::now();
    // No call of ours in this task: nobody asked.
    let _ = MARKS.try_with(|marks| {
        place(
            &mut marks.lock().unwrap_or_else(PoisonError::into_inner),
            now,
        );
    });
}

/// The name is being resolved.
pub(crate) fn asked() {
    mark(|marks, now| marks.asked = Some(now));
}

/// It was.
pub(crate) fn resolved() {
    mark(|marks, now| marks.resolved = Some(now));
}

/// Runs a call, and tells how the connection was opened that it needed.
pub(crate) async fn timed<T>(call: impl Future<Output = T>) -> (T, Opening) {
    let marks = Arc::<Mutex<Marks>>::default();
    let answer = MARKS.scope(marks.clone(), call).await;
    let opening = marks
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .opening();
    (answer, opening)
}

/// Around the connector: when it begins, and when the connection is open.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimedConnections;

/// A connector under that layer.
#[derive(Debug, Clone)]
pub(crate) struct Timed<S>(S);

impl<S> Layer<S> for TimedConnections {
    type Service = Timed<S>;

    fn layer(&self, inner: S) -> Timed<S> {
        Timed(inner)
    }
}

impl<S, R> Service<R> for Timed<S>
where
    S: Service<R>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, target: R) -> Self::Future {
        mark(|marks, now| marks.begun = Some(now));
        let connecting = self.0.call(target);
        Box::pin(async move {
            let connected = connecting.await?;
            mark(|marks, now| marks.open = Some(now));
            Ok(connected)
        })
    }
}

/// TLS as the client would set it up itself, with the platform's authorities, and with our store of sessions.
pub(crate) fn tls() -> Result<ClientConfig, BuildError> {
    let provider = CryptoProvider::get_default()
        .cloned()
        .unwrap_or_else(|| Arc::new(rustls::crypto::ring::default_provider()));
    let verifier = rustls_platform_verifier::Verifier::new(provider.clone())?;
    tls_with(provider, Arc::new(verifier))
}

fn tls_with(
    provider: Arc<CryptoProvider>,
    verifier: Arc<dyn ServerCertVerifier>,
) -> Result<ClientConfig, BuildError> {
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.resumption = rustls::client::Resumption::store(Arc::new(Sessions(
        ClientSessionMemoryCache::new(SESSIONS_MAX),
    )));
    Ok(config)
}

/// The sessions of earlier handshakes. The first thing that a handshake does is to ask it.
#[derive(Debug)]
struct Sessions(ClientSessionMemoryCache);

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, server: ServerName<'static>, group: NamedGroup) {
        self.0.set_kx_hint(server, group);
    }

    fn kx_hint(&self, server: &ServerName<'_>) -> Option<NamedGroup> {
        mark(|marks, now| {
            marks.securing.get_or_insert(now);
        });
        self.0.kx_hint(server)
    }

    fn set_tls12_session(&self, server: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.set_tls12_session(server, value);
    }

    fn tls12_session(&self, server: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(server)
    }

    fn remove_tls12_session(&self, server: &ServerName<'static>) {
        self.0.remove_tls12_session(server);
    }

    fn insert_tls13_ticket(&self, server: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(server, value);
    }

    fn take_tls13_ticket(&self, server: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(server)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// The certificate of a server on `localhost`, and a client that trusts it.
    fn certified() -> (rustls::ServerConfig, reqwest::Client) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = CertificateDer::from(made.cert.der().to_vec());
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let tls = tls_with(provider, verifier.build().unwrap()).unwrap();
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_backend_preconfigured(tls)
            .connector_layer(TimedConnections)
            .dns_resolver(crate::client::tests::open_resolver())
            .build()
            .unwrap();
        (config, client)
    }

    /// An HTTPS server on `localhost` whose handshakes take at least `pause`, and a client that trusts it.
    #[expect(clippy::disallowed_methods, reason = "a test has no runtime of ours")]
    async fn server(pause: Duration) -> (String, reqwest::Client) {
        let (config, client) = certified();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!(
            "https://localhost:{}/",
            listener.local_addr().unwrap().port()
        );
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::time::sleep(pause).await; // paced: so late is the handshake
                let mut secured = acceptor.accept(socket).await.unwrap();
                let mut request = [0; 4096];
                while secured.read(&mut request).await.is_ok_and(|read| read > 0) {
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                    secured.write_all(answer).await.unwrap();
                }
            }
        });
        (url, client)
    }

    #[tokio::test]
    async fn the_parts_of_opening_a_connection_are_told_apart_and_only_once() {
        let pause = Duration::from_millis(200);
        let (url, client) = server(pause).await;
        let (answer, opening) = timed(client.get(&url).send()).await;
        assert_eq!(answer.unwrap().status(), 200);
        let (connect, tls) = (opening.connect.unwrap(), opening.tls.unwrap());
        assert!(opening.dns.is_some());
        assert!(tls >= pause && connect < tls, "{opening:?}");
        let (answer, again) = timed(client.get(&url).send()).await;
        assert_eq!(answer.unwrap().status(), 200);
        assert_eq!(again, Opening::default(), "the connection was open");
    }

    /// What a server sees that offers HTTP/2: the protocol that was agreed on, and the first bytes.
    #[expect(clippy::disallowed_methods, reason = "a test has no runtime of ours")]
    #[tokio::test]
    async fn http_2_is_spoken_where_it_is_offered() {
        let (mut config, client) = certified();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = tokio::spawn(async move {
            let (socket, _) = listener.accept().await.unwrap();
            let mut secured = acceptor.accept(socket).await.unwrap();
            let agreed = secured.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
            let mut preface = [0; 14];
            secured.read_exact(&mut preface).await.unwrap();
            (agreed, preface)
        });
        let call = client.get(format!("https://localhost:{port}/")).send();
        let call = tokio::time::timeout(Duration::from_secs(10), call);
        let (_broken_off, seen) = tokio::join!(call, serving);
        let (agreed, preface) = seen.unwrap();
        assert_eq!(agreed.as_deref(), Some(&b"h2"[..]));
        assert_eq!(&preface, b"PRI * HTTP/2.0");
    }

    #[tokio::test]
    async fn a_connection_that_never_opens_tells_how_far_it_came() {
        let (url, client) = server(Duration::from_mins(5)).await;
        let call = tokio::time::timeout(Duration::from_millis(300), client.get(&url).send());
        let (answer, opening) = timed(call).await;
        assert!(answer.is_err());
        assert!(
            opening.dns.is_some() && opening.connect.is_some(),
            "{opening:?}"
        );
        assert_eq!(opening.tls, None);
    }
}
