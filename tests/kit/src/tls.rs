//! TLS for servers in tests: an authority of one's own, and TLS in front of a server that has none.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Who signs, and a certificate for each side; all as PEM files in one directory.
#[derive(Debug)]
pub struct Authority {
    dir: tempfile::TempDir,
}

impl Authority {
    /// An authority, a certificate of localhost and 127.0.0.1, and one for a client.
    pub fn make() -> anyhow::Result<Self> {
        let authority = Self {
            dir: tempfile::tempdir().context("make a directory for certificates")?,
        };
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name = named("authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let ca = params.self_signed(&key)?;
        std::fs::write(authority.ca(), ca.pem())?;
        let issuer = Issuer::new(params, key);
        authority.issue("server", &issuer, ExtendedKeyUsagePurpose::ServerAuth)?;
        authority.issue("client", &issuer, ExtendedKeyUsagePurpose::ClientAuth)?;
        Ok(authority)
    }

    fn issue(
        &self,
        name: &str,
        issuer: &Issuer<'_, KeyPair>,
        usage: ExtendedKeyUsagePurpose,
    ) -> anyhow::Result<()> {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = named(name);
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, issuer)?;
        std::fs::write(self.file(&format!("{name}.crt")), cert.pem())?;
        std::fs::write(self.file(&format!("{name}.key")), key.serialize_pem())?;
        Ok(())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The authority's certificate.
    pub fn ca(&self) -> PathBuf {
        self.file("ca.crt")
    }

    /// Certificate and key of the server.
    pub fn server(&self) -> (PathBuf, PathBuf) {
        (self.file("server.crt"), self.file("server.key"))
    }

    /// Certificate and key of a client.
    pub fn client(&self) -> (PathBuf, PathBuf) {
        (self.file("client.crt"), self.file("client.key"))
    }
}

/// A subject of its own for each: OpenSSL takes one who has its issuer's name for the issuer.
fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, format!("photofinish test {name}"));
    distinguished
}

/// Takes TLS off and passes on; ended on drop.
#[derive(Debug)]
pub struct TlsFront {
    addr: SocketAddr,
    _end: DropGuard,
}

impl TlsFront {
    /// In front of a server, with the authority's certificate of it.
    pub async fn start(target: SocketAddr, authority: &Authority) -> anyhow::Result<Self> {
        let (cert, key) = authority.server();
        let chain = CertificateDer::pem_file_iter(&cert)?.collect::<Result<Vec<_>, _>>()?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::from_pem_file(&key)?)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let end = CancellationToken::new();
        let ended = end.clone();
        tokio::spawn(async move {
            while let Some(Ok((stream, _))) = ended.run_until_cancelled(listener.accept()).await {
                let acceptor = acceptor.clone();
                tokio::spawn(ended.clone().run_until_cancelled_owned(async move {
                    let mut near = acceptor.accept(stream).await?;
                    let mut far = TcpStream::connect(target).await?;
                    far.set_nodelay(true)?;
                    tokio::io::copy_bidirectional(&mut near, &mut far).await
                }));
            }
        });
        Ok(Self {
            addr,
            _end: end.drop_guard(),
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}
