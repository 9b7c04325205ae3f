//! The route to a worker over its exposed TCP port: TLS with a certificate that the worker made at
//! start and whose fingerprint it announced.
//!
//! Guarantee: nothing of a request, its token least of all, is sent before the other side has shown
//! the announced certificate and proved that it has its key; a connection goes to the given address
//! and nowhere else; TLS 1.3 only, no resumption, no redirect, no name is resolved.
//!
//! Not for: deciding whether an address may be called at all. The caller checks that before.

use crate::client::BuildError;
use crate::port::{self, Port, PortError};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use sha2::{Digest as _, Sha256};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Certificates whose clients, with their idle connections, are kept.
const CLIENTS_MAX: usize = 256;

/// SHA-256 of a certificate in DER.
pub type Fingerprint = [u8; 32];

/// A worker's exposed TCP port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectAddress {
    /// Where to connect: already checked.
    pub addr: SocketAddr,
    /// The only certificate that is accepted there.
    pub certificate: Fingerprint,
}

/// Leads to workers over their exposed ports; one client for each certificate.
#[derive(Debug)]
pub struct DirectPorts {
    /// The most recently used one is the last.
    clients: Mutex<VecDeque<(Fingerprint, reqwest::Client)>>,
    provider: Arc<CryptoProvider>,
    connect: Duration,
    stall: Duration,
}

impl DirectPorts {
    /// `connect` is the longest wait for TCP and TLS together, `stall` that for an answer's head
    /// and between two pieces of its body.
    pub fn new(connect: Duration, stall: Duration) -> Self {
        Self {
            clients: Mutex::default(),
            provider: Arc::new(rustls::crypto::ring::default_provider()),
            connect,
            stall,
        }
    }

    /// The port at an address.
    pub fn port(&self, address: &DirectAddress) -> Result<Port, PortError> {
        let http = self
            .client(&address.certificate)
            .map_err(PortError::Build)?;
        // A literal address: there is no name that could come to mean another one.
        let base = format!("https://{}", address.addr);
        Ok(Port::new(http, base, self.stall))
    }

    fn client(&self, certificate: &Fingerprint) -> Result<reqwest::Client, BuildError> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let at = clients.iter().position(|(known, _)| known == certificate);
        let entry = match at.and_then(|at| clients.remove(at)) {
            Some(entry) => entry,
            None => (*certificate, self.build(*certificate)?),
        };
        let client = entry.1.clone();
        clients.push_back(entry);
        if clients.len() > CLIENTS_MAX {
            clients.pop_front();
        }
        Ok(client)
    }

    fn build(&self, certificate: Fingerprint) -> Result<reqwest::Client, BuildError> {
        let verifier = PinnedCertificate {
            certificate,
            algorithms: self.provider.signature_verification_algorithms,
        };
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("ring knows TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        port::client(self.connect)
            .https_only(true)
            .http1_only()
            .tls_backend_preconfigured(config)
            .build()
            .map_err(BuildError::Http)
    }

    #[cfg(test)]
    fn kept(&self) -> usize {
        self.clients.lock().unwrap().len()
    }
}

/// Accepts one certificate. The pin stands in for the chain, the name and the dates; the signature
/// over the handshake is checked as ever: it alone shows that the other side has the key.
#[derive(Debug)]
struct PinnedCertificate {
    certificate: Fingerprint,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for PinnedCertificate {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let shown: Fingerprint = Sha256::digest(end_entity).into();
        if shown == self.certificate {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_shared_by_certificate_and_bounded() {
        crate::install_tls_provider();
        let second = Duration::from_secs(1);
        let direct = DirectPorts::new(second, second);
        let port = |number: u16| {
            let mut certificate = [0; 32];
            certificate[..2].copy_from_slice(&number.to_be_bytes());
            let addr = SocketAddr::from(([1, 1, 1, 1], 443));
            direct.port(&DirectAddress { addr, certificate }).unwrap()
        };
        assert_eq!(port(0).base(), "https://1.1.1.1:443");
        port(0);
        assert_eq!(direct.kept(), 1);
        for number in 0..=u16::try_from(CLIENTS_MAX).unwrap() {
            port(number);
            port(0); // in use: it stays
        }
        assert_eq!(direct.kept(), CLIENTS_MAX);
        let kept = direct.clients.lock().unwrap();
        assert!(kept.iter().any(|(known, _)| *known == [0; 32]));
    }
}
